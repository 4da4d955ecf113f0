"""The convex program of a gated denoiser under squared loss, and the worth of any filters for it.

min_v  F(v) = 1/2 ||K v - b||^2 + beta sum_i ||v_i||
max_theta  -1/2 ||theta||^2 - <theta, b>   over all theta with ||K_i^T theta|| <= beta for every group i

The dual point is the residual K v - b, scaled to be allowed.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from mrirecon.convex.certificate import Certificate, certificate_of
from mrirecon.convex.program import Stated, dot, gradient_error
from mrirecon.convex.working_squares import SquaresSet


class LeastSquares(Stated):
    """The program; its parts as :class:`Stated` has them."""

    @cached_property
    def bb(self) -> float:
        """||b||^2"""
        return dot(self.b, self.b)

    @cached_property
    def largest_strength(self) -> float:
        """The strength from which on all filters are zero at the minimum, max_i ||K_i^T b||."""
        return float(self.K.adjoint(self.b).norm(dim=1).max())

    memory = staticmethod(SquaresSet.memory)

    def working_set(self) -> SquaresSet:
        """Where :func:`mrirecon.convex.working_set.solve` begins."""
        return SquaresSet(self)

    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]:
        """The certificate of filters v that are zero but for groups ``at``; and the gradients of all, (gate, tap)."""
        r = self.K.forward(v[at], at) - self.b if len(at) else -self.b
        gradient = self.K.adjoint(r)
        return self.worth(v, gradient, r), gradient

    def objective(self, v: Tensor) -> float:
        """F(v) of filters (gate, tap) in double precision, as certificates have it, with errors of K and b."""
        r = self.residual(v)
        size = dot(r, r) ** 0.5
        return (size + self._error(size)) ** 2 / 2 + self.beta * float(v.norm(dim=1).sum())

    def _error(self, size: float) -> float:
        """Of a residual of that length."""
        return self.target_error + self.K.error * (size + self.bb**0.5)

    def worth(self, v: Tensor, gradient: Tensor, r: Tensor) -> Certificate:
        """The certificate of filters v (group, tap) with their residual r, and with gradients K^T r of their groups.

        Errors of K and b count against the solution, in the primal and in the dual value.
        """
        rr, rb, size = dot(r, r), dot(r, self.b), dot(r, r) ** 0.5
        largest = float(gradient.norm(dim=1).max())
        if self.K.error:
            largest += gradient_error(self.K, self.widest, size)
        s = -rb / rr if rr > 0 else 0.0
        if largest > 0:
            s = min(max(s, -self.beta / largest), self.beta / largest)
        primal = (size + self._error(size)) ** 2 / 2 + self.beta * float(v.norm(dim=1).sum())
        dual = -s * s * rr / 2 - s * rb - abs(s) * size * self.target_error
        return certificate_of(primal, dual, v, gradient, self.beta)
