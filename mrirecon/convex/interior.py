"""Least absolute deviations with a group lasso, by a primal-dual interior-point method.

min_v  sum_n |(K v - b)_n| + beta sum_i ||v_i||

With r = K v - b = p - q, p, q >= 0, and multipliers theta of r, the minimum is where p (1 - theta) = 0,
q (1 + theta) = 0, K_i^T theta = y_i, and (t_i, v_i) o (beta, y_i) = 0 in second-order cones. On the way the products
are mu, which falls, and all else is exact: theta is allowed, and proves a lower bound, in every step. A step solves

(K^T D K + blocks) dv = ...,   D = 1 / (p / (1 - theta) + q / (1 + theta))

D is small where a residual is large, so few samples carry the matrix. It is built from these, drawn by what they weigh,
and factored; conjugate gradients with the true K do the rest, a handful of them. Ten to twenty steps, whatever the
condition of the patches. Mehrotra 1992; Portnoy and Koenker 1997, doi:10.1214/ss/1030037960, for absolute deviations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrirecon.convex.second_order import Centring, longest

SAMPLED, PART = 4, 0.01  # samples of a step's matrix: so many for each variable, and at least this part of all
ITERATIONS, RESIDUAL = 40, 1e-3  # of conjugate gradients


class Gated(Protocol):
    """K of the groups, as :class:`mrirecon.convex.groups.Some` is; dtype: of its passes over the data."""

    @property
    def dtype(self) -> torch.dtype: ...
    def forward(self, v: Tensor) -> Tensor: ...
    def adjoint(self, q: Tensor) -> Tensor: ...
    def gram(self, weights: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Direction:
    """Of a Newton step: s = (t, v) and z = (beta, y) of the groups; r, p, q, theta of the samples."""

    s: Tensor
    z: Tensor
    r: Tensor
    p: Tensor
    q: Tensor
    theta: Tensor


class Path:
    """A point on the way to the minimum: filters v and gradients y (group, tap), residual r and multipliers theta (n,).

    start: v (group, tap), in double precision. leverages: (n,), as :meth:`Operator.leverages` has them.
    """

    def __init__(self, K: Gated, b: Tensor, beta: float, start: Tensor, leverages: Tensor) -> None:
        self.K, self.leverages = K, leverages
        self.r = K.forward(start).double() - b.double()
        norms = start.norm(dim=1, keepdim=True)
        # theta = 0 proves nothing yet, but it is inside all bounds; v may be anything, and a good one saves steps.
        mu = (float(self.r.abs().sum()) + beta * float(norms.sum())) / (2 * len(b) + len(start))
        self.mu_start = mu
        middle = (self.r.square() / 4 + mu * mu).sqrt()
        self.p, self.q = middle + self.r / 2, middle - self.r / 2
        self.above, self.below = torch.ones_like(self.r), torch.ones_like(self.r)  # 1 - theta and 1 + theta
        self.s = torch.cat([norms + mu / beta, start], 1)
        self.z = torch.cat([torch.full_like(norms, beta), torch.zeros_like(start)], 1)

    @property
    def theta(self) -> Tensor:
        return (self.below - self.above) / 2

    @property
    def v(self) -> Tensor:
        return self.s[:, 1:]

    @property
    def y(self) -> Tensor:
        return self.z[:, 1:]

    def advance(self) -> bool:
        """One step; False where rounding allows none."""
        newton = _Newton(self)
        if newton.failed:
            return False
        far = newton.direction(newton.cones.predictor(), -self.p * self.above, -self.q * self.below)
        left = 1 - min(self._longest(far))
        mu = left**3 * self.mu
        across = far.theta * far.p, far.theta * far.q
        aim = newton.cones.corrector(far.s, far.z, mu)
        del far
        aim_p, aim_q = mu - self.p * self.above + across[0], mu - self.q * self.below - across[1]
        d = newton.direction(aim, aim_p, aim_q)
        if not bool(torch.isfinite(d.s).all() and torch.isfinite(d.theta).all()):
            return False
        primal, dual = (0.99 * a for a in self._longest(d))
        self.s, self.z = self.s + primal * d.s, self.z + dual * d.z
        self.r, self.p, self.q = self.r + primal * d.r, self.p + primal * d.p, self.q + primal * d.q
        self.above, self.below = self.above - dual * d.theta, self.below + dual * d.theta
        return True

    @property
    def mu(self) -> float:
        samples = self.p * self.above + self.q * self.below
        return (float(samples.sum()) + float((self.s * self.z).sum())) / (2 * len(self.r) + len(self.s))

    def _longest(self, d: Direction) -> tuple[float, float]:
        """Steps of the primal and of the dual variables, each at most 1, that stay inside."""
        primal = torch.maximum(-d.p / self.p, -d.q / self.q).max()
        dual = torch.maximum(d.theta / self.above, -d.theta / self.below).max()
        return (
            min(longest(self.s, d.s), 1 / max(1.0, float(primal))),
            min(longest(self.z, d.z), 1 / max(1.0, float(dual))),
        )


class _Newton:
    """The Newton system at a point."""

    def __init__(self, at: Path) -> None:
        self.at, self.cones = at, Centring(at.s, at.z)
        self.D = 1 / (at.p / at.above + at.q / at.below)
        Q = at.K.gram(self._weights())
        w, d = at.v.shape
        own = torch.arange(w, device=Q.device)
        Q[own, :, own] += self.cones.inverse
        self.factor, info = torch.linalg.cholesky_ex(Q.reshape(w * d, w * d))
        self.failed = bool(info) or self.cones.failed
        self.residual = max(min(RESIDUAL, 0.01 * at.mu / at.mu_start), 10 * torch.finfo(at.K.dtype).eps)

    def direction(self, aim: Tensor, aim_p: Tensor, aim_q: Tensor) -> Direction:
        """Where s o z, p (1 - theta) and q (1 + theta) change by what is aimed at."""
        at = self.at
        a, b = at.above, at.below
        w = aim_p / a - aim_q / b
        pull = at.K.adjoint(self.D * w)
        dv, dr, Qdv = self._solved(self.cones.right(aim) + pull)
        dtheta = self.D * (dr - w)
        ds, dz = self.cones.completed(aim, dv, Qdv - pull)
        return Direction(ds, dz, dr, (aim_p + at.p * dtheta) / a, (aim_q - at.q * dtheta) / b, dtheta)

    def _weights(self) -> Tensor:
        """D, or of many samples an estimate by some of them, drawn by D and the leverage of their patches."""
        n = len(self.D)
        wanted = max(SAMPLED * self.at.v.numel(), PART * n)
        if n <= 2 * wanted:
            return self.D
        share = self.D * self.at.leverages
        surely, n_surely = torch.zeros_like(share, dtype=torch.bool), 0
        while True:  # what a few samples cannot take of all chances is for the others, or these would not be seen
            chance = share * ((wanted - n_surely) / share.masked_fill(surely, 0).sum().clamp_min(1e-300))
            surely = surely | (chance >= 1)
            before, n_surely = n_surely, int(surely.sum())
            if n_surely == before:
                break
        chance = chance.masked_fill(surely, 1)
        drawn = torch.rand(n, generator=torch.Generator().manual_seed(0)).to(chance) < chance
        return torch.where(drawn, self.D / chance, 0.0)

    def _solved(self, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dv, K dv and K^T D K dv, by conjugate gradients."""
        x, Qx = torch.zeros_like(right), torch.zeros_like(right)
        Kx = torch.zeros_like(self.D)
        res, p, last, first = right, torch.zeros_like(right), 1.0, 0.0
        for number in range(ITERATIONS):
            h = torch.cholesky_solve(res.reshape(-1, 1), self.factor).reshape(res.shape)
            now = float((res * h).sum())
            first = first or now
            if now <= self.residual**2 * first:
                break
            p = h + (now / last if number else 0.0) * p
            Kp = self.at.K.forward(p).double()
            Qp = self.at.K.adjoint(self.D * Kp)
            Hp = Qp + (self.cones.inverse @ p[:, :, None])[:, :, 0]
            step = now / float((p * Hp).sum())
            x, Kx, Qx, res, last = x + step * p, Kx + step * Kp, Qx + step * Qp, res - step * Hp, now
        return x, Kx, Qx
