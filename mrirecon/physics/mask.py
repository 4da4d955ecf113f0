"""The sampling mask as an operator: which k-space samples were measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.linop import LinearOperator


@dataclass(frozen=True)
class Mask(LinearOperator):
    """Keeps the sampled points of coil k-space and sets the others to zero.

    mask: 0 or 1, broadcastable to coil data ``(batch, coil, *space)``, for example ``(batch, 1, 1, width)`` for lines.

    Raises InputError for other values.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        check_binary(self.mask)

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.mask * y

    def normal(self, x: Tensor) -> Tensor:
        return self.mask * x  # binary, so the mask is its own square


def check_binary(mask: Tensor) -> None:
    """Raises InputError for a mask with other values than 0 and 1: weights belong into an operator of their own."""
    if not bool(((mask == 0) | (mask == 1)).all()):
        low, high = mask.real.min().item(), mask.real.max().item()
        raise InputError(f"mask with values from {low:g} to {high:g}; expected only 0 and 1, sampled or not")
