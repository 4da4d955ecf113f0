"""Kernels that are seen at several scales: what a basis is, and how far it is from being the same at all of them.

A basis is a set of functions psi, each sampled at the scales of a geometric axis. With psi_i the samples at scale i,
convolution commutes with a change of scale as far as the transforms of any two scales i < j agree:

    psi_j^(w / ratio^(j - i)) = psi_i^(w)    for all frequencies w of a pixel grid

The error of two scales is the energy of what they differ by over the energy of psi_i^, both weighted by the spectrum of
images, 1 / |w|^2, and summed over functions; that of a basis is the largest. It is the relative squared error of a
lifting convolution with random weights on such images (Sosnovik et al., DISCO, BMVC 2021, arXiv:2110.10733, measure it
with images).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from mrirecon.errors import InputError

TOLERANCE = 0.01  # largest error of a basis that is accepted
_FREQUENCIES = 64  # of an axis
LOWEST = np.pi / 64  # below it the spectrum is flat: a field of view of 128 pixels holds no longer waves


class Basis(ABC):
    """Functions of position at ``n_scales`` scales, the finest first; scale i is ``ratio ** i`` times the finest."""

    n_scales: int
    ratio: float

    @abstractmethod
    def functions(self, ndim: int) -> tuple[Tensor, ...]:
        """For each scale the samples of all functions, (n, *kernel), float64; a kernel is odd and as small as it can
        be without cutting the function."""

    # How these functions are computed, where they are made of few taps: these, ``steps`` pixels apart, then blurred.

    def taps(self, ndim: int) -> tuple[Tensor, ...]:
        """For each scale (n, *kernel), float64."""
        return self.functions(ndim)

    @property
    def steps(self) -> tuple[int, ...]:
        """Pixels from one tap to the next, at each scale."""
        return (1,) * self.n_scales

    @property
    def blurs(self) -> tuple[Tensor, ...]:
        """A symmetric filter along every axis at each scale, of sum 1 and odd length, float64."""
        return (torch.ones(1, dtype=torch.float64),) * self.n_scales

    @property
    def kernel_sizes(self) -> tuple[int, ...]:
        """Width of the kernels at each scale."""
        return tuple(sampled.shape[-1] for sampled in self.functions(1))

    @property
    def error(self) -> float:
        """Relative squared error of a convolution of images with random weights, as the head of this file has it."""
        samples, worst = [f.numpy() for f in self._compared()], 0.0
        for i, j in combinations(range(self.n_scales), 2):
            worst = max(worst, difference(samples[i], samples[j], self.ratio ** (j - i)))
        return worst

    def _compared(self) -> tuple[Tensor, ...]:
        """Functions of an image that have the error of all."""
        return self.functions(2)

    def check(self, remedy: Callable[[], str]) -> None:
        """Raise InputError where the error is above TOLERANCE; ``remedy`` names the setting that would do."""
        if not (error := self.error) <= TOLERANCE:
            sizes, plain = ", ".join(map(str, self.kernel_sizes)), np.eye(9).reshape(9, 3, 3)
            ordinary = max(difference(plain, plain, self.ratio**i) for i in range(1, self.n_scales))
            raise InputError(
                f"{self.n_scales} scales of ratio {self.ratio} with kernels of {sizes} pixels have an equivariance "
                f"error of {error:.2g}, an ordinary 3x3 convolution {ordinary:.2g}; expected at most {TOLERANCE}: "
                f"{remedy()}"
            )


def difference(fine: np.ndarray, coarse: np.ndarray, scale: float) -> float:
    """The error of samples (n, k, k) of functions at two scales, which differ by a factor."""
    near, far = transform(fine, 1.0), transform(coarse, 1 / scale)
    off, energy = ((np.abs(f) ** 2 * spectrum()).sum() for f in (far - near, near))
    return float(off / energy)


def check_axis(n_scales: int, ratio: float) -> None:
    """Raise InputError for a scale axis that is none."""
    if n_scales < 1 or n_scales > 16:
        raise InputError(f"n_scales is {n_scales}; expected 1 to 16, such as 4")
    if not 1 < ratio <= 4:
        raise InputError(f"ratio is {ratio}; neighbouring scales differ by a factor above 1 and at most 4, such as 1.4")


@cache
def frequencies() -> np.ndarray:
    """Of one axis, -pi to pi in radians per pixel."""
    return (np.arange(-_FREQUENCIES, _FREQUENCIES) + 0.5) / _FREQUENCIES * np.pi


@cache
def spectrum() -> np.ndarray:
    """1 / |w|^2 on the grid of frequencies of two axes."""
    w = frequencies()
    return np.asarray(1 / (np.add.outer(w**2, w**2) + LOWEST**2))


def waves(size: int, scale: float) -> np.ndarray:
    """exp(-i w scale x) for all frequencies w and the ``size`` pixels x about zero: (frequencies, size)."""
    return np.asarray(np.exp(-1j * scale * np.outer(frequencies(), np.arange(size) - size // 2)))


def transform(sampled: np.ndarray, scale: float) -> np.ndarray:
    """psi^(w scale) of functions (n, k, k): (n, frequencies, frequencies)."""
    wave = waves(sampled.shape[-1], scale)
    return np.asarray(wave @ sampled @ wave.T)


def odd(sizes: Sequence[int]) -> bool:
    return all(size >= 1 and size % 2 == 1 for size in sizes)
