"""The encoding operator of Cartesian parallel imaging, A = Mask . Fourier . Coils, with a fast normal operator.

A^H A is the inner loop of every iterative and every unrolled reconstruction. Two facts make it cheap:

- A^H A = S^H F^H M F S. With F = fftshift . fft . ifftshift, the shifts beside M only move the mask, and the two
  that remain surround a circular convolution, which commutes with shifts. Hence F^H M F = ifft . M' . fft exactly,
  with M' = ifftshift(M), for even and odd sizes: no shift is left in the loop.
- Along axes on which the mask does not depend, fft and ifft meet and cancel: only the others are transformed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mrirecon.physics.coils import Coils, orthonormal
from mrirecon.physics.fourier import Fourier
from mrirecon.physics.linop import LinearOperator
from mrirecon.physics.mask import Mask


@dataclass(frozen=True)
class Sense(LinearOperator):
    """Image ``(batch, map, *space)`` to masked coil k-space ``(batch, coil, *space)``. Made by :func:`sense`."""

    maps: Tensor
    mask: Tensor
    ndim: int = 2

    @cached_property
    def _masked_axes(self) -> tuple[int, ...]:
        return tuple(d for d in range(-self.ndim, 0) if self.mask.shape[d] > 1)

    @cached_property
    def _shifted_mask(self) -> Tensor:
        return torch.fft.ifftshift(self.mask, self._masked_axes) if self._masked_axes else self.mask

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * Fourier(self.ndim).forward(Coils(self.maps).forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return Coils(self.maps).adjoint(Fourier(self.ndim).adjoint(self.mask * y))

    def normal(self, x: Tensor) -> Tensor:
        z = Coils(self.maps).forward(x)
        if self._masked_axes:
            z = torch.fft.fftn(z, dim=self._masked_axes)
            z = z * self._shifted_mask
            z = torch.fft.ifftn(z, dim=self._masked_axes)
        else:
            z = z * self.mask
        return Coils(self.maps).adjoint(z)


def sense(maps: Tensor, mask: Tensor, ndim: int = 2) -> Sense:
    """The encoding operator of a multi-coil scan, with ||A|| <= 1.

    maps: (batch, map, coil, *space), complex. Maps that are not orthonormal across sets at each pixel are replaced by
        orthonormal ones, with a warning.
    mask: 0 or 1, broadcastable to (batch, coil, *space); axes of size 1 are those on which it does not depend.
    ndim: number of space axes (2 for slices, 3 for volumes and for 2D + time).
    """
    maps, changed = orthonormal(maps)
    if changed:
        warnings.warn("the maps were not orthonormal across sets and have been normalised", stacklevel=2)
    return Sense(maps, mask, ndim)


# Composition that `Sense` must equal; the tests compare the two.
def composed(maps: Tensor, mask: Tensor, ndim: int = 2) -> LinearOperator:
    """The same operator from its three parts, ``Mask @ Fourier @ Coils``; slower, and an oracle for tests."""
    return Mask(mask) @ Fourier(ndim) @ Coils(maps)
