"""The latest state of a run, to resume from; and how a run ends early on a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from mrirecon import checkpoint
from mrirecon.training.link import GO_ON, SAVE, STOP
from mrirecon.training.module import Reconstruction
from mrirecon.training.watch import PARENT


class Latest(Checkpoint):
    """Saves ``last.ckpt`` at the end of every epoch, every so many minutes, and before a run is stopped by a signal.

    Several processes save at the end of epochs that they validate, and of the last one: between other epochs the
    pipeline stays full.

    SIGTERM, and SIGUSR1 under SLURM, are only noted when they come. The first process passes them on with the images of
    the next batch, so that all processes save and stop after the same update, and none saves inside a signal handler
    while others wait for its image. After SIGUSR1 the job is put back into SLURM's queue.

    Args:
        folder: where last.ckpt goes.
        minutes: between two savings inside an epoch.
    """

    def __init__(self, folder: Path, minutes: float = 10) -> None:
        self.path = folder / checkpoint.LAST
        self.minutes = minutes
        self.signal: int | None = None  # what was noted
        self._saved = time.monotonic()
        self._word = self._due = GO_ON  # that came with the last batch; and that waits for the end of a validation
        self._before: Any = None  # the handler of SIGUSR1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the place of Lightning's handlers, which it registers after this: they broadcast, save and requeue."""
        if stage == "fit":
            trainer._signal_connector._sigterm_notifier_fn = self.note  # type: ignore[method-assign]
            environment = trainer._accelerator_connector.cluster_environment
            if isinstance(environment, SLURMEnvironment):
                environment.auto_requeue = False
            if "SLURM_JOB_ID" in os.environ:
                self._before = signal.signal(signal.SIGUSR1, self.note)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._before is not None:
            signal.signal(signal.SIGUSR1, self._before)

    def note(self, signum: int, _: Any) -> None:
        if self.signal != signal.SIGUSR1:  # SIGTERM may follow, but the job is to be queued again
            self.signal = signum
        if PARENT in os.environ:
            os.kill(int(os.environ[PARENT]), signum)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Reconstruction)
        if trainer.is_global_zero and pl_module.updates_after(batch_idx):
            late = time.monotonic() - self._saved > 60 * self.minutes
            word = STOP if self.signal is not None else SAVE if late else GO_ON
            pl_module.link.word = max(pl_module.link.word, word)  # there may be another one of this class

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Reconstruction)
        self._word = pl_module.link.word
        # After the last batch of an epoch, its end saves.
        if batch_idx + 1 < trainer.num_training_batches:
            if _validates(trainer):  # a run that goes on from before a validation would miss it
                self._due = self._word
            else:
                self.obey(trainer, self._word)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        word, self._due = self._due, GO_ON
        self.obey(trainer, word)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Reconstruction)
        meets = trainer.world_size == 1 or pl_module.validated == trainer.current_epoch or _ends(trainer)
        if not meets and self._word == GO_ON:
            return
        self.save(trainer)
        # All processes have met to save, so that a word more costs nothing.
        if trainer.strategy.broadcast(self.signal) is not None:
            self.stop(trainer)

    def obey(self, trainer: pl.Trainer, word: int) -> None:
        if word != GO_ON:
            self.save(trainer)
        if word == STOP:
            self.stop(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        if not getattr(trainer, "fast_dev_run", False):  # which Lightning sets in another place
            trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()

    def stop(self, trainer: pl.Trainer) -> None:
        trainer._signal_connector.received_sigterm = True  # Lightning raises SIGTERMException after this batch or epoch
        job = os.environ.get("SLURM_JOB_ID")
        if self.signal == signal.SIGUSR1 and job is not None and trainer.is_global_zero:
            done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
            if done.returncode:
                rank_zero_warn(f"job {job} is not queued again: {done.stderr.strip()}; submit it anew")
        trainer.strategy.barrier()  # srun ends all tasks when the first one leaves


def _validates(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the batch that ends."""
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def _ends(trainer: pl.Trainer) -> bool:
    """Whether training ends with the present epoch."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    return trainer.should_stop or trainer.current_epoch + 1 == epochs or 0 <= steps <= trainer.global_step
