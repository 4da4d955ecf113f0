"""Coil sensitivities: an image seen by every receive coil.

y_c = sum_e S_ec x_e, over one set of maps (SENSE) or several (soft SENSE, ESPIRiT).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.physics.linop import LinearOperator


@dataclass(frozen=True, eq=False)
class Coils(LinearOperator):
    """Image ``(batch, map, *space)`` to coil images ``(batch, coil, *space)``.

    maps: (batch, map, coil, *space), complex; a batch of 1 serves any batch.
    """

    maps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        y = self.maps[:, 0] * x[:, :1]
        for e in range(1, self.maps.shape[1]):
            y = y.addcmul_(self.maps[:, e], x[:, e : e + 1])
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        return self.combined(torch.conj_physical(y))

    def combined(self, z: Tensor) -> Tensor:
        """S^H y from z = conj(y), which may be overwritten.

        conj(S^T conj(y)): for a caller that owns its coil images, conjugating them in place spares a conjugated copy
        of the maps.
        """
        if self.maps.shape[1] == 1:
            return z.mul_(self.maps[:, 0]).sum(1, keepdim=True).conj_physical_()
        return torch.stack([(z * S).sum(1) for S in self.maps.unbind(1)], 1).conj_physical_()


def orthonormal(maps: Tensor, tolerance: float = 1e-3) -> tuple[Tensor, bool]:
    """Maps whose sets are orthonormal at each pixel, and whether that needed a change.

    Orthonormal means sum_c conj(S_ec) S_fc = 1 for e = f and 0 otherwise, so that ||Coils|| = 1 and, with a unitary
    Fourier transform and a binary mask, ||A|| <= 1: the convention of this package. Pixels where a set is zero (outside
    its support) count as orthonormal. Other maps are replaced by the nearest orthonormal ones, S G^(-1/2) with
    the Gram matrix G = S^H S of the pixel; directions in which the sets vanish stay zero.

    maps: (batch, map, coil, *space), complex.
    tolerance: largest deviation of the Gram matrix that counts as rounding.
    """
    if maps.shape[1] == 1:
        power = maps.abs().square().sum(2)
        off = torch.where(power > 0, (power - 1).abs(), 0.0)
        if not bool((off > tolerance).any()):
            return maps, False
        return maps * torch.where(power > 0, power, 1.0).rsqrt().unsqueeze(2), True
    S = maps.movedim((1, 2), (-1, -2))  # (batch, *space, coil, map)
    values, vectors = torch.linalg.eigh(S.mH @ S)
    present = values > 1e-6 * values.amax().clamp_min(torch.finfo(values.dtype).tiny)
    off = torch.where(present, (values - 1).abs(), 0.0)
    if not bool((off > tolerance).any()):
        return maps, False
    root = torch.where(present, values.clamp_min(torch.finfo(values.dtype).tiny).rsqrt(), 0.0)
    S = S @ (vectors * root.unsqueeze(-2).to(vectors.dtype)) @ vectors.mH
    return S.movedim((-1, -2), (1, 2)).contiguous(), True
