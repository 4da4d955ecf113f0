"""What is minimised for a batch: the loss of an image as a function of that image alone, of all its rows or of some."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mrirecon.data.slices import Slice
from mrirecon.errors import InputError
from mrirecon.imaging import magnitude, pose, sense_target
from mrirecon.losses import Loss
from mrirecon.physics import Problem, strip


@dataclass(frozen=True)
class Objective:
    """The loss of a scaled image (batch, map, H, W) of one batch, in single precision also under autocast.

    reference: what the image is compared with, in its scale: complex (batch, map, H, W), or magnitude (batch, h, w).
    peak: (batch,), the maximum of each item's target volume, in the same scale; 0 where it is not known.
    compared: makes of an image what is compared, its magnitude for example.
    """

    loss: Loss
    reference: Tensor
    peak: Tensor
    compared: Callable[[Tensor], Tensor] = lambda x: x

    def __call__(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.loss(self.compared(x), self.reference, self.peak)

    def psnr(self, x: Tensor) -> Tensor:
        """Mean PSNR of the batch's items against the reference in dB; data range: the volume's maximum, if known."""
        error, reference = self.compared(x) - self.reference, self.reference.abs().flatten(1)
        peak = torch.where(self.peak > 0, self.peak, reference.amax(1))
        mse = error.abs().square().flatten(1).mean(1)
        return 10 * torch.log10(peak.square() / mse).mean()


def refuse_target(loss: Loss, target: str | None, rows: int | None) -> None:
    """Raises InputError for a target that the loss cannot be compared with, or that strips of rows do not have."""
    if target is not None and target != loss.target:
        raise InputError(
            f"model.target is {target!r}, but the loss {type(loss).__name__} needs {loss.target!r}: complex losses "
            "(L1, PartsL1, L2) compare with the complex image 'sense', magnitude losses (MagnitudeL1, SSIM) with the "
            "file's 'rss'"
        )
    if rows is not None and (rows < 1 or loss.target != "sense"):
        raise InputError(f"model.rows is {rows}; expected at least 1, and a loss with the target 'sense'")


def objective(loss: Loss, batch: Slice, scale: Tensor) -> Objective:
    """The objective of whole images; ``scale`` as :func:`mrirecon.imaging.pose` gives."""
    peak = batch.peak / scale.flatten()
    if loss.target == "sense":
        return Objective(loss, sense_target(batch) / scale, peak)
    return Objective(loss, batch.target / scale[:, 0], peak, lambda x: magnitude(x, batch.crop))


def posed(batch: Slice, loss: Loss, rows: int | None, seed: tuple[int, ...]) -> tuple[Problem, Objective]:
    """What is trained on: the scaled problem of a batch and its objective.

    rows: of a strip of neighbouring rows, its place drawn from ``seed``, for a loss whose target is ``sense``; None for
        whole images.
    """
    problem, scale = pose(batch)
    if rows is None:
        return problem, objective(loss, batch, scale)
    height = problem.AHy.shape[-2]
    rows = min(rows, height)
    start = int(np.random.default_rng(seed).integers(height - rows + 1))
    reference = (sense_target(batch) / scale)[..., start : start + rows, :]
    return strip(problem, start, rows), Objective(loss, reference, batch.peak / scale.flatten())
