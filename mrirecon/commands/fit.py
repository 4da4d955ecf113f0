"""Train a network, and use it on the files of a data card: `fit`, `validate`, `test`, `predict`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mrirecon import checkpoint
from mrirecon.cards import locate
from mrirecon.commands.files import reconstruct_files
from mrirecon.data.fastmri import list_volumes
from mrirecon.data.maps import MapCache
from mrirecon.data.module import FastMRIData
from mrirecon.errors import InputError
from mrirecon.reconstruct import network
from mrirecon.training.module import Reconstruction
from mrirecon.training.panels import ImagePanels

FIT_HELP = """\
usage: mrirecon fit -c CARD [-c CARD ...] [--run FOLDER] [--resume] [--KEY VALUE ...]

Train a network. Three kinds of cards are put together; a later one, and then the command line, wins:

  datasets/...   the files, the sampling, the calibration           sets data.*
  models/...     the network                                        sets model.net
  train/...      where gradients stop, optimiser, length            sets model.*, trainer.*

  -c, --config CARD   path of a YAML card, or the name of a shipped one (`mrirecon cards` lists them)
  --run FOLDER        where config.yaml, checkpoints/ and the TensorBoard log go (default: runs/ and the cards' names)
  --resume            go on from FOLDER/checkpoints/last.ckpt as if training had never stopped
  --KEY VALUE         any setting of the cards, for example --data.path /data/knee --trainer.max_epochs 50
  --print_config      print the composed settings and stop
  --help_all          every setting with its meaning

Example:
  mrirecon fit -c datasets/knee_multicoil -c models/pgd_resnet -c train/greedy --data.path /data/knee --run runs/knee
"""

USE_HELP = """\
usage: mrirecon {name} --run FOLDER [-c CARD ...] [--KEY VALUE ...]

{what} The settings are those of the run; cards and the command line override them.

  --run FOLDER        a run folder of `mrirecon fit`
  --ckpt_path FILE    another checkpoint than FOLDER/checkpoints/best.ckpt
  -c, --config CARD   path of a YAML card, or the name of a shipped one
  --KEY VALUE         any setting of the cards, for example --data.path /data/knee{more}
  --help_all          every setting with its meaning
"""

USES = {
    "validate": ("Score a trained network on the validation files, by volume.", ""),
    "test": ("Score a trained network on the test files, by volume.", ""),
    "predict": (
        "Reconstruct the prediction files of a data card, as `mrirecon reconstruct` does for any files.",
        "\n  --output FOLDER     where the h5 files go (default: FOLDER/reconstructions of the run)",
    ),
}


class Cli(LightningCLI):
    """Lightning's command line for our model and data.

    output: where `predict` writes its files.
    """

    def __init__(self, *args: Any, output: Path | None = None, **kwargs: Any) -> None:
        self.output = output
        self.exit_code = 0
        super().__init__(*args, **kwargs)

    def _parse_ckpt_path(self) -> None:
        # Lightning lets the hyperparameters in a checkpoint override the cards. Ours are in `config.yaml`, in the open.
        pass

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")

    def after_instantiate_classes(self) -> None:
        # The full k-space is read only for a loss that is compared with the complex image.
        self.datamodule.keep_full = self.model.loss.target == "sense"
        name = str(self.subcommand)
        settings = yaml.safe_load(self._parser(name).dump(self.config[name], skip_none=False))
        self.model.record = checkpoint.record(settings["model"]["net"], settings["data"]["calibration"])

    def predict(self, datamodule: FastMRIData, ckpt_path: str, **_: Any) -> None:
        """Instead of the trainer's: files are written as `mrirecon reconstruct` writes them, slice by slice."""
        trained, device = checkpoint.load(Path(ckpt_path)), self.trainer.strategy.root_device
        paths = list_volumes(datamodule.folder("predict"))
        cache = MapCache(datamodule.maps.folder, trained.calibration)
        assert self.output is not None
        self.exit_code = reconstruct_files(
            paths, self.output, network(trained, device), datamodule.test_sampling, cache, device
        )


def main(name: str, argv: Sequence[str]) -> int:
    """Run `mrirecon fit`, `validate`, `test` or `predict`."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("-c", "--config", action="append", default=[])
    own.add_argument("-h", "--help", action="store_true")
    own.add_argument("--help_all", action="store_true")
    own.add_argument("--run", type=Path)
    own.add_argument("--resume", action="store_true")
    own.add_argument("--output", type=Path)
    own.add_argument("--ckpt_path", type=Path)
    options, settings = own.parse_known_args(list(argv))
    if options.help or not argv:
        what, more = USES.get(name, ("", ""))
        print(FIT_HELP if name == "fit" else USE_HELP.format(name=name, what=what, more=more))
        return 0
    configs = [str(locate(card)) for card in options.config]
    defaults: dict[str, Any] = {"use_distributed_sampler": False, "callbacks": []}
    if options.help_all:
        settings = ["--help"]
    elif name == "fit":
        run, last = options.run or default_run(configs), None
        if not configs and options.resume:
            configs = [saved_config(run)]
        last = resume_from(run, options.resume)
        chosen = options.ckpt_path or last
        settings += ["--ckpt_path", str(checkpoint.locate(chosen)), "--weights_only", "true"] if chosen else []
        defaults["logger"] = {
            "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
            "init_args": {"save_dir": str(run), "name": "", "version": ""},
        }
        defaults["callbacks"] = [*checkpoints(run), ImagePanels()]
    else:
        if options.run is None and options.ckpt_path is None:
            raise InputError("name a run folder with --run, or cards with -c and a checkpoint with --ckpt_path")
        if options.run is not None:
            configs = [saved_config(options.run), *configs]
        chosen = checkpoint.locate(options.ckpt_path or options.run)
        settings += ["--ckpt_path", str(chosen), "--weights_only", "true"]
        defaults["logger"] = False
        if name == "predict":
            options.output = options.output or (options.run or chosen.parent) / "reconstructions"
    return start(name, configs, settings, defaults, options.output)


def start(
    name: str, configs: list[str], settings: list[str], defaults: dict[str, Any], output: Path | None = None
) -> int:
    quieten()
    arguments = [name, *(word for config in configs for word in ("--config", config)), *settings]
    sys.argv = ["mrirecon"]  # Lightning warns if arguments are passed beside those of the process
    try:
        cli = Cli(
            Reconstruction,
            FastMRIData,
            args=arguments,
            trainer_defaults=defaults,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={key: {"usage": f"mrirecon {key} [options]"} for key in ("fit", *USES)},
            output=output,
        )
    except MisconfigurationException as error:
        raise InputError(str(error)) from None
    return cli.exit_code


class Latest(ModelCheckpoint):
    """A class of its own, so that cards may add a ModelCheckpoint of any settings: Lightning wants them to differ."""


def checkpoints(run: Path) -> list[ModelCheckpoint]:
    """The best epoch by volume SSIM, and the latest state, every epoch and every ten minutes, to resume from."""
    folder = run / "checkpoints"
    latest: dict[str, Any] = {"dirpath": folder, "filename": "last", "enable_version_counter": False}
    best = {**latest, "filename": "best", "monitor": "val_ssim", "mode": "max"}
    return [
        ModelCheckpoint(**best),
        Latest(**latest, every_n_epochs=1, save_on_train_epoch_end=True),
        Latest(**latest, train_time_interval=timedelta(minutes=10)),
    ]


def default_run(configs: list[str]) -> Path:
    return Path("runs") / ("-".join(Path(config).stem for config in configs) or "run")


def resume_from(run: Path, resume: bool) -> Path | None:
    """The checkpoint to go on from, if that is wanted; a folder with an earlier run is not written over."""
    last = run / "checkpoints" / checkpoint.LAST
    if resume and last.is_file():
        return last
    if not resume and (run / "checkpoints").is_dir() and any((run / "checkpoints").glob("*.ckpt")):
        raise InputError(f"{run} already holds a training run; add --resume to go on, or name another with --run")
    return None


def saved_config(run: Path) -> str:
    """The settings of a run, as YAML text, without those that only `fit` knows."""
    config = run / "config.yaml"
    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        return yaml.safe_dump({key: settings[key] for key in ("seed_everything", "trainer", "model", "data")})
    except FileNotFoundError:
        raise InputError(f"{run} has no config.yaml; expected a run folder of `mrirecon fit`") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{config} cannot be used ({error}); expected what `mrirecon fit` wrote") from None


def quieten() -> None:
    """Keep what a user can act on: Lightning's advertisements and advice about worker counts are not."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's own calls
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*[Uu]sing ModelCheckpoint with manual optimization.*")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda r: "Tip:" not in r.getMessage())
