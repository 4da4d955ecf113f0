"""Least absolute deviations with a group lasso, by an augmented Lagrangian of the residual.

min_v  sum_n h(r_n) + beta sum_i ||v_i||,   r = K v - b
h(r) = max_theta  theta r - (theta - theta_0)^2 / (2 delta)  over |theta| <= 1;  theta = clamp(theta_0 + delta r)

h is |r| with a rounded corner. Once such a program is solved theta becomes the next theta_0, which moves the corners to
where they do no harm, so that delta need not grow. The programs are smooth, and solved by accelerated proximal
gradients, so K may be anything. Rockafellar 1976, doi:10.1287/moor.1.2.97.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.convex.accelerated import Linear, accelerated
from mrirecon.convex.metric import Metric

DELTA = 50  # over the mean residual at the start: corners are narrow, yet not so that steps become short
SHARE = 0.3  # of the gap: what a rounded program may lack before the corners move
EVERY = 4  # iterations between two looks


class Rounded:
    """sum_n h(r_n), a smooth loss of the residual."""

    def __init__(self, multipliers: Tensor, delta: float) -> None:
        self.multipliers, self.delta = multipliers, delta

    def gradient(self, r: Tensor) -> Tensor:
        """theta"""
        return (self.multipliers + self.delta * r).clamp_(-1, 1)

    def value(self, r: Tensor) -> float:
        theta = self.gradient(r)
        return _sum(theta * r) - self.charge(theta)

    def charge(self, theta: Tensor) -> float:
        """||theta - theta_0||^2 / (2 delta)"""
        return _sum((theta - self.multipliers).square()) / (2 * self.delta)

    def excess(self, r: Tensor, at: Tensor) -> float:
        moved = self.multipliers + self.delta * r
        theta, theta_at = moved.clamp(-1, 1), self.gradient(at)
        return _sum((theta - theta_at) * (2 * moved - theta - theta_at)) / (2 * self.delta)


@dataclass(frozen=True)
class Look:
    """Filters v (group, tap), their residual r, multipliers theta (n,), and y = K^T theta (group, tap)."""

    v: Tensor
    r: Tensor
    theta: Tensor
    y: Tensor


def rounded(K: Linear, b: Tensor, beta: float, start: Tensor, metric: Metric) -> Iterator[Look]:
    """Looks at what iterations have reached, without end: the caller stops. start: (group, tap), double precision."""
    v, theta, step = start, torch.zeros_like(b), 1.0
    delta = DELTA / max(float((K.forward(v) - b).abs().mean()), 1e-300)
    while True:
        loss = Rounded(theta, delta)
        for number, iterate in enumerate(accelerated(K, b, loss, beta, v, metric, step / delta), start=1):
            if number % EVERY:
                continue
            moved = loss.gradient(iterate.r)
            y = K.adjoint(moved)
            yield Look(iterate.x, iterate.r, moved, y)
            allowed = min(1.0, beta / max(float(y.norm(dim=1).max()), 1e-300)) * moved
            dual = -_sum(allowed * b)
            primal = _sum(iterate.r.abs()) + beta * float(iterate.x.norm(dim=1).sum())
            if iterate.objective - dual + loss.charge(allowed) <= SHARE * (primal - dual):
                break
        v, theta, step = iterate.x, moved, iterate.step * delta


def _sum(a: Tensor) -> float:
    return float(a.sum(dtype=torch.float64))
