"""`mrirecon convex-fit`: the command line of training by convex programs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mrirecon import checkpoint
from mrirecon.commands.convex_bar import Bar
from mrirecon.commands.convex_resume import refuse_changes, refuse_damage, resumed, same_files
from mrirecon.commands.convex_run import RunFolder
from mrirecon.commands.convex_unused import refuse_unused
from mrirecon.commands.lightning import Cli
from mrirecon.convex.certificate import Certificate
from mrirecon.data.module import FastMRIData
from mrirecon.errors import InputError
from mrirecon.training import convex
from mrirecon.training.module import Reconstruction
from mrirecon.training.stage_by_stage import StageByStage

HELP = """\
usage: mrirecon convex-fit -c CARD [-c CARD ...] [--run FOLDER] [--resume] [--KEY VALUE ...]

Train a network of convex dual denoisers stage by stage, each stage a convex program that is solved to a certificate.
Cards are put together as for `mrirecon fit`; the model's denoisers are mrirecon.denoisers.ConvexDual.

A certificate says: these filters are globally optimal, to the relative duality gap that is printed, for this stage's
gated program with these gates, given the images that the stage gets. It says nothing of other gates, of the ReLU
network, or of the stages jointly. The loss is mrirecon.losses.L2 or PartsL1, convex in the complex image.

  -c, --config CARD   path of a YAML card, or the name of a shipped one (`mrirecon cards` lists them)
  --run FOLDER        where config.yaml, checkpoints/last.ckpt, certificates.json and stages.png go (default: runs/ and
                      the cards' names)
  --resume            go on with the stage, and the filters, at which it was stopped, to the same certificate
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

    def after_instantiate_classes(self) -> None:
        if self.trainer.world_size > 1:
            raise InputError(
                f"{self.trainer.world_size} devices, but stages are solved one after the other on one; use "
                "--trainer.devices 1"
            )
        super().after_instantiate_classes()

    def fit(self, model: Reconstruction, datamodule: FastMRIData, **_: Any) -> None:
        """Instead of the trainer's."""
        signal.signal(signal.SIGTERM, stopped)
        settings = self.config_init["fit"]["convex"]
        settings = settings if isinstance(settings, convex.Convex) else convex.Convex(**settings.as_dict())
        parser = self._parser("fit")
        config = parser.dump(self.config["fit"], skip_none=False)
        progress = convex.Progress()
        if self.state is not None:
            progress = resumed(self.state)
            refuse_changes(self.run_folder, config, progress)
            refuse_damage(self.state, model, progress)
            checkpoint.load_weights(model.net, self.state)
        refuse_unused(self.config["fit"], parser.get_defaults())
        convex.refuse(model, settings)
        datamodule.prepare_data()
        same_files(progress, datamodule)
        datamodule.val_dataloader()  # what it has to object to is said before the work
        folder = RunFolder(self.run_folder, model, progress, config)
        device = self.trainer.strategy.root_device
        model.to(device)
        with Bar(len(model.net.steps), settings.tolerance) as bar:

            def report(stage: int, value: float | None, certificate: Certificate) -> None:
                bar.show(stage, value, certificate)
                folder.save_now_and_then()

            def finished() -> None:
                bar.done(progress.stages)
                folder.save()
                folder.certify()

            try:
                StageByStage(model, datamodule, settings, progress, device, report, finished).run()
            except (SIGTERMException, KeyboardInterrupt):
                if folder.begun:
                    folder.save()
                raise
            finally:
                folder.close()
        folder.finish()
        print(f"network: {folder.last}\ncertificates: {self.run_folder / 'certificates.json'}")


def stopped(*_: Any) -> None:
    """What a job's end is to the command: as Lightning has it for `fit`."""
    raise SIGTERMException
