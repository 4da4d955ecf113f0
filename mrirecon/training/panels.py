"""Images in TensorBoard: target, reconstruction and error of the first validation slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from mrirecon.data.slices import Slice

ERROR_GAIN = 5  # the error is shown five times as bright as the images


class ImagePanels(pl.Callback):
    """After every validation, one panel a slice: target | reconstruction | 5 x error, all in the target's window.

    Args:
        n_images: how many slices are shown, one of each volume.
    """

    def __init__(self, n_images: int = 4) -> None:
        self.n_images = n_images
        self._seen: set[str] = set()

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen = set()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Slice,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        logger = trainer.logger
        if not isinstance(logger, TensorBoardLogger) or trainer.sanity_checking:
            return
        for image, target, name, index, n_slices in zip(
            outputs, batch.target, batch.volume, batch.index, batch.n_slices, strict=True
        ):
            # The middle slice shows more than the first, which often lies outside the body.
            if name in self._seen or len(self._seen) == self.n_images or index != n_slices // 2:
                continue
            self._seen.add(name)
            tag = f"validation/{Path(name).stem}_{int(index)}"
            logger.experiment.add_image(tag, panel(image, target), trainer.global_step, dataformats="HW")


def panel(image: Tensor, target: Tensor) -> Tensor:
    """Target, reconstruction and error side by side: (h, w) twice to (h, 3 w) in 0..1."""
    white = target.amax().clamp_min(torch.finfo(target.dtype).tiny)
    error = ERROR_GAIN * (image - target).abs()
    return (torch.cat([target, image, error], dim=-1) / white).clamp(0, 1).cpu()
