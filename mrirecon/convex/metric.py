"""Metrics of proximal steps: how far filters move is measured so that all directions are about equally steep.

new = argmin_v  <g, v - z> + 1 / (2 step) (v - z)^T M (v - z) + beta sum_i ||v_i||

The penalty stays the ordinary norm of the filters; only the way to the minimum changes, so the solution and its
certificate do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.groups import times
from mrirecon.convex.newton_steps import NewtonSteps
from mrirecon.convex.operator import Operator
from mrirecon.errors import InputError

HALVINGS = 60
SAMPLED = 40_000  # samples from which the Gram matrix of more than twice as many is estimated, to serve as a metric
GUARD = 0.01
RIDGES = (1e-10, 1e-8, 1e-6, 1e-4)  # of the mean diagonal


class Metric(Protocol):
    """Filters, gradients and results are (group, tap)."""

    def inner(self, a: Tensor, b: Tensor) -> float:
        """a^T M b"""

    def step(self, z: Tensor, g: Tensor, step: float, beta: float) -> Tensor:
        """The proximal step from z with the gradient g."""


@dataclass(frozen=True)
class Euclidean:
    """M = I: the block soft threshold of z - step g."""

    def inner(self, a: Tensor, b: Tensor) -> float:
        return float((a * b).sum())

    def step(self, z: Tensor, g: Tensor, step: float, beta: float) -> Tensor:
        u = z - step * g
        norms = u.norm(dim=1, keepdim=True)
        return torch.where(norms > step * beta, u * (1 - step * beta / norms.clamp_min(1e-300)), 0.0)


class PatchMetric:
    """M = the patches' second moments, the same for every group: patches differ most in their mean, least in detail.

    In the eigenvectors of M = V diag(m) V^T the step is v_j = x_j / (m_j + step beta / s), x = M z - step g, with
    s = ||v||, which is found by halving an interval for all groups at once.
    """

    def __init__(self, moments: Tensor) -> None:
        m, self.vectors = torch.linalg.eigh(moments)
        self.m = m.clamp_min(1e-6 * m[-1])  # directions that hardly occur: still a metric, and never an endless step

    def inner(self, a: Tensor, b: Tensor) -> float:
        return float(((a @ self.vectors) * self.m * (b @ self.vectors)).sum())

    def step(self, z: Tensor, g: Tensor, step: float, beta: float) -> Tensor:
        all_x = (z @ self.vectors) * self.m - step * (g @ self.vectors)
        threshold = step * beta
        on = all_x.norm(dim=1) > threshold  # zero is the minimum elsewhere
        x = all_x[on]
        # s = ||v|| is where sum_j (x_j / (m_j s + threshold))^2 = 1, a falling function of s
        low = torch.zeros_like(x[:, :1])
        high = x.norm(dim=1, keepdim=True) / self.m[0]
        for _ in range(HALVINGS):
            s = (low + high) / 2
            above = (x / (self.m * s + threshold)).square().sum(1, keepdim=True) > 1
            low, high = torch.where(above, s, low), torch.where(above, high, s)
        v = torch.zeros_like(z)
        v[on] = (x * high / (self.m * high + threshold)) @ self.vectors.T
        return v


class GramMetric:
    """M = Q, an estimate or a bound of K^T K: the step is a group lasso of a dense quadratic, solved to ``tolerance``.

    With K^T K itself and squares as loss a single step of 1 would be the solution.
    """

    def __init__(self, Q: Tensor, tolerance: float = 1e-9) -> None:
        self.Q, self.tolerance = Q, tolerance
        matrix = Q.reshape(Q.shape[0] * Q.shape[1], -1)
        # Of smooth images some directions are hardly there, and rounding of single precision may turn their sign.
        for ridge in RIDGES:
            raised = matrix.clone()
            raised.diagonal().add_(ridge * matrix.diagonal().mean())
            self.factor, failed = torch.linalg.cholesky_ex(raised)
            if not bool(failed):
                self.Q = raised.reshape(Q.shape)
                self.newton = NewtonSteps(self.Q)
                return
        raise InputError("the patches are so much alike that rounding hides how they differ; use double precision")

    def inner(self, a: Tensor, b: Tensor) -> float:
        return float((a * times(self.Q, b)).sum())

    def step(self, z: Tensor, g: Tensor, step: float, beta: float) -> Tensor:
        c = times(self.Q, z) - step * g
        least = float((c.reshape(-1) * torch.cholesky_solve(c.reshape(-1, 1), self.factor)[:, 0]).sum()) / 2
        guess = (z.norm(dim=1) > 0) | (g.norm(dim=1) > beta)
        return minimise_quadratic(self.Q, c, step * beta, (1 + 1e-6) * least, self.tolerance, guess, z, self.newton)


def sampled(K: Operator) -> Tensor | None:
    """Weights (n,) of samples for an estimate of K^T K from some of them, drawn at random; None where all are few.

    Half of them are drawn by leverage: what tells gates and details apart is in few patches, those of edges.
    """
    if K.n < 2 * SAMPLED:
        return None
    leverages = K.leverages()
    chance = (SAMPLED / 2 * (1 / K.n + leverages / leverages.sum().clamp_min(1e-300))).clamp_max(1)
    kept = torch.rand(K.n, generator=torch.Generator().manual_seed(0)).to(chance) < chance
    return torch.where(kept, 1 / chance, 0.0)


def metric_of(Q: Tensor, weights: Tensor | None, moments: Tensor, accuracy: float) -> GramMetric:
    """The metric of K's Gram matrix Q, or of its estimate by ``weights`` of :func:`sampled`."""
    return GramMetric(Q if weights is None else guarded(Q, moments), accuracy)


def guarded(Q: Tensor, moments: Tensor) -> Tensor:
    """An estimate of the Gram matrix with a little of all patches, so that no direction is missing from it."""
    Q, own = Q.clone(), torch.arange(len(Q), device=Q.device)
    Q[own, :, own] += GUARD * moments
    return Q
