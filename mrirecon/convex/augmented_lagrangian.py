"""The convex program with cone constraints: with gates for all patterns, exactly a two-layer ReLU network's training.

min  1/2 ||K (w - z) - b||^2 + beta sum_i (||w_i|| + ||z_i||)   s.t.  (2 D_i - I) Y w_i >= 0, (2 D_i - I) Y z_i >= 0

Augmented Lagrangian: constraints are charged for with multipliers a >= 0 and a weight delta,
delta / 2 ||(a / delta - (2 D - I) Y x)_+||^2, the smooth program is solved by proximal Newton steps, and the
multipliers become a+ = delta (a / delta - (2 D - I) Y x)_+. They give the dual point too: for it, a group's gradient
counts less what its multipliers pull. Mishkin et al., ICML 2022, arXiv:2202.01331, section 4.

Groups and constraints join by and by. A group that is zero stays so where multipliers exist that pull its gradient
below beta, which the projection of the gradient on the cone tells; so zeros are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.cones import Cones
from mrirecon.convex.groups import grown_gram, times
from mrirecon.convex.kept import Kept
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.newton import proximal_newton
from mrirecon.convex.operator import GatedOperator
from mrirecon.convex.program import dot
from mrirecon.errors import InputError

ROUNDS, INNER = 200, 30
JOINING = 20  # groups of a round, at least
LEAST, IDLE = 1e-11, 5  # of the accuracy that is asked of a round, and rounds with that
# At the minimum a group is zero where its price, the length of its pulled gradient, is below beta. A group is taken to
# be zero where it is so short, relative to the longest, and so cheap, relative to beta; its next price tells.
SHORT, CHEAP = 0.01, 0.99


@dataclass(frozen=True)
class ConeSolution:
    """Filters w and z (gate, tap) in double precision, zero where a group is not active, and what they are worth.

    network: the objective of the ReLU network they are mapped to, which is the certificate's primal value but for the
        violation of constraints.
    """

    w: Tensor
    z: Tensor
    certificate: Certificate
    network: float


def solve_cones(
    program: LeastSquares,
    tolerance: float = 1e-5,
    report: Callable[[Certificate], object] = lambda certificate: None,
) -> ConeSolution:
    """Filters whose certificate has a gap, and a violation, of at most ``tolerance``.

    Filters that break constraints a little may have an objective below the least of those that keep them. So the ReLU
    network they are mapped to, which breaks none, must have the same objective, to ``tolerance`` too.

    Raises InputError for MoDL's programs, and where rounding or slow progress keeps these above the tolerance.
    """
    K, b, beta = program.K, program.b, program.beta
    if not isinstance(K, GatedOperator):
        raise InputError("cone constraints are for one-shot denoisers and proximal-gradient steps, not for MoDL's")
    gates, taps = K.gates.shape
    cones = Cones(K.patches, K.gates)
    kept = Kept(cones, 2 * gates)
    inner = _Inner(program, K, kept)
    x = torch.zeros(2 * gates, taps, dtype=torch.float64, device=K.gates.device)
    aim, idle = 1e-3, 0
    for _ in range(ROUNDS):
        w, z = x.chunk(2)
        r = K.forward(w - z) - b
        gradient = K.adjoint(r)
        gradient = torch.cat([gradient, -gradient])
        gradient = -kept.priced(-gradient, torch.arange(2 * gates, device=x.device), beta)
        proof = replace(program.worth(x, gradient, r, r), violation=cones.violation(x))
        report(proof)
        off = cones.rectified(w, z) - b
        network = dot(off, off) / 2 + beta * float(x.norm(dim=1).sum())
        apart = abs(network - proof.primal) / max(proof.primal, 1e-300)
        lengths, prices = x.norm(dim=1), gradient.norm(dim=1)
        spare = (lengths > 0) & (lengths < SHORT * lengths.max()) & (prices < CHEAP * beta)
        if max(abs(proof.gap), proof.violation, apart) <= tolerance and not bool(spare.any()):
            return ConeSolution(w, z, proof, network)
        on = (lengths > 0) & ~spare
        wanted = torch.where(on, 0.0, prices)
        new = wanted.argsort(descending=True, stable=True)[: max(JOINING, int(on.sum()))]
        on[new[wanted[new] > beta * (1 + 0.01 * tolerance)]] = True
        at = on.nonzero()[:, 0]
        # While groups or constraints are missing, more accuracy would be lost on the wrong ones; then each round asks
        # for more.
        missing = bool(kept.join(x[at], at).any()) or bool((lengths[at] == 0).any())
        usual = max(0.1 * tolerance, min(1e-3, 0.03 * max(abs(proof.gap), proof.violation, apart)))
        aim = usual if missing else max(min(usual, aim / 10), LEAST)
        idle += aim == LEAST
        if idle > IDLE:
            break
        x = torch.zeros_like(x).index_copy(0, at, inner.solved(x[at], at, aim))
    raise InputError(
        f"the constrained program came to a relative gap of {proof.gap:.1e} and a violation of {proof.violation:.1e}, "
        f"with a ReLU network whose objective is off by {apart:.1e}; {tolerance:.1e} was asked for; use double "
        "precision, or ask for a larger tolerance"
    )


class _Inner:
    """The program of some groups with the constraints that are kept; Q is the Gram matrix of gates that were needed."""

    def __init__(self, program: LeastSquares, K: GatedOperator, kept: Kept) -> None:
        self.program, self.K, self.kept = program, K, kept
        self.gates, d = torch.zeros(0, dtype=torch.int64, device=K.gates.device), K.gates.shape[1]
        self.Q = torch.zeros(0, d, 0, d, dtype=torch.float64, device=K.gates.device)
        self.c = K.adjoint(program.b)
        self.delta = float(K.moments().trace()) / d

    def solved(self, x: Tensor, at: Tensor, tolerance: float) -> Tensor:
        """Filters of groups ``at``, started at x (group, tap)."""
        gates = len(self.c)
        gate, sign = at % gates, torch.where(at < gates, 1.0, -1.0).to(self.Q)
        place = self._placed(gate)
        Q = self.Q[place][:, :, place] * sign[:, None, None, None] * sign[None, None, :, None]
        f = _Charged(Q, self.c[gate] * sign[:, None], self.program.bb / 2, self.kept, at, self.delta)
        before = float("inf")
        for _ in range(INNER):
            try:
                x = proximal_newton(f, self.program.beta, x, 0.1 * tolerance)
            except InputError:  # rounding; the certificate tells how far it came
                break
            self.kept.multipliers[at] = f.delta * self.kept.lack(x, at, f.delta)
            broken = self.kept.broken(x, at)
            if broken <= tolerance:
                break
            if broken > before / 4:
                f.delta *= 5
            before = broken
        self.delta = f.delta
        return x

    def _placed(self, gate: Tensor) -> Tensor:
        """Where gates are in Q, which takes those that are not yet."""
        new = gate.unique()
        new = new[~torch.isin(new, self.gates)]
        if len(new):
            self.Q = grown_gram(self.K, self.Q, self.gates, new)
            self.gates = torch.cat([self.gates, new])
        order = self.gates.argsort()
        return order[torch.searchsorted(self.gates[order], gate)]


@dataclass
class _Charged:
    """The smooth part: the quadratic of w - z, and the charge for constraints."""

    Q: Tensor
    c: Tensor
    constant: float
    kept: Kept
    at: Tensor
    delta: float

    def value(self, x: Tensor) -> float:
        quadratic = float((x * (times(self.Q, x) / 2 - self.c)).sum()) + self.constant
        return quadratic + self.delta / 2 * float(self.kept.lack(x, self.at, self.delta).square().sum())

    def derivatives(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lack, C = self.kept.lack(x, self.at, self.delta), self.kept.rows[self.at]
        g = times(self.Q, x) - self.c - self.delta * (lack[:, None, :] @ C)[:, 0]
        H, own = self.Q.clone(), torch.arange(len(x), device=x.device)
        H[own, :, own] += self.delta * (C.mT @ ((lack > 0)[:, :, None] * C))
        return g, H
