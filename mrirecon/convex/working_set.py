"""Least squares with a group lasso over many groups, few of which are active: solved to a certificate.

min_v  1/2 ||K v - b||^2 + beta sum_i ||v_i||

Rounds: one pass over the data gives the residual and the gradients of all groups, and with them the certificate. The
groups whose gradients exceed beta most join the working set, and the program of the working set is solved: as a dense
quadratic while that is small; by accelerated proximal gradients else, in the metric of a Gram matrix estimated from a
part of the samples, which takes some ten of them whatever the condition. Johnson and Guestrin 2015 (Blitz);
Massias et al. 2018 (Celer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.convex.accelerated import Squares, accelerated
from mrirecon.convex.certificate import Certificate
from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.metric import GramMetric, Metric, PatchMetric
from mrirecon.errors import InputError

FIRST = 1500  # variables of the first working set; a smaller program is solved whole
DENSE = 4000  # variables up to which the Gram matrix pays: 128 MB, and a second to factor on two cores
SAMPLED = 40_000  # samples from which the Gram matrix of more than twice as many is estimated, to serve as a metric
GUARD = 0.01
ROUNDS = 60
PATIENCE = 20  # looks at the gap without a better one by a tenth: rounding, or the error of K, allows no more


@dataclass(frozen=True)
class Solution:
    """Filters (gate, tap), in double precision, zero where a group is not active; and what they are worth."""

    filters: Tensor
    certificate: Certificate


def solve(
    program: LeastSquares,
    tolerance: float = 1e-5,
    start: Tensor | None = None,
    report: Callable[[Solution], object] = lambda solution: None,
) -> Solution:
    """The filters whose certificate has a relative gap of at most ``tolerance``.

    start: filters (gate, tap) of a program alike, whose active groups are the first working set.
    report: called with what every round starts from.

    Raises InputError where rounding, or the error of K, keeps the gap above the tolerance.
    """
    K = program.K
    gates, d = K.gates.shape
    device = K.gates.device
    v = torch.zeros(gates, d, dtype=torch.float64, device=device) if start is None else start.double().to(device)
    at = v.norm(dim=1).nonzero()[:, 0]
    inner = _Inner(program)
    best = float("inf")
    for _ in range(ROUNDS):
        proof, gradient = program.certify(v, at)
        solution = Solution(v, proof)
        report(solution)
        if proof.gap <= tolerance:
            return solution
        new = _joining(gradient.norm(dim=1), program.beta, inner.groups, at, d)
        if len(new) == 0 and proof.gap >= best / 2:
            break
        best = min(best, proof.gap)
        inner.join(new)
        # While groups are missing, more accuracy would be lost on the wrong set.
        v = inner.solved(v, max(0.3 * tolerance, min(1e-3, 0.01 * proof.gap)))
        at = v.norm(dim=1).nonzero()[:, 0]
    cause = "that to which MoDL's equations are solved" if K.error else f"{K.gates.dtype}"
    remedy = "lower convex.cg_tolerance" if K.error else "use float64"
    raise InputError(
        f"the program was solved to a relative gap of {proof.gap:.1e} and no further, {tolerance:.1e} was asked for; "
        f"{cause} allows no more: {remedy}, or ask for a larger tolerance"
    )


def _joining(lengths: Tensor, beta: float, groups: Tensor, at: Tensor, d: int) -> Tensor:
    """The groups that join the working set: at first all that are active, and those of the longest gradients."""
    least = FIRST // d
    if len(groups):
        most = max(least, len(groups) // 2, 2 * len(at) - len(groups))
        wanted = torch.where(lengths > beta, lengths, 0.0)
    else:
        most = max(least, 2 * len(at))
        wanted = torch.where((lengths > beta) | (len(lengths) <= most), lengths.clamp_min(1e-300), 0.0)
        wanted[at] = torch.inf
    wanted[groups] = 0
    order = wanted.argsort(descending=True, stable=True)[:most]
    return order[wanted[order] > 0]


class _Inner:
    """The program of a working set that grows."""

    def __init__(self, program: LeastSquares) -> None:
        self.program = program
        device, d = program.K.gates.device, program.K.gates.shape[1]
        self.part = 1.0 if program.K.n < 2 * SAMPLED else SAMPLED / program.K.n
        self.exact = program.K.exact and self.part == 1
        self.groups = torch.zeros(0, dtype=torch.int64, device=device)
        self.Q: Tensor | None = torch.zeros(0, d, 0, d, dtype=torch.float64, device=device)
        self.c = torch.zeros(0, d, dtype=torch.float64, device=device)

    def join(self, new: Tensor) -> None:
        if len(new) == 0:
            return
        K, old, d = self.program.K, self.groups, self.program.K.gates.shape[1]
        self.groups = torch.cat([old, new])
        if self.Q is None or len(self.groups) * d > DENSE:
            self.Q = None
            return
        Q = self.Q.new_empty(len(self.groups), d, len(self.groups), d)
        was, w = slice(0, len(old)), slice(len(old), None)
        Q[was, :, was], Q[w, :, w] = self.Q, K.gram(new, new, self.part)
        if len(old):
            cross = K.gram(old, new, self.part)
            Q[was, :, w], Q[w, :, was] = cross, cross.permute(2, 3, 0, 1)
        self.Q = Q
        if self.exact:
            self.c = torch.cat([self.c, K.adjoint(self.program.b, new)])

    def _guarded(self, Q: Tensor) -> Tensor:
        """An estimate of the Gram matrix with a little of all patches, so that no direction is missing from it."""
        if self.part == 1:
            return Q
        Q, own = Q.clone(), torch.arange(len(Q), device=Q.device)
        Q[own, :, own] += GUARD * self.program.K.moments()
        return Q

    def solved(self, v: Tensor, tolerance: float) -> Tensor:
        """Filters of all groups that are the working set's solution; ``v`` is where iterations start."""
        program, out = self.program, torch.zeros_like(v)
        if self.Q is not None and self.exact:
            out[self.groups] = minimise_quadratic(self.Q, self.c, program.beta, program.bb / 2, tolerance)
            return out
        K = _Some(program, self.groups)
        metric: Metric = PatchMetric(program.K.moments())
        if self.Q is not None:
            metric = GramMetric(self._guarded(self.Q), max(0.01 * tolerance, 1e-10))
        every = 25 if self.Q is None else 2
        best, since = float("inf"), 0
        for number, iterate in enumerate(accelerated(K, program.b, Squares(), program.beta, v[self.groups], metric)):
            if number % every == every - 1:
                gap = program.worth(iterate.x, K.adjoint(iterate.r), iterate.r).gap
                best, since = (gap, 0) if gap < 0.9 * best else (best, since + 1)
                if gap <= tolerance or since == PATIENCE:
                    break
        out[self.groups] = iterate.x
        return out


class _Some:
    """K of a few groups."""

    def __init__(self, program: LeastSquares, at: Tensor) -> None:
        self.K, self.at = program.K, at

    def forward(self, v: Tensor) -> Tensor:
        return self.K.forward(v, self.at)

    def adjoint(self, q: Tensor) -> Tensor:
        return self.K.adjoint(q, self.at)
