"""The encoding operator of Cartesian parallel imaging, A = Mask . Fourier . Coils, without a single shift.

With the ramp P = exp(2 pi i c (n - c/2) / N), c = N // 2, along every axis, the centred transform is F = P fft P, for
even N (where P alternates in sign) and odd N alike. One P acts on the image, before the coils; one joins the mask:

    A x = (M P) fft S (P x)

A^H A is the inner loop of every iterative and every unrolled reconstruction. Two facts make it cheap:

- F^H M F = conj(P) ifft M fft P is a circular convolution, and its modulation by P only moves M:
  F^H M F = ifft M' fft with M' = ifftshift(M). Nothing else is left of the centring.
- Along axes on which the mask does not depend, fft and ifft meet and cancel: only the others are transformed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from math import pi, prod

import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.coils import Coils, orthonormal
from mrirecon.physics.fourier import Fourier
from mrirecon.physics.linop import LinearOperator
from mrirecon.physics.mask import Mask, check_binary

_FEW_BYTES = 2**22  # of coil images, that the normal operator makes all at once on a CPU


@dataclass(frozen=True, eq=False)
class Sense(LinearOperator):
    """Image ``(batch, map, *space)`` to masked coil k-space ``(batch, coil, *space)``. Made by :func:`sense`.

    Autograd reaches x, y and the maps. The in-place products below write only to tensors made one line earlier.
    """

    maps: Tensor
    mask: Tensor
    ndim: int = 2

    def forward(self, x: Tensor) -> Tensor:
        self._check("image (batch, map, *space)", x, self.maps.shape[1])
        z = Coils(self.maps).forward(self._ramp * x)
        kspace: Tensor = torch.fft.fftn(z, dim=self._axes, norm="ortho")
        return kspace.mul_(self._mask_and_ramp)

    def adjoint(self, y: Tensor) -> Tensor:
        self._check("k-space (batch, coil, *space)", y, self.maps.shape[2])
        z = torch.fft.ifftn(y * self._mask_and_ramp.conj(), dim=self._axes, norm="ortho")
        return self._ramp.conj() * Coils(self.maps).combined(z.conj_physical_())

    def normal(self, x: Tensor) -> Tensor:
        self._check("image (batch, map, *space)", x, self.maps.shape[1])
        if x.device.type != "cpu":
            return self._normal(self.maps, self._shifted_mask, x)
        # On a CPU one item and some coils at a time: coil images stay near the cache, in memory that the next ones use
        # again. Memory of all coils would go back to the system after every call, to be cleared for the next.
        maps = self.maps.expand(len(x), *self.maps.shape[1:]).split(1)
        masks = self._shifted_mask.expand(len(x), *self.mask.shape[1:]).split(1)
        return torch.cat([self._coils_in_turn(*item) for item in zip(maps, masks, x.split(1), strict=True)])

    def _coils_in_turn(self, maps: Tensor, shifted_mask: Tensor, x: Tensor) -> Tensor:
        at_once = 2 * torch.get_num_threads()  # measured: faster than one a thread, and than all
        if maps.shape[2] <= at_once or prod(maps.shape[2:]) * maps.element_size() <= _FEW_BYTES:
            return self._normal(maps, shifted_mask, x)
        parts = maps.split(at_once, 2)
        masks = [shifted_mask] * len(parts) if shifted_mask.shape[1] == 1 else shifted_mask.split(at_once, 1)
        total = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, maps.dtype))
        for S, M in zip(parts, masks, strict=True):
            z = self._conjugate_coils(S, M, x)
            for c in range(z.shape[1]):
                total = total.addcmul_(z[:, c : c + 1], S[:, :, c])
        return total.conj_physical_()

    def _normal(self, maps: Tensor, shifted_mask: Tensor, x: Tensor) -> Tensor:
        return Coils(maps).combined(self._conjugate_coils(maps, shifted_mask, x))

    def _conjugate_coils(self, maps: Tensor, shifted_mask: Tensor, x: Tensor) -> Tensor:
        """conj(F^H M F S x), without the shifts that cancel."""
        z = Coils(maps).forward(x)
        if self._masked_axes:
            z = torch.fft.fftn(z, dim=self._masked_axes).mul_(shifted_mask)
            z = torch.fft.ifftn(z, dim=self._masked_axes, norm="forward")
        else:
            z = z.mul_(shifted_mask)
        return z.conj_physical_()

    def _check(self, what: str, z: Tensor, second: int) -> None:
        # Else a set without an image, or an image without its set, would broadcast or be dropped without a word.
        expected = (second, *self.maps.shape[3:])
        batches = {len(self.maps), len(self.mask)} - {1}
        if tuple(z.shape[1:]) != expected or not batches <= {len(z)}:
            batch = max(batches, default=1)
            raise InputError(
                f"{what} of shape {tuple(z.shape)}; expected ({batch}, {', '.join(map(str, expected))}) for maps of "
                f"shape {tuple(self.maps.shape)} and a mask of shape {tuple(self.mask.shape)}"
            )

    @cached_property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))

    @cached_property
    def _masked_axes(self) -> tuple[int, ...]:
        return tuple(d for d in self._axes if self.mask.shape[d] > 1)

    @cached_property
    def _shifted_mask(self) -> Tensor:
        mask = self.mask.to(self.maps.dtype)  # complex times real is slower than the conversion saves
        if not self._masked_axes:
            return mask
        # The 1/N of the inverse transform joins the mask, which spares the transform a pass.
        n = prod(self.maps.shape[d] for d in self._masked_axes)
        return torch.fft.ifftshift(mask, self._masked_axes) / n

    @cached_property
    def _ramp(self) -> Tensor:
        P = torch.ones((), dtype=torch.complex128)
        for N in self.maps.shape[-self.ndim :]:
            c, n = N // 2, torch.arange(N)
            turns = ((2 * c * n - c * c) % (2 * N)).double()  # reduced in integers: no digits are lost at large N
            P = P.unsqueeze(-1) * torch.polar(torch.ones_like(turns), pi / N * turns)
        return P.to(self.maps)

    @cached_property
    def _mask_and_ramp(self) -> Tensor:
        return self.mask * self._ramp


def sense(maps: Tensor, mask: Tensor, ndim: int = 2) -> Sense:
    """The encoding operator of a multi-coil scan, with ||A|| <= 1.

    maps: (batch, map, coil, *space), complex. Maps that are not orthonormal across sets at each pixel are replaced by
        orthonormal ones, with a warning.
    mask: 0 or 1, broadcastable to (batch, coil, *space); axes of size 1 are those on which it does not depend.
    ndim: number of space axes (2 for slices, 3 for volumes and for 2D + time).

    Raises InputError where the shapes of maps and mask do not fit each other, and for another mask than of 0 and 1.
    """
    if not maps.is_complex() or maps.ndim != ndim + 3:
        found = f"{maps.dtype} of shape {tuple(maps.shape)}"
        raise InputError(f"maps: {found}; expected complex (batch, map, coil, *space) with {ndim} space axes")
    coil_data = (maps.shape[0], *maps.shape[2:])
    if mask.ndim != len(coil_data) or any(m not in (1, n) for m, n in zip(mask.shape[1:], coil_data[1:], strict=True)):
        raise InputError(
            f"mask: shape {tuple(mask.shape)}; expected (batch, coil, *space) = {coil_data}, "
            "with 1 where it does not depend on an axis, for example (1, 1, 1, width) for lines"
        )
    check_binary(mask)
    maps, changed = orthonormal(maps)
    if changed:
        warnings.warn("the maps were not orthonormal across sets and have been normalised", stacklevel=2)
    return Sense(maps, mask, ndim)


# Composition that `Sense` must equal; the tests compare the two.
def composed(maps: Tensor, mask: Tensor, ndim: int = 2) -> LinearOperator:
    """The same operator from its three parts, ``Mask @ Fourier @ Coils``; slower, and an oracle for tests."""
    return Mask(mask) @ Fourier(ndim) @ Coils(maps)
