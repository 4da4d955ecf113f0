"""Metrics of proximal steps: how far a filter moves is measured so that all directions are about equally steep.

prox(u) = argmin_v  beta ||v_i|| summed over i  +  1 / (2 step) sum_i (v_i - u_i)^T M (v_i - u_i)

The penalty stays the ordinary norm of the filters; only the way to its minimum changes, so the solution and its
certificate do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HALVINGS = 60


@dataclass(frozen=True)
class Euclidean:
    """M = I: the proximal step is the block soft threshold v = u max(0, 1 - step beta / ||u||)."""

    def gradient(self, g: Tensor) -> Tensor:
        """M^-1 g, the direction of steepest ascent."""
        return g

    def inner(self, a: Tensor, b: Tensor) -> float:
        """sum_i a_i^T M b_i."""
        return float((a * b).sum())

    def prox(self, u: Tensor, threshold: float) -> Tensor:
        """The proximal step with step * beta = threshold."""
        norms = u.norm(dim=1, keepdim=True)
        return torch.where(norms > threshold, u * (1 - threshold / norms.clamp_min(1e-300)), 0.0)


class PatchMetric:
    """M = the patches' second moments, the same for every group: patches differ most in their mean, least in detail.

    In the eigenvectors of M = U diag(m) U^T the step is v_j = m_j u_j / (m_j + threshold / s) with s = ||v||, which is
    found by halving an interval for all groups at once.
    """

    def __init__(self, moments: Tensor) -> None:
        m, self.vectors = torch.linalg.eigh(moments)
        self.m = m.clamp_min(1e-6 * m[-1])  # directions that hardly occur: still a metric, and never an endless step

    def gradient(self, g: Tensor) -> Tensor:
        return (g @ self.vectors / self.m) @ self.vectors.T

    def inner(self, a: Tensor, b: Tensor) -> float:
        return float(((a @ self.vectors) * self.m * (b @ self.vectors)).sum())

    def prox(self, u: Tensor, threshold: float) -> Tensor:
        mu = (u @ self.vectors) * self.m
        on = mu.norm(dim=1) > threshold  # zero is the minimum where ||M u|| <= threshold
        z = mu[on]
        # s = ||v(s)|| is where sum_j (z_j / (m_j s + threshold))^2 = 1, a falling function of s
        low = torch.zeros_like(z[:, :1])
        high = z.norm(dim=1, keepdim=True) / self.m[0]
        for _ in range(HALVINGS):
            s = (low + high) / 2
            above = (z / (self.m * s + threshold)).square().sum(1, keepdim=True) > 1
            low, high = torch.where(above, s, low), torch.where(above, high, s)
        v = torch.zeros_like(u)
        v[on] = (z * high / (self.m * high + threshold)) @ self.vectors.T
        return v
