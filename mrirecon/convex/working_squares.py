"""The working set of a least-squares program.

While it is small, its program is a dense quadratic; else it takes accelerated proximal gradients. Where samples are
many, or K's Gram matrix is not exact, these go in the metric of a Gram matrix, estimated from a part of the samples,
and some ten of them do, whatever the condition.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mrirecon.convex.accelerated import Squares, accelerated
from mrirecon.convex.certificate import Certificate
from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.groups import Some, grown_gram, times
from mrirecon.convex.metric import GramMetric, Metric, PatchMetric, guarded, sampled
from mrirecon.convex.operator import Operator
from mrirecon.convex.working_set import JOINING

NEAR = 0.9  # of beta: groups whose gradients are shorter leave where they are zero, to join again if need be
DENSE = 8000  # variables up to which the Gram matrix pays: 512 MB, and some seconds to factor on two cores
PATIENCE = 20  # looks at the gap without a better one by a tenth: rounding, or the error of K, allows no more


class Squared(Protocol):
    """What is needed of :class:`mrirecon.convex.least_squares.LeastSquares`."""

    K: Operator
    b: Tensor
    beta: float

    @property
    def bb(self) -> float: ...
    @property
    def moments(self) -> Tensor: ...
    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]: ...
    def worth(self, v: Tensor, gradient: Tensor, r: Tensor) -> Certificate: ...


class SquaresSet:
    """Groups that join, and leave when they are far from being active, with their Gram matrix Q."""

    def __init__(self, program: Squared) -> None:
        self.program = program
        device, d = program.K.gates.device, program.K.gates.shape[1]
        self.weights = sampled(program.K)
        self.exact = program.K.exact and self.weights is None
        self.groups = torch.zeros(0, dtype=torch.int64, device=device)
        self.near = torch.zeros(0, dtype=torch.bool, device=device)
        self.on = self.near
        self.Q: Tensor | None = torch.zeros(0, d, 0, d, dtype=torch.float64, device=device)
        self.c = torch.zeros(0, d, dtype=torch.float64, device=device)

    @staticmethod
    def memory(samples: int, variables: int, size: int) -> int:
        """Bytes that solving takes, at most, with numbers of ``size`` bytes in the passes over the data."""
        return samples * (8 * size + 2 * 8) + 7 * 8 * min(variables, DENSE) ** 2

    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]:
        return self.program.certify(v, at)

    def join(self, new: Tensor) -> None:
        if len(new) == 0:
            return
        K, d = self.program.K, self.program.K.gates.shape[1]
        if self.Q is not None and len(self.groups):
            # Where room for the matrix is short, those that are zero leave, and those that are wanted most come.
            tight = (int(self.near.sum()) + len(new)) * d > DENSE
            self.near = self.on if tight else self.near
            new = new[: max(JOINING, DENSE // d - int(self.near.sum()))]
        self._leave()
        old = self.groups
        self.groups = torch.cat([old, new])
        if self.Q is None or len(self.groups) * d > DENSE:
            self.Q = None
            return
        self.Q = grown_gram(K, self.Q, old, new, self.weights)
        if self.exact:
            self.c = torch.cat([self.c, K.adjoint(self.program.b, new)])

    def _leave(self) -> None:
        near, self.groups = self.near, self.groups[self.near]
        if self.Q is not None:
            self.Q, self.c = self.Q[near][:, :, near], self.c[near] if self.exact else self.c
        self.near = near[near]
        self.on = self.on[near]

    def solved(self, v: Tensor, tolerance: float) -> Tensor:
        """Filters of all groups that are the working set's solution; ``v`` is where iterations start."""
        program, out, start = self.program, torch.zeros_like(v), v[self.groups]
        if self.Q is not None and self.exact:
            guess = torch.ones_like(self.groups, dtype=torch.bool)
            guess[: len(self.near)] = start[: len(self.near)].any(1)
            x = minimise_quadratic(self.Q, self.c, program.beta, program.bb / 2, tolerance, guess)
            gradient = times(self.Q, x) - self.c
        else:
            x, gradient = self._iterated(start, tolerance)
        self.on = x.any(1)
        self.near = self.on | (gradient.norm(dim=1) > NEAR * program.beta)
        out[self.groups] = x
        return out

    def _iterated(self, start: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Filters of the groups, and their gradients."""
        program, K = self.program, Some(self.program.K, self.groups)
        metric: Metric
        if self.Q is None:
            metric = PatchMetric(program.moments)
        else:
            Q = self.Q if self.weights is None else guarded(self.Q, program.moments)
            metric = GramMetric(Q, max(0.01 * tolerance, 1e-10))
        every = 25 if self.Q is None else 2
        best, since = float("inf"), 0
        for number, iterate in enumerate(accelerated(K, program.b, Squares(), program.beta, start, metric)):
            if number % every == every - 1:
                gradient = K.adjoint(iterate.r)
                gap = program.worth(iterate.x, gradient, iterate.r).gap
                best, since = (gap, 0) if gap < 0.9 * best else (best, since + 1)
                if gap <= tolerance or since == PATIENCE:
                    break
        return iterate.x, gradient
