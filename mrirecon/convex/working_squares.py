"""The working set of a least-squares program.

While it is small, its program is a dense quadratic; else it takes accelerated proximal gradients. Where samples are
many, or K's Gram matrix is not exact, these go in the metric of a Gram matrix, estimated from a part of the samples,
and some ten of them do, whatever the condition. In single precision they end what the quadratic begins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.first_order import EVERY, Squared, descended
from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.groups import Some, grown_gram, part, times
from mrirecon.convex.metric import Metric, PatchMetric, metric_of, sampled
from mrirecon.convex.operator import ENTRIES
from mrirecon.convex.working_set import JOINING
from mrirecon.errors import InputError

NEAR = 0.9  # of beta: groups whose gradients are shorter leave where they are zero, to join again if need be
DENSE = 10_000  # variables up to which the Gram matrix pays: 800 MB, and five seconds to factor on two cores


class SquaresSet:
    """Groups that join, and leave when they are far from being active, with their Gram matrix Q."""

    def __init__(self, program: Squared) -> None:
        self.program = program
        device, d = program.K.gates.device, program.K.gates.shape[1]
        self.weights = sampled(program.K)
        # A step in the metric of an estimate is a part of the way, however exact it is: the next one mends it.
        self.rough = 0.01 if self.weights is None else 0.1
        self.exact = program.K.exact and self.weights is None
        self.groups = torch.zeros(0, dtype=torch.int64, device=device)
        self.near = torch.zeros(0, dtype=torch.bool, device=device)
        self.on = self.near
        self.joined = False
        self.Q: Tensor | None = torch.zeros(0, d, 0, d, dtype=torch.float64, device=device)
        self.gradient = torch.zeros(0, d, dtype=torch.float64, device=device)  # of the loss, where certified last
        self.loss = 0.0
        self.theta: Tensor | None = None  # the residual as iterations added it up, in double precision

    @staticmethod
    def memory(samples: int, variables: int, size: int) -> int:
        """Bytes that solving takes, at most, with numbers of ``size`` bytes in the passes over the data.

        Matrices are Q, the metric's with a factor, and of a Newton step the part of Q, H, a factor, and what LAPACK
        copies; and an eighth for what the allocator leaves between them.
        """
        block = min(ENTRIES, samples * variables)
        return samples * (10 * size + 4 * 8) + block * size + 8 * 8 * min(variables, DENSE) ** 2

    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]:
        proof, self.gradient = self.program.certify(v, at, self.theta)
        self.loss = proof.primal - self.program.beta * float(v.norm(dim=1).sum())
        return proof, self.gradient

    def join(self, new: Tensor) -> None:
        self.joined = len(new) > 0
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

    def _leave(self) -> None:
        near, self.groups = self.near, self.groups[self.near]
        if self.Q is not None:
            self.Q = part(self.Q, near.nonzero()[:, 0])
        self.near = near[near]
        self.on = self.on[near]

    def solved(self, v: Tensor, tolerance: float) -> Tensor:
        """Filters of all groups that are the working set's solution; ``v`` is what was certified last."""
        program, out, start = self.program, torch.zeros_like(v), v[self.groups]
        self.theta = None
        if len(self.groups) == 0:
            return out
        x, gradient = self._quadratic(start, tolerance) or self._iterated(start, tolerance)
        self.on = x.any(1)
        self.near = self.on | (gradient.norm(dim=1) > NEAR * program.beta)
        out[self.groups] = x
        return out

    def _quadratic(self, start: Tensor, tolerance: float) -> tuple[Tensor, Tensor] | None:
        """Filters of the groups and their gradients, by the Gram matrix; None where it is not exact enough for that.

        In single precision it is not for the end of the way, and of patches that are much alike for none of it.
        """
        program, double = self.program, self.program.K.gates.dtype == torch.float64
        if self.Q is None or not self.exact or not (self.joined or double):
            return None
        guess = torch.ones_like(self.groups, dtype=torch.bool)
        guess[: len(self.near)] = start[: len(self.near)].any(1)
        # Around v, where loss and gradient are known from the data: rounding of Q counts for steps alone.
        g, Qv = self.gradient[self.groups], times(self.Q, start)
        constant = self.loss + float((start * (Qv / 2 - g)).sum())
        try:
            x = minimise_quadratic(self.Q, Qv - g, program.beta, constant, tolerance, guess)
        except InputError:
            if double:
                raise
            return None
        return x, times(self.Q, x - start) + g

    def _iterated(self, start: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Filters of the groups, and their gradients."""
        K = Some(self.program.K, self.groups)
        every = EVERY if self.Q is None else 2
        iterate, gradient, _ = descended(K, self.program, start, self._metric(tolerance), tolerance, every)
        self.theta = iterate.r
        return iterate.x, gradient

    def _metric(self, tolerance: float) -> Metric:
        """For a working set that is to be solved to ``tolerance``; its steps need not be much more exact than that."""
        moments = self.program.moments
        if self.Q is None:
            return PatchMetric(moments)
        return metric_of(self.Q, self.weights, moments, max(self.rough * tolerance, 1e-10))
