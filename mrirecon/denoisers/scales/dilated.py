"""Kernels with holes: the taps of a small kernel, moved apart to every scale, and a blur that fills the holes.

At scale s = ratio^i, a whole number, the taps of the finest kernel stand s pixels apart. An image enlarged by s has the
features of the image, enlarged, exactly, and at the cost of the small kernel (as DISCO has it for such ratios: Sosnovik
et al., BMVC 2021, arXiv:2110.10733). But such a kernel mistakes waves shorter than 2 s pixels for long ones, and so
features change much at scales between those of the axis. Along every axis a filter g_i weakens these waves, of 2 s
pixels to 0.7 and of s pixels to a fifth, of the other sign:

    g = argmin_g  sum_i sum_w P(w) |g_i+1(w / ratio) - g_i(w)|^2  +  rho sum_i sum_{|w| > pi / s_i} P(w) |g_i(w)|^2

with g_1 = 1 and a sum of 1, P(w) = 1 / |w|: the problem of :mod:`mrirecon.denoisers.scales.zoomed` for a single tap,
with a larger rho. The filter is the same for all channels, so that it comes after the convolution, where there are few.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mrirecon.denoisers.scales.basis import Basis, check_axis
from mrirecon.denoisers.scales.zoomed import zooms
from mrirecon.errors import InputError

_DAMPING = 0.08  # rho
_FARTHEST = 64  # pixels between the taps of the coarsest kernel


class Dilated(Basis):
    """A small kernel whose taps are moved apart, with a blur between them.

    Args:
        n_scales: number of scales.
        ratio: between neighbouring scales, a whole number.
        kernel_size: odd number of taps along an axis.
    """

    def __init__(self, n_scales: int = 4, ratio: int = 2, kernel_size: int = 3) -> None:
        check_axis(n_scales, ratio)
        if ratio != int(ratio):
            raise InputError(f"ratio is {ratio}; taps stay on pixels for a whole number only, such as 2: see Zoomed")
        if kernel_size % 2 == 0 or not 1 <= kernel_size <= 31:
            raise InputError(f"kernel_size is {kernel_size}; it must be odd, so that pixels stay in place, and 1 to 31")
        if ratio ** (n_scales - 1) > _FARTHEST:
            raise InputError(
                f"{n_scales} scales of ratio {ratio} put taps {ratio ** (n_scales - 1)} pixels apart; expected at most "
                f"{_FARTHEST}: use fewer scales"
            )
        self.n_scales, self.ratio, self.kernel_size = n_scales, int(ratio), kernel_size
        self.check(lambda: "use fewer scales")

    def _compared(self) -> tuple[Tensor, ...]:
        return tuple(torch.outer(blur, blur)[None] for blur in self.blurs)  # moved, a tap differs by a phase

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(int(self.ratio) ** i for i in range(self.n_scales))

    @property
    def blurs(self) -> tuple[Tensor, ...]:
        sizes = tuple(2 * step + 1 if step > 1 else 1 for step in self.steps)
        return tuple(torch.from_numpy(g[:, 0]) for g in zooms(sizes, self.ratio, _DAMPING))

    def taps(self, ndim: int) -> tuple[Tensor, ...]:
        n = self.kernel_size**ndim
        return (torch.eye(n, dtype=torch.float64).reshape(n, *[self.kernel_size] * ndim),) * self.n_scales

    def functions(self, ndim: int) -> tuple[Tensor, ...]:
        found = []
        for step, blur in zip(self.steps, self.blurs, strict=True):
            along = np.zeros((self.kernel_size, (self.kernel_size - 1) * step + len(blur)))
            for tap in range(self.kernel_size):
                along[tap, tap * step : tap * step + len(blur)] = blur
            taps: np.ndarray = along
            for _ in range(ndim - 1):
                taps = np.kron(taps, along)
            found.append(torch.from_numpy(taps.reshape(-1, *[along.shape[1]] * ndim)))
        return tuple(found)
