"""The convex program that is exactly a two-layer ReLU network's training, with its cone constraints.

min  1/2 ||K (w - z) - b||^2 + beta sum_i (||w_i|| + ||z_i||)   s.t.  (2 D_i - I) Y w_i >= 0, (2 D_i - I) Y z_i >= 0

Augmented Lagrangian: constraints are charged for with multipliers a >= 0 and a weight delta,
delta / 2 ||(a / delta - (2 D - I) Y x)_+||^2, the smooth program is solved by proximal Newton steps, and the
multipliers become a+ = delta (a / delta - (2 D - I) Y x)_+. They give the dual point too: for it, a group's gradient
counts less what its multipliers pull. Mishkin et al., ICML 2022, arXiv:2202.01331, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.cones import Cones
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.newton import proximal_newton
from mrirecon.convex.operator import GatedOperator
from mrirecon.errors import InputError

ROUNDS = 100


@dataclass(frozen=True)
class ConeSolution:
    """Filters w and z (gate, tap) in double precision, zero where a group is not active, and what they are worth."""

    w: Tensor
    z: Tensor
    certificate: Certificate


class _Charged:
    """The smooth part: the quadratic of w - z, and the charge for constraints."""

    def __init__(self, Q: Tensor, c: Tensor, constant: float, cones: Cones, multipliers: Tensor, delta: float) -> None:
        self.Q, self.c, self.constant = Q, c, constant
        self.cones, self.multipliers, self.delta = cones, multipliers, delta

    def value(self, x: Tensor) -> float:
        return self._quadratic(x)[0] + float(self.cones.charge(x, self.multipliers, self.delta)[0].sum())

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, charge, curvature = self.cones.charge(x, self.multipliers, self.delta)
        g = self._quadratic(x)[1]
        w, d = g.shape
        H = x.new_empty(2 * w, d, 2 * w, d)
        H[:w, :, :w], H[w:, :, w:], H[:w, :, w:], H[w:, :, :w] = self.Q, self.Q, -self.Q, -self.Q
        own = torch.arange(2 * w, device=x.device)
        H[own, :, own] += curvature
        return torch.cat([g, -g]) + charge, H

    def _quadratic(self, x: Tensor) -> tuple[float, Tensor]:
        w, z = x.chunk(2)
        v = w - z
        Qv = (self.Q.reshape(v.numel(), -1) @ v.reshape(-1)).reshape(v.shape)
        return float((v * (Qv / 2 - self.c)).sum()) + self.constant, Qv - self.c


def solve_cones(
    program: LeastSquares,
    tolerance: float = 1e-5,
    report: Callable[[Certificate], object] = lambda certificate: None,
) -> ConeSolution:
    """Filters whose certificate has a gap, and a violation, of at most ``tolerance``."""
    K, b, beta = program.K, program.b, program.beta
    if not isinstance(K, GatedOperator):
        raise InputError("cone constraints are for one-shot denoisers and proximal-gradient steps, not for MoDL's")
    everything = torch.arange(len(K.gates), device=K.gates.device)
    cones = Cones(K.patches, K.gates)
    Q, c = K.gram(everything, everything), K.adjoint(b)
    x = torch.zeros(2 * len(c), c.shape[1], dtype=torch.float64, device=c.device)
    multipliers = K.gates.new_zeros(len(x), K.patches.n)
    delta, before = 1.0, float("inf")
    for _ in range(ROUNDS):
        f = _Charged(Q, c, program.bb / 2, cones, multipliers, delta)
        x = proximal_newton(f, beta, x, 0.01 * tolerance)
        multipliers = delta * cones.lack(x, multipliers, delta)
        proof = certify(program, cones, x, multipliers)
        report(proof)
        if abs(proof.gap) <= tolerance and proof.violation <= tolerance:
            w, z = x.chunk(2)
            return ConeSolution(w, z, proof)
        if proof.violation > max(before / 4, tolerance):
            delta *= 5
        before = proof.violation
    raise InputError(
        f"the constrained program came to a relative gap of {proof.gap:.1e} and a violation of {proof.violation:.1e}, "
        f"{tolerance:.1e} was asked for; use double precision, or ask for a larger tolerance"
    )


def certify(program: LeastSquares, cones: Cones, x: Tensor, multipliers: Tensor) -> Certificate:
    """The certificate of filters (w, z) of all groups with multipliers of their constraints."""
    w, z = x.chunk(2)
    r = program.K.forward(w - z) - program.b
    gradient = program.K.adjoint(r)
    pulled = torch.cat([gradient, -gradient]) - cones.pull(multipliers)
    return replace(program.worth(x, pulled, r), violation=float(cones.violation(x).max()))
