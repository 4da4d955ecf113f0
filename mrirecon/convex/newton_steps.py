"""Newton steps of the groups that are not zero, with a matrix that is factored as seldom as pays.

The step -H^-1 g with H = Q + blocks (beta / ||v_i||) (I - n_i n_i^T), n_i = v_i / ||v_i||

From one step to the next few groups come or go, and what is added to Q changes a little. Where the matrix is large,
conjugate gradients preconditioned by the last factor reach the step in some ten iterations, each at the cost of two
triangular solves and a product; where they would need more, the matrix is factored anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mrirecon.convex.groups import times

LARGE = 4000  # variables of a step from which a factor is used again
MOST = 30  # iterations; with 5,000 variables they take as long as to factor anew, with more less
ACCURACY = 1e-4  # of the residual relative to the gradient, both in the norm of the preconditioner's inverse


class NewtonSteps:
    """Steps for one Q, (group, tap, group, tap), symmetric, whatever the linear term."""

    def __init__(self, Q: Tensor) -> None:
        self.Q = Q
        self.factor: Tensor | None = None
        self.factored = torch.zeros(0, dtype=torch.int64, device=Q.device)  # groups, in the factor's order

    def step(self, at: Tensor, q: Tensor, g: Tensor, n: Tensor, bends: Tensor) -> Tensor | None:
        """Of groups ``at``, (group, tap); or None where there is none, as H is not positive definite.

        q: their part of Q. g, n: gradients and directions (group, tap). bends: beta / ||v_i||, (group,).
        """
        blocks = bends[:, None, None] * (torch.eye(g.shape[1]).to(g) - n[:, :, None] * n[:, None, :])
        large = g.numel() >= LARGE
        if large and self.factor is not None:
            found = _conjugate_gradients(q, blocks, g, self._preconditioner(at, q, blocks))
            if found is not None:
                return -found
        self.factor = None  # its memory is needed
        H, own = q.clone(), torch.arange(len(g), device=g.device)
        H[own, :, own] += blocks
        factor, info = torch.linalg.cholesky_ex(H.reshape(g.numel(), g.numel()))
        del H
        if bool(info):
            return None
        if large:
            self.factor, self.factored = factor, at
        return -torch.cholesky_solve(g.reshape(-1, 1), factor).reshape(g.shape)

    def _preconditioner(self, at: Tensor, q: Tensor, blocks: Tensor) -> Callable[[Tensor], Tensor]:
        """The last factor's inverse, cut to the groups that are still there; those that came have their own blocks."""
        assert self.factor is not None
        factor, size = self.factor, (len(self.factored), q.shape[1])
        place = torch.full((len(self.Q),), -1, device=at.device)
        place[self.factored] = torch.arange(len(self.factored), device=at.device)
        where = place[at]
        stays, came = (where >= 0).nonzero()[:, 0], (where < 0).nonzero()[:, 0]
        inverses, _ = torch.linalg.inv_ex(q[came, :, came] + blocks[came])
        where = where[stays]

        def apply(r: Tensor) -> Tensor:
            out, whole = torch.empty_like(r), r.new_zeros(size)
            whole[where] = r[stays]
            # Not by cholesky_solve, which copies the factor.
            half = torch.linalg.solve_triangular(factor, whole.reshape(-1, 1), upper=False)
            out[stays] = torch.linalg.solve_triangular(factor.mT, half, upper=True).reshape(size)[where]
            out[came] = (inverses @ r[came, :, None])[..., 0]
            return out

        return apply


def _conjugate_gradients(
    q: Tensor, blocks: Tensor, g: Tensor, precondition: Callable[[Tensor], Tensor]
) -> Tensor | None:
    """H^-1 g with H = q + blocks, or None where that takes too many iterations, or rounding does not allow it."""
    x, r = torch.zeros_like(g), g
    p = z = precondition(r)
    first = left = float((r * z).sum())
    for _ in range(MOST):
        Hp = times(q, p) + (blocks @ p[..., None])[..., 0]
        curvature = float((p * Hp).sum())
        if not curvature > 0:
            return None
        x, r = x + left / curvature * p, r - left / curvature * Hp
        z = precondition(r)
        now = float((r * z).sum())
        if not now >= 0:
            return None
        if now <= ACCURACY**2 * first:
            return x
        p, left = z + now / left * p, now
    return None
