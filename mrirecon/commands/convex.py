"""`mrirecon convex-fit`: the command line of training by convex programs."""

from __future__ import annotations

import json
import time
from math import log10
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mrirecon import checkpoint
from mrirecon.atomic import replacing
from mrirecon.commands.lightning import Cli
from mrirecon.convex.certificate import Certificate
from mrirecon.data.module import FastMRIData
from mrirecon.errors import InputError
from mrirecon.figures import curve
from mrirecon.training import convex
from mrirecon.training.module import Reconstruction

SECONDS = 60  # between two savings inside a stage

HELP = """\
usage: mrirecon convex-fit -c CARD [-c CARD ...] [--run FOLDER] [--resume] [--KEY VALUE ...]

Train a network of convex dual denoisers stage by stage, each stage a convex program that is solved to a certificate.
Cards are put together as for `mrirecon fit`; the model's denoisers are mrirecon.denoisers.ConvexDual.

A certificate says: these filters are globally optimal, to the relative duality gap that is printed, for this stage's
gated program with these gates, given the images that the stage gets. It says nothing of other gates, of the ReLU
network, or of the stages jointly. The loss is mrirecon.losses.L2 or PartsL1, convex in the complex image.

  -c, --config CARD   path of a YAML card, or the name of a shipped one (`mrirecon cards` lists them)
  --run FOLDER        where config.yaml, checkpoints/last.ckpt, certificates.json and stages.png go
  --resume            go on with the stage, and the filters, at which it was stopped
  --resume auto       the same if there is a run to go on from, else begin it
  --KEY VALUE         any setting of the cards, for example --convex.tolerance 1e-4 --data.path /data/knee
  --print_config      print the composed settings and stop
  --help_all          every setting with its meaning

Examples:
  mrirecon convex-fit -c datasets/phantom -c models/convex_one_shot -c train/convex --run runs/one_shot
  mrirecon convex-fit -c datasets/phantom -c models/pgd_convex -c train/convex --model.loss mrirecon.losses.PartsL1
  mrirecon convex-fit -c datasets/knee_multicoil -c models/pgd_convex -c train/convex --data.path /data/knee
"""


class ConvexCli(Cli):
    """run: the folder of the run. state: the checkpoint to go on from, if any."""

    def __init__(self, *args: Any, run: Path, state: Path | None, **kwargs: Any) -> None:
        self.run_folder, self.state = run, state
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_class_arguments(convex.Convex, "convex")

    def fit(self, model: Reconstruction, datamodule: FastMRIData, **_: Any) -> None:
        """Instead of the trainer's."""
        settings = self.config_init["fit"]["convex"]
        settings = settings if isinstance(settings, convex.Convex) else convex.Convex(**settings.as_dict())
        convex.refuse(model, settings)
        progress = convex.Progress()
        if self.state is not None:
            progress = resumed(model, self.state)
        datamodule.prepare_data()
        folder = self.run_folder / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        parser = self._parser("fit")
        with replacing(self.run_folder / "config.yaml") as path:
            parser.save(self.config["fit"], str(path), skip_none=False, multifile=False)
        saved = time.monotonic()

        def save() -> None:
            nonlocal saved
            state = {
                "state_dict": model.state_dict(),
                "mrirecon": model.record,
                "pytorch-lightning_version": pl.__version__,
                "convex": vars(progress),
            }
            with replacing(folder / checkpoint.LAST) as path:
                torch.save(state, path)
            saved = time.monotonic()

        device = self.trainer.strategy.root_device
        model.to(device)
        with Bar(len(model.net.steps), settings.tolerance) as bar:

            def report(stage: int, value: float | None, certificate: Certificate) -> None:
                bar.show(stage, value, certificate)
                if time.monotonic() - saved > SECONDS:
                    save()

            def finished() -> None:
                bar.done(progress.stages)
                save()

            convex.StageByStage(model, datamodule, settings, progress, device, report, finished).run()
        with replacing(self.run_folder / "certificates.json") as path:
            path.write_text(json.dumps(progress.stages, indent=1) + "\n")
        psnr = [progress.stages[0]["psnr_in"], *(stage["psnr"] for stage in progress.stages)]
        curve(self.run_folder / "stages.png", {"validation": psnr}, "stages", "PSNR (dB)")
        print(f"network: {folder / checkpoint.LAST}\ncertificates: {self.run_folder / 'certificates.json'}")


def resumed(model: Reconstruction, path: Path) -> convex.Progress:
    """The progress of an earlier run, and its weights in the model; InputError for another kind of checkpoint."""
    state = checkpoint.read(path).get("convex")
    names = set(vars(convex.Progress()))
    if not isinstance(state, dict) or set(state) != names:
        raise InputError(
            f"{path} is not of `mrirecon convex-fit`; go on with `mrirecon fit --resume`, or name another run"
        )
    checkpoint.load_weights(model.net, path)
    return convex.Progress(**state)


class Bar:
    """A bar of the gap of the stage in work, on a logarithmic scale, and a line for every stage that is done."""

    def __init__(self, n_stages: int, tolerance: float) -> None:
        self.n_stages, self.tolerance, self.printed = n_stages, tolerance, 0
        self.progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.task = self.progress.add_task("reading the data", total=1.0)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, stage: int, value: float | None, certificate: Certificate) -> None:
        at = "" if value is None else f" at {value:g}"
        text = (
            f"stage {stage + 1} of {self.n_stages}{at}: gap {certificate.gap:.1e}, {certificate.active} groups active"
        )
        part = log10(max(certificate.gap, self.tolerance)) / log10(self.tolerance)
        self.progress.update(self.task, description=text, completed=min(max(part, 0.0), 1.0))

    def done(self, stages: list[dict[str, Any]]) -> None:
        for number, stage in enumerate(stages[self.printed :], start=self.printed):
            certificate = Certificate(**{key: stage[key] for key in Certificate.__dataclass_fields__})
            at = "" if stage["value"] is None else f" at {stage['value']:g}"
            self.progress.console.print(
                f"stage {number + 1} of {self.n_stages}{at}: {certificate}; validation PSNR {stage['psnr']:.2f} dB, "
                f"SSIM {stage['ssim']:.3f}",
                soft_wrap=True,
                highlight=False,
            )
        self.printed = len(stages)
