"""The working set of a least-absolute program.

While it is small, it is solved by an interior-point method. Where K is followed by what is not sample by sample, or
variables are very many, by an augmented Lagrangian, with steps in the metric of K's Gram matrix or of the patches.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.groups import Some, cut
from mrirecon.convex.interior import Path
from mrirecon.convex.metric import Metric, PatchMetric, metric_of, sampled
from mrirecon.convex.multipliers import rounded
from mrirecon.convex.operator import Operator

DENSE = 6000  # variables up to which a matrix pays: 288 MB, and three seconds to factor on one core
NEAR = 0.9  # of beta: groups whose gradients are shorter leave where they are zero, to join again if need be
STEPS = 80  # of the interior-point method; ten to twenty are usual
STUCK = 10  # steps without a better gap: rounding allows no more
PATIENCE = 100  # looks at the gap without a better one by a tenth: rounding, or the error of K, allows no more


class Absolute(Protocol):
    """What is needed of :class:`mrirecon.convex.least_absolute.LeastAbsolute`."""

    K: Operator
    b: Tensor
    beta: float

    @property
    def moments(self) -> Tensor: ...
    @property
    def leverages(self) -> Tensor: ...
    def certify(self, v: Tensor, at: Tensor, theta: Tensor | None = None) -> tuple[Certificate, Tensor]: ...
    def worth(self, v: Tensor, gradient: Tensor, r: Tensor, theta: Tensor) -> Certificate: ...


class AbsoluteSet:
    """Groups that join, and leave when they are far from being active; with multipliers theta (n,) of the residual."""

    rough = 0.01

    def __init__(self, program: Absolute) -> None:
        self.program = program
        self.groups = torch.zeros(0, dtype=torch.int64, device=program.K.gates.device)
        self.near = torch.zeros(0, dtype=torch.bool, device=program.K.gates.device)
        self.theta: Tensor | None = None
        self.reached = float("inf")

    @staticmethod
    def memory(samples: int, variables: int, size: int) -> int:
        """Bytes that solving takes, at most, with numbers of ``size`` bytes in the passes over the data."""
        return samples * (8 * size + 30 * 8) + 6 * 8 * min(variables, DENSE) ** 2

    def certify(self, v: Tensor, at: Tensor) -> tuple[Certificate, Tensor]:
        proof, gradient = self.program.certify(v, at, self.theta)
        self.reached = proof.primal
        return proof, gradient

    def join(self, new: Tensor) -> None:
        if len(new):
            self.groups = torch.cat([self.groups[self.near], new])

    def solved(self, v: Tensor, tolerance: float) -> Tensor:
        K, start, beta = Some(self.program.K, self.groups), v[self.groups], self.program.beta
        dense = len(self.groups) * v.shape[1] <= DENSE
        if dense and self.program.K.exact:
            filters, y, theta, value = self._interior(K, start, tolerance)
        else:
            filters, y, theta, value = self._rounded(K, start, tolerance, dense)
        if value > self.reached:  # within the tolerance: it is the multipliers that were missing
            filters = start
        self.near = (filters.norm(dim=1) > 0) | (y.norm(dim=1) > NEAR * beta)
        self.theta = theta.to(self.program.b)
        out = torch.zeros_like(v)
        out[self.groups] = filters
        return out

    def _interior(self, K: Some, start: Tensor, tolerance: float) -> tuple[Tensor, Tensor, Tensor, float]:
        program = self.program
        path = Path(K, program.b, program.beta, start, program.leverages)
        best, since = float("inf"), 0
        for _ in range(STEPS):
            theta = path.theta
            proof = program.worth(path.v, path.y, path.r, theta)
            since += 1
            if proof.gap < best:
                best, since = proof.gap, 0
                found = path.v, path.y, theta, proof.primal
            if proof.gap <= tolerance:
                sparse = self._sparse(K, path, tolerance)
                if sparse is not None:
                    return sparse[0], path.y, theta, sparse[1]
            if proof.gap <= 0.1 * tolerance or since == STUCK or not path.advance():
                break
        return found

    def _sparse(self, K: Some, path: Path, tolerance: float) -> tuple[Tensor, float] | None:
        """The filters without groups that are zero at the minimum, and F there, if they are as good."""
        program = self.program
        for least in (1.0, 1e-2, 1e-4):
            v = cut(path.v, path.y, program.beta, least)
            proof = program.worth(v, path.y, K.forward(v) - program.b, path.theta)
            if proof.gap <= tolerance:
                return v, proof.primal
        return None

    def _rounded(self, K: Some, start: Tensor, tolerance: float, dense: bool) -> tuple[Tensor, Tensor, Tensor, float]:
        program = self.program
        moments = program.moments
        metric: Metric = PatchMetric(moments)
        if dense:
            weights = sampled(program.K)
            metric = metric_of(K.gram(weights), weights, moments, max(self.rough * tolerance, 1e-10))
        best, since = float("inf"), 0
        for look in rounded(K, program.b, program.beta, start, metric):
            proof = program.worth(look.v, look.y, look.r, look.theta)
            best, since = (proof.gap, 0) if proof.gap < 0.9 * best else (best, since + 1)
            if proof.gap <= tolerance or since == PATIENCE:
                break
        return look.v, look.y, look.theta, proof.primal
