"""The convex program of a gated denoiser under absolute loss, and the worth of any filters for it.

min_v  F(v) = sum_n |(K v - b)_n| + beta sum_i ||v_i||
max_theta  -<theta, b>   over all theta with |theta_n| <= 1 and ||K_i^T theta|| <= beta for every group i

theta are multipliers of r = K v - b. At the minimum theta_n is the sign of r_n, and anything in [-1, 1] where r_n is
zero, as it is for about as many samples as there are active filter taps: so they are found with v, not from it.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate, certificate_of
from mrirecon.convex.program import Stated, dot
from mrirecon.convex.working_absolute import AbsoluteSet


class LeastAbsolute(Stated):
    """The program; its parts as :class:`Stated` has them."""

    @cached_property
    def largest_strength(self) -> float:
        """A strength from which on all filters are zero at the minimum, max_i ||K_i^T sign(b)||.

        It is the least such strength where no target is zero. Multipliers of zero targets are free, and are 0 here.
        """
        return float(self.K.adjoint(self.b.sign()).norm(dim=1).max())

    @cached_property
    def leverages(self) -> Tensor:
        """Of every patch, (n,), as :meth:`Operator.leverages` has them."""
        return self.K.leverages()

    memory = staticmethod(AbsoluteSet.memory)

    def working_set(self) -> AbsoluteSet:
        """Where :func:`mrirecon.convex.working_set.solve` begins."""
        return AbsoluteSet(self)

    def certify(self, v: Tensor, at: Tensor, theta: Tensor | None = None) -> tuple[Certificate, Tensor]:
        """The certificate of filters v that are zero but for groups ``at``; and K^T theta of all, (gate, tap).

        theta: multipliers (n,) in [-1, 1]; the signs of the residual unless given.
        """
        r = self.K.forward(v[at], at) - self.b if len(at) else -self.b
        theta = r.sign() if theta is None else theta.to(r)
        gradient = self.K.adjoint(theta)
        return self.worth(v, gradient, r, theta), gradient

    def objective(self, v: Tensor) -> float:
        """F(v) of filters (gate, tap) in double precision, as certificates have it, with errors of K and b."""
        r = self.residual(v)
        return _sum(r.abs()) + self._error(r) + self.beta * float(v.norm(dim=1).sum())

    def _error(self, r: Tensor) -> float:
        """Of the sum of a residual's absolute values."""
        error = self.target_error + self.K.error * (dot(r, r) ** 0.5 + dot(self.b, self.b) ** 0.5)
        return float(len(r) ** 0.5 * error)

    def worth(self, v: Tensor, gradient: Tensor, r: Tensor, theta: Tensor) -> Certificate:
        """The certificate of filters v (group, tap) with residual r, and of multipliers with their groups' K^T theta.

        The dual point is theta, scaled to be allowed. Errors of K and b count against the solution, in the primal and
        in the dual value.
        """
        size = dot(theta, theta) ** 0.5
        value = -dot(theta, self.b) - size * self.target_error
        s = min(1 / max(float(theta.abs().max()), 1e-300), self.beta / self.longest(gradient, size))
        primal = _sum(r.abs()) + self._error(r) + self.beta * float(v.norm(dim=1).sum())
        return certificate_of(primal, max(s * value, 0.0), v, gradient, self.beta)


def _sum(a: Tensor) -> float:
    return float(a.sum(dtype=torch.float64))
