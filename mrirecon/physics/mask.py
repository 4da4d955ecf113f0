"""The sampling mask as an operator: which k-space samples were measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrirecon.physics.linop import LinearOperator


@dataclass(frozen=True)
class Mask(LinearOperator):
    """Keeps the sampled points of coil k-space and sets the others to zero.

    mask: 0 or 1, broadcastable to coil data ``(batch, coil, *space)``, for example ``(batch, 1, 1, width)`` for lines.
    """

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.mask * y

    def normal(self, x: Tensor) -> Tensor:
        return self.mask * x  # binary, so the mask is its own square
