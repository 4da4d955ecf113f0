"""Lightning's command line, as our four commands use it."""

from __future__ import annotations

import logging
import os
import traceback
import warnings
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from mrirecon import checkpoint
from mrirecon.commands.files import reconstruct_files
from mrirecon.data.maps import MapCache
from mrirecon.data.module import FastMRIData
from mrirecon.errors import InputError
from mrirecon.reconstruct import Reconstructor, network
from mrirecon.training.launcher import Launcher
from mrirecon.training.strategy import StageParallel


class Cli(LightningCLI):
    """Lightning's command line for our model and data.

    words: of the command line, with which other processes are started.
    start: the checkpoint that is read, if any; its weights must fit before anything is written.
    output, overwrite: for `predict`, where the files go, and whether they may replace others.
    """

    def __init__(
        self,
        *args: Any,
        words: list[str],
        start: Path | None = None,
        output: Path | None = None,
        overwrite: bool = False,
        **kwargs: Any,
    ) -> None:
        self.words, self.start, self.output, self.overwrite = words, start, output, overwrite
        self.exit_code = 0
        super().__init__(*args, **kwargs)

    def _parse_ckpt_path(self) -> None:
        # Lightning lets the hyperparameters in a checkpoint override the cards. Ours are in `config.yaml`, in the open.
        pass

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except InputError:
            raise
        except (ValueError, TypeError) as error:  # a device that is not there, a precision that does not exist
            raise InputError(f"these settings cannot be used: {error}") from None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")

    def after_instantiate_classes(self) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, StageParallel):
            strategy.check(self.trainer, self.model)
            assert isinstance(strategy.launcher, Launcher)
            strategy.launcher.words = self.words
        elif self.trainer.world_size > 1:
            raise InputError(
                f"{self.trainer.world_size} devices with the strategy {type(strategy).__name__}, which does not know "
                "stages; add -c train/greedy_pipeline, or --trainer.strategy.class_path "
                "mrirecon.training.strategy.StageParallel (and --trainer.strategy.init_args.replicas "
                f"{self.trainer.world_size} for training in parallel over the data alone)"
            )
        every = self.trainer.check_val_every_n_epoch
        if every is not None and every < 1:
            raise InputError(f"trainer.check_val_every_n_epoch is {every}; expected at least 1")
        if self.trainer.precision.endswith("-true") and self.trainer.precision != "32-true":
            raise InputError(
                f"trainer.precision is {self.trainer.precision}; expected 32 or bf16-mixed, as images stay complex64"
            )
        if getattr(self.trainer, "overfit_batches", 0):
            raise InputError("trainer.overfit_batches would replace the sampler; use --data.volume_sample_rate instead")
        if str(self.subcommand) == "fit":  # before anything is written
            for stage in ("train", "val") if self.trainer.limit_val_batches else ("train",):
                self.datamodule.paths(stage)
        if self.start is not None:
            checkpoint.load_weights(self.model.net, self.start)
            if str(self.subcommand) == "fit":
                checkpoint.check_resumable(self.start)
        # The full k-space is read only for a loss that is compared with the complex image.
        self.datamodule.keep_full = self.model.loss.target == "sense"
        name = str(self.subcommand)
        settings = yaml.safe_load(self._parser(name).dump(self.config[name], skip_none=False))
        self.model.record = checkpoint.record(settings["model"]["net"], settings["data"]["calibration"])

    def predict(self, datamodule: FastMRIData, ckpt_path: str, **_: Any) -> None:
        """Instead of the trainer's: files are written as `mrirecon reconstruct` writes them, slice by slice."""
        trained, device = checkpoint.load(Path(ckpt_path)), self.trainer.strategy.root_device
        datamodule.prepare_data()
        paths = datamodule.paths("predict")
        cache = MapCache(datamodule.maps.folder, trained.calibration)
        assert self.output is not None
        reconstructor = Reconstructor(network(trained, device), datamodule.test_sampling, cache, device)
        self.exit_code = reconstruct_files(paths, self.output, reconstructor, self.overwrite)


def raised_by_lightning(error: BaseException) -> bool:
    """Whether Lightning itself objected, which it does to settings, and not the code that it ran."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return str(frames[-1][0].f_globals.get("__name__", "")).startswith("pytorch_lightning")


def quieten() -> None:
    """Keep what a user can act on: Lightning's advertisements and advice about worker counts are not."""
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # Lightning's own calls
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided.*")
    # Where validation is off, there is no best epoch.
    warnings.filterwarnings("ignore", message=".*monitor='val_ssim'.* could not find the monitored key.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*[Uu]sing ModelCheckpoint with manual optimization.*")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    own = logging.getLogger("mrirecon")
    own.setLevel(logging.INFO)
    own.handlers = [logging.StreamHandler()]
    # Scores are merged by ourselves, and losses belong to the process that trains their stage.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    connector = "pytorch_lightning.trainer.connectors.checkpoint_connector"
    logging.getLogger(connector).addFilter(lambda r: "`weights_only` was not set" not in r.getMessage())
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda r: "Tip:" not in r.getMessage())
