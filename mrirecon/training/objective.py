"""What is minimised for a batch: the loss of an image as a function of that image alone, of all its rows or of some."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from mrirecon.data.slices import Slice
from mrirecon.imaging import magnitude, sense_target
from mrirecon.losses import Loss
from mrirecon.physics import Problem, strip

Objective = Callable[[Tensor], Tensor]


def objective(loss: Loss, batch: Slice, scale: Tensor) -> Objective:
    """The loss of a scaled image (batch, map, H, W) of this batch; ``scale`` as :func:`mrirecon.imaging.pose` gives."""
    peak = batch.peak / scale.flatten()
    if loss.target == "sense":
        reference = sense_target(batch) / scale
        return lambda x: loss(x, reference, peak)
    target = batch.target / scale[:, 0]
    return lambda x: loss(magnitude(x, batch.crop), target, peak)


def on_strip(
    rows: int, seed: tuple[int, ...], loss: Loss, batch: Slice, scale: Tensor, problem: Problem
) -> tuple[Problem, Objective]:
    """The problem of a strip of neighbouring rows, its place drawn from ``seed``, and the loss of its image.

    For a loss whose target is ``sense``.
    """
    height = problem.AHy.shape[-2]
    rows = min(rows, height)
    start = int(np.random.default_rng(seed).integers(height - rows + 1))
    reference = (sense_target(batch) / scale)[..., start : start + rows, :]
    return strip(problem, start, rows), lambda x: loss(x, reference, batch.peak / scale.flatten())
