"""Least squares with a group lasso over many groups, few of which are active: solved to a certificate.

min_v  1/2 ||K v - b||^2 + beta sum_i ||v_i||

Rounds: one pass over the data gives the residual and the gradients of all groups, and with them the certificate. The
groups whose gradients exceed beta most join the working set, whose Gram matrix grows by their rows, and the program of
the working set is solved as a dense quadratic. Johnson and Guestrin 2015 (Blitz); Massias et al. 2018 (Celer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.operator import GatedOperator
from mrirecon.errors import InputError

FIRST = 1500  # variables of the first working set; a smaller program is solved whole
ROUNDS = 60


@dataclass(frozen=True)
class Solution:
    """Filters v (gate, tap), in double precision, zero where a group is not active; and what they are worth."""

    filters: Tensor
    certificate: Certificate
    rounds: int


class LeastSquares:
    """1/2 ||K v - b||^2 + beta sum_i ||v_i||, with b (n,) of the type and on the device of K's gates."""

    def __init__(self, K: GatedOperator, b: Tensor, beta: float) -> None:
        if b.shape != (K.patches.n,):
            raise InputError(f"targets of shape {tuple(b.shape)} for {K.patches.n} patches; expected one for each")
        if not bool(torch.isfinite(b).all()):
            raise InputError("a target is not finite; the program has no solution")
        if not 0 < beta < float("inf"):
            raise InputError(f"strength {beta}: a certificate needs a number above 0, such as 1e-4")
        self.K, self.b, self.beta = K, b, beta
        self.bb = float(b.double().square().sum())

    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]:
        """The certificate of filters v that are zero but for groups ``at``; and the gradients of all, (gate, tap)."""
        r = self.K.forward(v[at], at) - self.b if len(at) else -self.b
        gradient = self.K.adjoint(r)
        rr, rb = float(r.double().square().sum()), float((r.double() * self.b.double()).sum())
        return certificate(v, gradient, self.beta, rr, rb), gradient


def certificate(v: Tensor, gradient: Tensor, beta: float, rr: float, rb: float) -> Certificate:
    """Of filters v (gate, tap) with the squared residual rr, its product rb with b, and the gradients of all groups."""
    norms, lengths = v.norm(dim=1), gradient.norm(dim=1)
    largest = float(lengths.max())
    s = -rb / rr if rr > 0 else 0.0
    if largest > 0:
        s = min(max(s, -beta / largest), beta / largest)
    primal = rr / 2 + beta * float(norms.sum())
    dual = -s * s * rr / 2 - s * rb
    on = norms > 0
    inside = (lengths - beta).clamp_min(0)[~on]
    outside = (gradient + beta * v / norms.clamp_min(1e-300)[:, None])[on]
    return Certificate(
        primal=primal,
        dual=dual,
        gap=(primal - dual) / primal if primal > 0 else 0.0,
        subgradient=float((inside.square().sum() + outside.square().sum()).sqrt()),
        violation=0.0,
        active=int(on.sum()),
        groups=len(v),
    )


def solve(
    program: LeastSquares,
    tolerance: float = 1e-6,
    start: Tensor | None = None,
    report: Callable[[Certificate], object] = lambda certificate: None,
) -> Solution:
    """The filters whose certificate has a relative gap of at most ``tolerance``.

    start: filters (gate, tap) of a program alike, whose active groups are the first working set.
    report: called with the certificate of every round.

    Raises InputError where rounding keeps the gap above the tolerance.
    """
    K, beta = program.K, program.beta
    gates, d = K.gates.shape
    device = K.gates.device
    v = torch.zeros(gates, d, dtype=torch.float64, device=device) if start is None else start.double().to(device)
    at = v.norm(dim=1).nonzero()[:, 0]
    set_: Tensor = at[:0]
    Q = torch.zeros(0, d, 0, d, dtype=torch.float64, device=device)
    c = -K.adjoint(-program.b)
    best = float("inf")
    for number in range(1, ROUNDS + 1):
        proof, gradient = program.certify(v, at)
        report(proof)
        if proof.gap <= tolerance:
            return Solution(v, proof, number)
        new = _joining(gradient.norm(dim=1), beta, set_, at, d)
        if len(new) == 0 and proof.gap >= best / 2:
            break
        best = min(best, proof.gap)
        if len(new):
            Q, set_ = _grown(K, Q, set_, new), torch.cat([set_, new])
        v = torch.zeros_like(v)
        v[set_] = minimise_quadratic(Q, c[set_], beta, program.bb / 2, 0.3 * tolerance)
        at = v.norm(dim=1).nonzero()[:, 0]
    raise InputError(
        f"the program was solved to a relative gap of {proof.gap:.1e} and no further, {tolerance:.1e} was asked for; "
        f"rounding in {K.gates.dtype} allows no more: use double precision, or ask for a larger tolerance"
    )


def _joining(lengths: Tensor, beta: float, set_: Tensor, at: Tensor, d: int) -> Tensor:
    """The groups that join the working set: all that are active, and those of the longest gradients."""
    most = max(FIRST // d, 2 * len(at)) if len(set_) == 0 else max(len(set_) // 2, FIRST // d, 2 * len(at) - len(set_))
    wanted = torch.where(lengths > beta, lengths, 0.0)
    if len(set_) == 0:
        wanted[at] = torch.inf
        if len(lengths) <= most:
            wanted += 1e-300
    wanted[set_] = 0
    order = wanted.argsort(descending=True, stable=True)[:most]
    return order[wanted[order] > 0]


def _grown(K: GatedOperator, Q: Tensor, set_: Tensor, new: Tensor) -> Tensor:
    """The Gram matrix with the rows and columns of new groups."""
    old, d = len(set_), K.gates.shape[1]
    grown = Q.new_empty(old + len(new), d, old + len(new), d)
    grown[:old, :, :old] = Q
    grown[old:, :, old:] = K.gram(new, new)
    if old:
        cross = K.gram(set_, new)
        grown[:old, :, old:] = cross
        grown[old:, :, :old] = cross.permute(2, 3, 0, 1)
    return grown
