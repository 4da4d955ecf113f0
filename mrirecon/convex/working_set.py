"""Programs with a group lasso over many groups, few of which are active: solved to a certificate.

min_v  L(K v - b) + beta sum_i ||v_i||

Rounds: one pass over the data gives the residual and the gradients of all groups, and with them the certificate. The
groups whose gradients exceed beta most join the working set, and the program of the working set is solved, by the
method that the loss has for it. Johnson and Guestrin 2015 (Blitz); Massias et al. 2018 (Celer).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.operator import Operator
from mrirecon.errors import InputError

FIRST = 1500  # variables of the first working set; a smaller program is solved whole
JOINING = 10  # groups of a later round, at least; as many as are active, at most
ROUNDS = 60
PATIENCE = 2  # rounds without a new group, or a gap that is smaller by a half


@dataclass(frozen=True)
class Solution:
    """Filters (gate, tap), in double precision, zero where a group is not active; and what they are worth."""

    filters: Tensor
    certificate: Certificate


class WorkingSet(Protocol):
    """Some groups of a program, and how their program is solved.

    groups: their numbers; all others were zero in what ``solved`` gave last.
    rough: part of the gap that is small enough: to that the set is solved while groups are missing.
    """

    @property
    def groups(self) -> Tensor: ...
    @property
    def rough(self) -> float: ...
    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]:
        """The certificate of filters v that are zero but for groups ``at``; and the gradients of all, (gate, tap)."""

    def join(self, new: Tensor) -> None:
        """Add groups."""

    def solved(self, v: Tensor, tolerance: float) -> Tensor:
        """Filters of all groups that are the working set's solution to a relative gap; ``v`` was certified last."""


class Program(Protocol):
    """A convex loss of K v - b with the group lasso beta sum_i ||v_i||."""

    @property
    def K(self) -> Operator: ...
    @property
    def beta(self) -> float: ...
    @property
    def largest_strength(self) -> float: ...
    def at(self, beta: float) -> Self: ...
    def objective(self, v: Tensor) -> float: ...
    def working_set(self) -> WorkingSet: ...


def solve(
    program: Program,
    tolerance: float = 1e-5,
    start: Tensor | None = None,
    report: Callable[[Solution], object] = lambda solution: None,
) -> Solution:
    """The filters whose certificate has a relative gap of at most ``tolerance``.

    start: filters (gate, tap) of a program alike, whose active groups are the first working set.
    report: called with what every round starts from.

    Raises InputError where rounding, the error of K, or progress that is too slow keeps the gap above the tolerance.
    """
    K = program.K
    gates, d = K.gates.shape
    device = K.gates.device
    v = torch.zeros(gates, d, dtype=torch.float64, device=device) if start is None else start.double().to(device)
    at = v.norm(dim=1).nonzero()[:, 0]
    inner = program.working_set()
    best, idle = float("inf"), 0
    for _ in range(ROUNDS):
        proof, gradient = inner.certify(v, at)
        solution = Solution(v, proof)
        report(solution)
        gap = abs(proof.gap)  # below 0 it is rounding, which must not be larger either
        if gap <= tolerance:
            return solution
        new = _joining(gradient.norm(dim=1), program.beta, inner.groups, at, d)
        idle = idle + 1 if len(new) == 0 and gap >= best / 2 else 0
        if idle == PATIENCE:
            break
        best = min(best, gap)
        inner.join(new)
        # While groups are missing, more accuracy would be lost on the wrong set.
        missing = len(new) > 0 and len(inner.groups) < gates
        v = inner.solved(v, max(0.3 * tolerance, inner.rough * min(0.1, gap) if missing else 0.0))
        at = v.norm(dim=1).nonzero()[:, 0]
    remedies = ["lower convex.cg_tolerance"] if K.error else []
    double = K.gates.dtype == torch.float64
    remedies += ["use a larger strength" if double else "use float64 (--convex.precision float64)"]
    raise InputError(
        f"the program was solved to a relative gap of {proof.gap:.1e} and no further, {tolerance:.1e} was asked for; "
        f"{', '.join(remedies)}, or ask for a larger tolerance"
    )


def _joining(lengths: Tensor, beta: float, groups: Tensor, at: Tensor, d: int) -> Tensor:
    """The groups that join the working set: at first all that are active, and those of the longest gradients."""
    least = max(1, FIRST // d)
    if len(groups):
        most = max(JOINING, len(at))
        wanted = torch.where(lengths > beta, lengths, 0.0)
    else:
        most = max(least, 2 * len(at))
        wanted = torch.where((lengths > beta) | (len(lengths) <= most), lengths.clamp_min(1e-300), 0.0)
        wanted[at] = torch.inf
    wanted[groups] = 0
    order = wanted.argsort(descending=True, stable=True)[:most]
    return order[wanted[order] > 0]
