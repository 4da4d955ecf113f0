"""A gated operator whose results go through a linear map that is not sample by sample, as in a step of MoDL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mrirecon.convex.operator import GatedOperator


class Following(Protocol):
    """A symmetric T with 0 <= T <= 1, (n,) to (n,), such as the last part of a MoDL step.

    error: bounds ||what a call gives - T q|| / ||what it gives|| for all calls so far, as of an iterative solver.
    """

    @property
    def error(self) -> float: ...
    def __call__(self, q: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Followed:
    """T K, where what filters give goes through T before it is compared."""

    K: GatedOperator
    T: Following
    exact: bool = False

    @property
    def error(self) -> float:
        return self.T.error

    @property
    def gates(self) -> Tensor:
        return self.K.gates

    @property
    def n(self) -> int:
        return self.K.n

    def forward(self, v: Tensor, at: Tensor | None = None) -> Tensor:
        return self.T(self.K.forward(v, at))

    def adjoint(self, q: Tensor, at: Tensor | None = None) -> Tensor:
        return self.K.adjoint(self.T(q), at)

    def gram(self, at: Tensor, others: Tensor, weights: Tensor | None = None) -> Tensor:
        return self.K.gram(at, others, weights)

    def moments(self) -> Tensor:
        return self.K.moments()

    def leverages(self) -> Tensor:
        return self.K.leverages()
