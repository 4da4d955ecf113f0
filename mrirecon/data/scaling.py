"""Scale augmentation: a measured slice as it would be with the object, and its coils, larger or smaller in the image.

Only whole samples are cut off or added, in k-space and in the image, each of which scales without an interpolation:
for an object smaller by m / n, the outer n - m samples of k-space are cut off, and the image, now m pixels wide, gets a
border of zeros. Enlarged, the image is cut to m pixels and its k-space gets the border. Intensities stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.fourier import Fourier

_CAUSE = 4  # keeps these random numbers apart from those of masks, drawn from the same (seed, epoch, sample)
_F = Fourier(2)


def check_scales(scales: Sequence[float] | None) -> tuple[float, ...]:
    """The scales to draw from, none for None; InputError for an empty list and for impossible ones."""
    if scales is None:
        return ()
    if not scales or not all(0.25 <= scale <= 4 for scale in scales):
        raise InputError(
            f"data.scales is {list(scales)}; expected factors from 0.25 to 4, such as [0.7, 0.85, 1, 1.2, 1.4]"
        )
    return tuple(scales)


def drawn_scale(scales: Sequence[float], seed: int, epoch: int, sample: int) -> float:
    """One of the scales, all alike likely."""
    return scales[int(np.random.default_rng((_CAUSE, seed, epoch, sample)).integers(len(scales)))]


def scaled(kspace: Tensor, scale: float) -> Tensor:
    """K-space (coil, H, W) of the coil images enlarged by ``scale`` about their centre, on the same grid.

    The factor is rounded along each axis, so that m is a whole number. What leaves the field of view is cut off.
    """
    shape = tuple(kspace.shape[-2:])
    small = tuple(max(round(n * min(scale, 1 / scale)), 1) for n in shape)
    if small == shape:
        return kspace
    factor = float(np.sqrt(np.prod(small) / np.prod(shape)))  # unitary transforms of two sizes
    if scale < 1:
        return _F.forward(_resized(_F.adjoint(_resized(kspace, small)), shape)) * factor
    return _resized(_F.forward(_resized(_F.adjoint(kspace), small)), shape) / factor


def root_sum_of_squares(kspace: Tensor) -> Tensor:
    """Magnitude image (H, W) of the k-space (coil, H, W)."""
    return torch.linalg.vector_norm(_F.adjoint(kspace), dim=0)


def _resized(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The last two axes cut, or padded with zeros, about index n // 2, where zero frequency and zero position lie."""
    for axis, n in zip((-2, -1), shape, strict=True):
        before = n // 2 - x.shape[axis] // 2
        if n < x.shape[axis]:
            x = x.narrow(axis, -before, n)
        elif n > x.shape[axis]:
            sides = [before, n - before - x.shape[axis]]
            x = torch.nn.functional.pad(x, [*[0, 0] * (-axis - 1), *sides])
    return x
