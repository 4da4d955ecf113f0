"""What a reconstruction may know: the operator A and the measured data y = A x + noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mrirecon.physics.linop import LinearOperator


@dataclass(frozen=True)
class Problem:
    """Operator, data, and A^H y, computed once because every step of every method uses it.

    y: coil k-space (batch, coil, *space); AHy: image (batch, map, *space).
    """

    A: LinearOperator
    y: Tensor
    AHy: Tensor

    @classmethod
    def pose(cls, A: LinearOperator, y: Tensor) -> Problem:
        return cls(A, y, A.adjoint(y))
