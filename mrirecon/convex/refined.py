"""Newton steps on the groups that are not zero, from filters that are near the minimum already.

min_v  1/2 v^T Q v - c^T v + beta sum_i ||v_i||        Q (group, tap, group, tap), c and v (group, tap)

Where no group is zero the objective is smooth, with second derivatives Q + blocks (beta / ||v_i||) (I - n_i n_i^T),
n_i = v_i / ||v_i||. A group comes when its gradient is too long for it to be zero. Where the groups are those of the
minimum, one to three steps reach any accuracy; where they are not, steps become short, and the interior-point method
does better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mrirecon.convex.groups import times

MOST, HALVINGS = 8, 4
PATIENCE = 3  # steps without a gap that is smaller by a half
ENOUGH = 1e-4  # of the decrease that a step promises
SHORT = 0.02  # length relative to the longest below which groups go where no step helps
FIRST = 1e-3  # length of a group that comes, relative to the longest: its first step gives it its own


def refined(
    v: Tensor, Q: Tensor, c: Tensor, beta: float, gap: Callable[[Tensor], float], tolerance: float
) -> tuple[Tensor, float]:
    """Filters, zero where groups are, with a ``gap`` of at most the tolerance, or the best on the way; and their gap.

    v: (group, tap). gap: relative duality gap of filters.
    """
    best, least = v, gap(v)
    since = 0
    for _ in range(MOST):
        slope = times(Q, v) - c
        lengths, pulls = v.norm(dim=1, keepdim=True), slope.norm(dim=1, keepdim=True)
        if least <= tolerance or not bool(lengths.any()):
            break
        comes = (lengths == 0) & (pulls > beta)
        v = torch.where(comes, -FIRST * lengths.max() * slope / pulls.clamp_min(1e-300), v)
        at = v.any(1).nonzero()[:, 0]
        step, failed = _step(v[at], Q[at][:, :, at], c[at], beta)
        if failed:
            short = (lengths > 0) & (lengths < SHORT * lengths.max())
            if not bool(short.any()):
                break
            v = torch.where(short | comes, 0.0, v)  # near zero the objective bends too much; they come if need be
            continue
        v = torch.zeros_like(v).index_copy(0, at, step)
        now = gap(v)
        since = 0 if now < least / 2 else since + 1
        if now < least:
            best, least = v, now
        if since == PATIENCE:
            break
    return best, least


def _step(x: Tensor, Q: Tensor, c: Tensor, beta: float) -> tuple[Tensor, bool]:
    """One Newton step for groups x, none of them zero; and whether there is none that helps."""
    lengths = x.norm(dim=1)
    n = x / lengths[:, None]
    g = times(Q, x) - c + beta * n
    H, own = Q.clone(), torch.arange(len(x), device=x.device)
    bend = torch.eye(x.shape[1]).to(x) - n[:, :, None] * n[:, None, :]
    H[own, :, own] += (beta / lengths)[:, None, None] * bend
    factor, info = torch.linalg.cholesky_ex(H.reshape(x.numel(), x.numel()))
    if bool(info):
        return x, True
    step = -torch.cholesky_solve(g.reshape(-1, 1), factor).reshape(x.shape)

    def objective(x: Tensor) -> float:
        return float((x * (times(Q, x) / 2 - c)).sum()) + beta * float(x.norm(dim=1).sum())

    now, promised, a = objective(x), float((g * step).sum()), 1.0
    for _ in range(HALVINGS):
        new = x + a * step
        # Past zero the objective is another: there the group stays, and is zero.
        new = torch.where((new * n).sum(1, keepdim=True) > 0, new, 0.0)
        if objective(new) <= now + ENOUGH * a * promised + 1e-14 * abs(now):
            return new, False
        a /= 2
    return x, True
