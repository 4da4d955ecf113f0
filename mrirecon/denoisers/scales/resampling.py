"""Images at another scale, by trigonometric interpolation, which is exact where no frequency is out of reach.

Zero position is pixel n // 2, the centre of the centred Fourier transform; frequencies are in parts of the Nyquist
frequency, along each axis. Images go on periodically beyond their border.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def resampled(x: Tensor, scale: float, ndim: int = 2) -> Tensor:
    """x(p / scale) over the last ``ndim`` axes, for real or complex images: enlarged by a scale above 1.

    What a scale below 1 would move beyond the Nyquist frequency is left out.
    """
    z = low_passed(x, scale, ndim) if scale < 1 else x * (1 + 0j)
    for axis in range(-ndim, 0):
        z = (z.movedim(axis, -1) @ _interpolation(x.shape[axis], scale, z).T).movedim(-1, axis)
    return z if x.is_complex() else z.real


def low_passed(x: Tensor, band: float, ndim: int = 2) -> Tensor:
    """x without frequencies of ``band`` Nyquist or more along any axis; complex."""
    axes = tuple(range(-ndim, 0))
    kspace = torch.fft.fftn(x, dim=axes)
    for axis in axes:
        inside = 2 * torch.fft.fftfreq(x.shape[axis], dtype=torch.float64, device=x.device).abs() < band
        kspace = kspace * inside.view(-1, *[1] * (-axis - 1))
    return torch.fft.ifftn(kspace, dim=axes)


def natural_images(
    shape: Sequence[int], band: float = 0.9, seed: int = 0, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """Random complex images (batch, map, *space) of amplitudes 1 / |frequency|, as nature has them, and variance 1.

    band: no frequencies of this or more, in parts of Nyquist.
    """
    space, axes = shape[2:], tuple(range(2, len(shape)))
    noise = torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))
    square = torch.zeros(*space, dtype=torch.float64)
    for axis, n in enumerate(space):
        w = torch.fft.fftfreq(n, dtype=torch.float64)
        square = square + (w**2).view(-1, *[1] * (len(space) - 1 - axis))
    size = square.sqrt()
    size[(0,) * len(space)] = torch.inf  # no constant
    x = low_passed(torch.fft.ifftn(torch.fft.fftn(noise, dim=axes) / size, dim=axes), band, len(space))
    return (x / x.abs().square().mean().sqrt()).to(dtype)


def _interpolation(n: int, scale: float, like: Tensor) -> Tensor:
    """The matrix from n samples of a periodic function to its values at p / scale: (n, n), where ``like`` is."""
    p = torch.arange(n, dtype=torch.float64) - n // 2
    # Of the frequency -n / 2 of an even n, which is +n / 2 too, the mean of both.
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    waves = torch.exp(2j * torch.pi / n * torch.outer(p / scale, k))
    if n % 2 == 0:
        waves[:, n // 2] = torch.cos(torch.pi * p / scale)
    back = torch.exp(-2j * torch.pi / n * torch.outer(k, p)) / n
    return (waves @ back).to(like)
