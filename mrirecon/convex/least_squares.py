"""The convex program of a gated denoiser under squared loss, and the worth of any filters for it.

min_v  F(v) = 1/2 ||K v - b||^2 + beta sum_i ||v_i||
max_theta  -1/2 ||theta||^2 - <theta, b>   over all theta with ||K_i^T theta|| <= beta for every group i

The dual point is the residual K v - b, scaled to be allowed.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from mrirecon.convex.certificate import Certificate, certificate_of
from mrirecon.convex.program import Stated, dot
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

    def certify(self, v: Tensor, at: Tensor, theta: Tensor | None = None) -> tuple[Certificate, Tensor]:
        """The certificate of filters v that are zero but for groups ``at``; and K^T theta of all, (gate, tap).

        theta: the dual point (n,) before it is scaled, if the residual is known more exactly than K gives it.
        """
        r = self.K.forward(v[at], at) - self.b if len(at) else -self.b
        theta = r if theta is None else theta
        gradient = self.K.adjoint(theta)
        return self.worth(v, gradient, r, theta), gradient

    def objective(self, v: Tensor) -> float:
        """F(v) of filters (gate, tap) in double precision, as certificates have it, with errors of K and b."""
        r = self.residual(v)
        size = dot(r, r) ** 0.5
        return (size + self._error(size)) ** 2 / 2 + self.beta * float(v.norm(dim=1).sum())

    def _error(self, size: float) -> float:
        """Of a residual of that length."""
        return self.target_error + self.K.error * (size + self.bb**0.5)

    def worth(self, v: Tensor, gradient: Tensor, r: Tensor, theta: Tensor) -> Certificate:
        """The certificate of filters v (group, tap) with residual r, and of theta (n,) with its groups' K^T theta.

        The dual point is theta, scaled to be allowed. Errors of K and b count against the solution, in the primal and
        in the dual value.
        """
        size, tt, tb = dot(r, r) ** 0.5, dot(theta, theta), dot(theta, self.b)
        most = self.beta / self.longest(gradient, tt**0.5)
        s = min(max(-tb / tt, -most), most) if tt > 0 else 0.0
        primal = (size + self._error(size)) ** 2 / 2 + self.beta * float(v.norm(dim=1).sum())
        dual = -s * s * tt / 2 - s * tb - abs(s) * tt**0.5 * self.target_error
        return certificate_of(primal, dual, v, gradient, self.beta)
