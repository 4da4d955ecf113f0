"""From a batch of slices to a posed problem, and from a complex image to the magnitude that is scored."""

from __future__ import annotations

from torch import Tensor

from mrirecon.cropping import center_crop
from mrirecon.data.slices import Slice
from mrirecon.physics import Coils, Fourier, Problem, sense


def pose(batch: Slice) -> tuple[Problem, Tensor]:
    """The scaled problem of a batch and its scale (batch, 1, 1, 1); an image times the scale is in the file's units."""
    if batch.maps is None:
        raise ValueError("the batch has no maps; estimate them with MapCache.attach first")
    return Problem.pose(sense(batch.maps, batch.mask), batch.kspace).scaled()


def sense_target(batch: Slice) -> Tensor:
    """The complex image that full sampling gives, sum_c conj(S_c) F^-1 y_c: (batch, map, H, W), in the file's units."""
    if batch.full is None or batch.maps is None:
        raise ValueError("the batch has no full k-space; make the dataset with keep_full=True")
    return Coils(batch.maps).adjoint(Fourier(2).adjoint(batch.full))


def magnitude(image: Tensor, crop: tuple[int, int] | None = None) -> Tensor:
    """Magnitude over map sets, sqrt(sum_e |x_e|^2), centre-cropped: (batch, map, H, W) to (batch, h, w)."""
    x = image.abs().square().sum(1).sqrt() if image.shape[1] > 1 else image[:, 0].abs()
    return x if crop is None else center_crop(x, crop)
