"""A basis found by minimising the error of equivariance: the taps of a small kernel, and what they are when zoomed.

At the finest scale there are as many functions as taps: any kernel of ``kernel_size`` pixels can be learned, as in an
ordinary convolution. At scale i, tap q becomes along every axis the column q of a matrix Z_i with Z_1 = I, and

    Z = argmin_Z  sum_iq sum_w P(w) |Z_i+1,q^(w / ratio) - Z_iq^(w)|^2
                + rho sum_iq sum_{|w| > pi / s_i} P(w) |Z_iq^(w)|^2

with columns of sum 1, so that constants stay what they are, s_i the scale, and P(w) = 1 / |w| the share of images at
frequency w along an axis. The first term is the error of equivariance of neighbouring scales. The second keeps coarse
kernels from amplifying waves on which nothing compares them with finer ones. It is one small linear system, where DISCO
(Sosnovik et al., BMVC 2021, arXiv:2110.10733) trains on images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mrirecon.denoisers.scales.basis import LOWEST, TOLERANCE, Basis, check_axis, frequencies, odd, waves
from mrirecon.errors import InputError

_DAMPING = 0.03  # rho
_LARGEST = 31


class Zoomed(Basis):
    """A small kernel, zoomed to every scale with the least error of equivariance.

    Args:
        n_scales: number of scales.
        ratio: between neighbouring scales.
        kernel_size: odd width of the kernel at the finest scale.
        kernel_sizes: odd widths at all scales, the finest first; the smallest that keep the error below 0.005 unless
            given.
    """

    def __init__(
        self,
        n_scales: int = 3,
        ratio: float = 1.7,
        kernel_size: int = 3,
        kernel_sizes: Sequence[int] | None = None,
    ) -> None:
        check_axis(n_scales, ratio)
        if kernel_size % 2 == 0 or not 1 <= kernel_size <= _LARGEST:
            raise InputError(
                f"kernel_size is {kernel_size}; it must be odd, so that pixels stay in place, and 1 to {_LARGEST}"
            )
        self.n_scales, self.ratio = n_scales, ratio
        enough = enough_pixels(kernel_size, n_scales, ratio)
        self._sizes: tuple[int, ...] = enough if kernel_sizes is None else tuple(kernel_sizes)
        if len(self._sizes) != n_scales or self._sizes[0] != kernel_size or not odd(self._sizes):
            raise InputError(
                f"kernel_sizes are {list(self._sizes)}; expected {n_scales} odd widths that begin with {kernel_size}, "
                f"such as {list(enough)}"
            )
        fits = Zoomed._unchecked(enough, ratio).error <= TOLERANCE
        self.check(
            lambda: f"kernel_sizes={list(enough)} would do" if fits else "use fewer scales, or a ratio nearer to 1"
        )

    @classmethod
    def _unchecked(cls, sizes: tuple[int, ...], ratio: float) -> Zoomed:
        found = object.__new__(cls)
        found.n_scales, found.ratio, found._sizes = len(sizes), ratio, sizes
        return found

    @property
    def kernel_sizes(self) -> tuple[int, ...]:
        return self._sizes

    def functions(self, ndim: int) -> tuple[Tensor, ...]:
        found = []
        for size, z in zip(self._sizes, zooms(self._sizes, self.ratio, _DAMPING), strict=True):
            taps = z
            for _ in range(ndim - 1):
                taps = np.kron(taps, z)  # (pixels of the kernel, taps)
            found.append(torch.from_numpy(taps.T.reshape(-1, *[size] * ndim).copy()))
        return tuple(found)


@cache
def zooms(sizes: tuple[int, ...], ratio: float, damping: float) -> tuple[np.ndarray, ...]:
    """Z_i of every scale: (sizes[i], sizes[0]); ``damping`` is rho."""
    w, fine = frequencies(), sizes[0]
    P = 1 / (np.abs(w) + LOWEST)
    place = np.cumsum([0, *sizes])
    H = np.zeros((place[-1], place[-1]))  # of all kernels in one vector, the finest first
    for i, size in enumerate(sizes):
        own = slice(place[i], place[i + 1])
        beyond = np.abs(w) > np.pi * ratio**-i
        H[own, own] += damping * product(waves(size, 1.0), P * beyond, waves(size, 1.0))
        if i:
            near = slice(place[i - 1], place[i])
            coarse, finer = waves(size, 1 / ratio), waves(sizes[i - 1], 1.0)
            H[own, own] += product(coarse, P, coarse)
            H[near, near] += product(finer, P, finer)
            H[near, own] -= product(finer, P, coarse)
            H[own, near] -= product(coarse, P, finer)
    n, free = len(sizes) - 1, place[-1] - fine
    system = np.zeros((free + n, free + n))  # with a multiplier for the sum of every column
    system[:free, :free] = H[fine:, fine:]
    for i, size in enumerate(sizes[1:]):
        own = slice(place[i + 1] - fine, place[i + 1] - fine + size)
        system[own, free + i] = system[free + i, own] = 1
    wanted = np.concatenate([-H[fine:, :fine], np.ones((n, fine))])
    found = np.concatenate([np.eye(fine), np.linalg.solve(system, wanted)[:free]])
    return tuple(np.split(found, place[1:-1]))


def product(a: np.ndarray, P: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a^H P b, whose imaginary part is zero."""
    return np.asarray((a.conj().T * P @ b).real)


@cache
def enough_pixels(kernel_size: int, n_scales: int, ratio: float) -> tuple[int, ...]:
    """Widths of the kernels at all scales, each the smallest that keeps the error below half of what is accepted."""
    sizes: tuple[int, ...] = (kernel_size,)
    for _ in range(1, n_scales):
        size = sizes[-1]
        while Zoomed._unchecked((*sizes, size), ratio).error > TOLERANCE / 2 and size < _LARGEST:
            size += 2
        sizes = (*sizes, size)
    return sizes
