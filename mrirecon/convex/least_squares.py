"""The convex program of a gated denoiser under squared loss, and the worth of any filters for it.

min_v  F(v) = 1/2 ||K v - b||^2 + beta sum_i ||v_i||
max_theta  -1/2 ||theta||^2 - <theta, b>   over all theta with ||K_i^T theta|| <= beta for every group i

The dual point is the residual K v - b, scaled to be allowed.
"""

from __future__ import annotations

from functools import cached_property
from math import isfinite

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.operator import Operator
from mrirecon.errors import InputError


class LeastSquares:
    """The program, with b (n,) of the type and on the device of K's gates.

    target_error: bound of ||b - what it stands for||, where b itself was computed with a tolerance.

    Raises InputError for targets that do not fit K, and for a strength without a certificate.
    """

    def __init__(self, K: Operator, b: Tensor, beta: float, target_error: float = 0.0) -> None:
        if b.shape != (K.n,):
            raise InputError(f"targets of shape {tuple(b.shape)} for {K.n} patches; expected one for each")
        if not bool(torch.isfinite(b).all()):
            raise InputError("a target is not finite; the program has no solution")
        if not (isfinite(beta) and beta > 0):
            raise InputError(f"strength {beta}: a certificate needs a number above 0, such as 1e-4")
        self.K, self.b, self.beta, self.target_error = K, b, beta, target_error
        self.bb = _dot(b, b)

    def at(self, beta: float) -> LeastSquares:
        """The same program with another strength."""
        return LeastSquares(self.K, self.b, beta, self.target_error)

    @cached_property
    def largest_strength(self) -> float:
        """The strength from which on all filters are zero at the minimum, max_i ||K_i^T b||."""
        return float(self.K.adjoint(self.b).norm(dim=1).max())

    @cached_property
    def widest(self) -> float:
        """||K_i||, at most, for the error of gradients."""
        return float(torch.linalg.eigvalsh(self.K.moments())[-1]) ** 0.5

    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]:
        """The certificate of filters v that are zero but for groups ``at``; and the gradients of all, (gate, tap)."""
        r = self.K.forward(v[at], at) - self.b if len(at) else -self.b
        gradient = self.K.adjoint(r)
        return self.worth(v, gradient, r), gradient

    def worth(self, v: Tensor, gradient: Tensor, r: Tensor, groups: int | None = None) -> Certificate:
        """The certificate of filters v (group, tap) with their residual r, and with gradients K^T r of their groups.

        Errors of K and b count against the solution, in the primal and in the dual value.
        """
        norms, lengths = v.norm(dim=1), gradient.norm(dim=1)
        rr, rb, size = _dot(r, r), _dot(r, self.b), _dot(r, r) ** 0.5
        residual_error = self.target_error + self.K.error * (size + self.bb**0.5)
        largest = float(lengths.max()) + (self.widest * self.K.error * size if self.K.error else 0.0)
        s = -rb / rr if rr > 0 else 0.0
        if largest > 0:
            s = min(max(s, -self.beta / largest), self.beta / largest)
        primal = (size + residual_error) ** 2 / 2 + self.beta * float(norms.sum())
        dual = -s * s * rr / 2 - s * rb - abs(s) * size * self.target_error
        on = norms > 0
        inside = (lengths - self.beta).clamp_min(0)[~on]
        outside = (gradient + self.beta * v / norms.clamp_min(1e-300)[:, None])[on]
        return Certificate(
            primal=primal,
            dual=dual,
            gap=(primal - dual) / primal if primal > 0 else 0.0,
            subgradient=float((inside.square().sum() + outside.square().sum()).sqrt()),
            violation=0.0,
            active=int(on.sum()),
            groups=len(v),
        )


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vecdot(a.double(), b.double()))
