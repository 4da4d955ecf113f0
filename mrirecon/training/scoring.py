"""What a trained network is worth: validation, test and prediction, the same for every regime."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor

from mrirecon.data.slices import Slice
from mrirecon.imaging import magnitude, pose
from mrirecon.losses import Loss
from mrirecon.training.average import Average
from mrirecon.training.link import Link
from mrirecon.training.objective import objective
from mrirecon.training.stages import penalty
from mrirecon.training.validation import Validation
from mrirecon.unrolled import Unrolled, run


class Scoring(pl.LightningModule):
    """Scores the volumes that this process reads, and merges the scores of all processes at the end of an epoch.

    Validation logs val_nmse, val_psnr, val_ssim, val_loss, and val_stage_loss/k and val_stage_psnr/k for every stage k;
    val_stage_psnr/in is the PSNR of A^H y.
    """

    net: Unrolled
    average: Average | None
    loss: Loss
    stages: list[slice]
    link: Link
    validation: Validation
    stage_loss: dict[int, float]  # of every stage, of a validation whose epoch of training is not over yet
    validated: int | None = None  # the last epoch that was
    stage_psnr: dict[str, float]  # of the last validation, in dB: of A^H y ("in") and of every stage

    @property
    def scored(self) -> Unrolled:
        """The network that is scored: the average of the weights, if there is one."""
        return self.net if self.average is None else self.average.net

    def forward(self, batch: Slice) -> Tensor:
        """The scored magnitude image of every slice, (batch, h, w), in the file's units."""
        problem, scale = pose(batch)
        return magnitude(self.scored(problem) * scale, batch.crop)

    def validation_step(self, batch: Slice, batch_idx: int) -> Tensor:
        problem, scale = pose(batch)
        minimised, x = objective(self.loss, batch, scale), problem.AHy
        images, losses = [magnitude(x * scale, batch.crop)], []
        for stage in self.stages:
            steps = self.scored.sequence[stage]
            x = run(steps, x, problem)
            images.append(magnitude(x * scale, batch.crop))
            losses.append(minimised(x) + penalty(steps, x))
        self.validation.update(batch, images[-1], images, losses)
        return images[-1]

    def on_validation_epoch_end(self) -> None:
        scores = self.finish("val")
        self.stage_psnr = {key: scores[f"stage_psnr/{key}"] for key in ("in", *map(str, range(len(self.stages))))}
        if not self.trainer.sanity_checking:
            self.validated = self.current_epoch
            self.stage_loss = {k: scores[f"stage_loss/{k}"] for k in range(len(self.stages))}

    def test_step(self, batch: Slice, batch_idx: int) -> Tensor:
        images: Tensor = self(batch)
        self.validation.update(batch, images)
        return images

    def on_test_epoch_end(self) -> None:
        self.finish("test")

    def predict_step(self, batch: Slice, batch_idx: int) -> Tensor:
        images: Tensor = self(batch)
        return images

    def finish(self, prefix: str) -> dict[str, float]:
        """Log the scores of the epoch that ends, the same ones in every process."""
        scores = self.validation.scores(self.link)
        self.validation = Validation()
        shown = {"psnr", "ssim"}
        for name, value in scores.items():
            self.log(f"{prefix}_{name}", torch.tensor(value, dtype=torch.float64), prog_bar=name in shown)
        return scores
