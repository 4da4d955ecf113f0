"""The centred, unitary Fourier transform over the last axes: fftshift . fftn . ifftshift.

Zero frequency lies at index N // 2 of every axis, in image and in k-space, for even and odd N alike; this is the
convention of fastMRI, sigpy and BART.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.physics.linop import LinearOperator


@dataclass(frozen=True)
class Fourier(LinearOperator):
    """Image to k-space over the last ``ndim`` axes. Unitary, so its normal operator is the identity."""

    ndim: int = 2

    @property
    def dim(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fftn(torch.fft.ifftshift(x, self.dim), dim=self.dim, norm="ortho")
        return torch.fft.fftshift(spectrum, self.dim)

    def adjoint(self, y: Tensor) -> Tensor:
        image = torch.fft.ifftn(torch.fft.ifftshift(y, self.dim), dim=self.dim, norm="ortho")
        return torch.fft.fftshift(image, self.dim)

    def normal(self, x: Tensor) -> Tensor:
        return x
