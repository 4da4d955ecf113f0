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
from mrirecon.convex.operator import Operator
from mrirecon.convex.program import check_program, dot, gradient_error, widest
from mrirecon.convex.working_absolute import AbsoluteSet


class LeastAbsolute:
    """The program, with b (n,) of the type and on the device of K's gates.

    target_error: bound of ||b - what it stands for||, where b itself was computed with a tolerance.

    Raises InputError for targets that do not fit K, and for a strength without a certificate.
    """

    def __init__(self, K: Operator, b: Tensor, beta: float, target_error: float = 0.0) -> None:
        check_program(K, b, beta)
        self.K, self.b, self.beta, self.target_error = K, b, beta, target_error

    def at(self, beta: float) -> LeastAbsolute:
        """The same program with another strength."""
        return LeastAbsolute(self.K, self.b, beta, self.target_error)

    @cached_property
    def largest_strength(self) -> float:
        """A strength from which on all filters are zero at the minimum, max_i ||K_i^T sign(b)||.

        It is the least such strength where no target is zero. Multipliers of zero targets are free, and are 0 here.
        """
        return float(self.K.adjoint(self.b.sign()).norm(dim=1).max())

    @cached_property
    def widest(self) -> float:
        """||K_i||, at most, for the error of gradients."""
        return widest(self.K)

    @cached_property
    def leverages(self) -> Tensor:
        """||y_p||^2 of every patch, (n,)."""
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

    def worth(self, v: Tensor, gradient: Tensor, r: Tensor, theta: Tensor) -> Certificate:
        """The certificate of filters v (group, tap) with residual r, and of multipliers with their groups' K^T theta.

        The dual point is theta, scaled to be allowed. Errors of K and b count against the solution, in the primal and
        in the dual value.
        """
        size, error = dot(theta, theta) ** 0.5, self.K.error
        residual_error = self.target_error + error * (dot(r, r) ** 0.5 + dot(self.b, self.b) ** 0.5)
        largest = float(gradient.norm(dim=1).max())
        if error:
            largest += gradient_error(self.K, self.widest, size)
        value = -dot(theta, self.b) - size * self.target_error
        s = min(1 / max(float(theta.abs().max()), 1e-300), self.beta / max(largest, 1e-300))
        primal = _sum(r.abs()) + len(r) ** 0.5 * residual_error + self.beta * float(v.norm(dim=1).sum())
        return certificate_of(primal, max(s * value, 0.0), v, gradient, self.beta)


def _sum(a: Tensor) -> float:
    return float(a.sum(dtype=torch.float64))
