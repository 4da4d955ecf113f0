"""The picture that tells how many unrolled steps pay: PSNR of validation volumes after every stage."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from mrirecon.figures import curve
from mrirecon.training.scoring import Scoring


class StageCurve(pl.Callback):
    """Draws ``stages.png`` anew after every validation: this one, and the first one of this process for comparison.

    Args:
        folder: where the picture goes, the folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stages.png"
        self._first: tuple[str, list[float]] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Scoring)
        if trainer.sanity_checking or not trainer.is_global_zero or len(pl_module.stages) < 2:
            return
        decibels = list(pl_module.stage_psnr.values())
        name = f"epoch {trainer.current_epoch}"
        self._first = self._first or (name, decibels)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        curve(
            self.path,
            dict([self._first, (name, decibels)]),
            "stages applied (0: zero-filled)",
            "PSNR of validation in dB",
        )
