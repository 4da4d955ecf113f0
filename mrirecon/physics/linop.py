"""Linear operators: A, its adjoint A^H, the normal operator A^H A, and products of operators.

Tensors go in and tensors come out; autograd needs nothing special, since every operator is plain torch code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class LinearOperator(ABC):
    """A linear map between complex tensors.

    An operator is a value, not an ``nn.Module``: maps and mask change with every batch and belong in no state dict.
    Concrete operators are frozen dataclasses; they never write to their inputs.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y."""

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x; overridden where there is a cheaper way than forward and adjoint."""
        return self.adjoint(self.forward(x))

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    @property
    def H(self) -> LinearOperator:
        """The adjoint operator; ``A.H.H is A``."""
        return Adjoint(self)

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        """The product ``A @ B``, which applies B first."""
        return Composed(self, other)


@dataclass(frozen=True)
class Adjoint(LinearOperator):
    """A^H as an operator of its own."""

    A: LinearOperator

    def forward(self, x: Tensor) -> Tensor:
        return self.A.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.A.forward(y)

    @property
    def H(self) -> LinearOperator:
        return self.A


@dataclass(frozen=True)
class Composed(LinearOperator):
    """The product of two operators, ``outer @ inner``."""

    outer: LinearOperator
    inner: LinearOperator

    def forward(self, x: Tensor) -> Tensor:
        return self.outer.forward(self.inner.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))

    def normal(self, x: Tensor) -> Tensor:
        # (A B)^H (A B) = B^H (A^H A) B: the outer operator may know a shorter A^H A, as a binary mask does.
        return self.inner.adjoint(self.outer.normal(self.inner.forward(x)))
