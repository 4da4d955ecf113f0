"""Newton steps on the groups that are not zero, from filters that are near the minimum already.

min_v  1/2 v^T Q v - c^T v + beta sum_i ||v_i||        Q (group, tap, group, tap), c and v (group, tap)

Where no group is zero the objective is smooth, with second derivatives Q + blocks (beta / ||v_i||) (I - n_i n_i^T),
n_i = v_i / ||v_i||. A group comes when its gradient is too long for it to be zero, and goes when a step would take it
past zero. Three to five steps reach any accuracy from where most of the groups are those of the minimum; where they are
not, the interior-point method does better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mrirecon.convex.groups import part, times
from mrirecon.convex.newton_steps import NewtonSteps

MOST, HALVINGS = 8, 4
PATIENCE = 3  # steps without a gap that is smaller by a half
DROPS = 4  # times that groups may go in a step
ENOUGH = 1e-4  # of the decrease that a step promises
FIRST = 1e-3  # length of a group that comes, relative to the longest: its first step gives it its own


def refined(
    v: Tensor, newton: NewtonSteps, c: Tensor, beta: float, gap: Callable[[Tensor], float], tolerance: float
) -> tuple[Tensor, float]:
    """Filters, zero where groups are, with a ``gap`` of at most the tolerance, or the best on the way; and their gap.

    v: (group, tap). newton: steps for Q. gap: relative duality gap of filters.
    """
    best, least = v, gap(v)
    since = 0
    for _ in range(MOST):
        slope = times(newton.Q, v) - c
        lengths, pulls = v.norm(dim=1, keepdim=True), slope.norm(dim=1, keepdim=True)
        if least <= tolerance or not bool(lengths.any()):
            break
        comes = (lengths == 0) & (pulls > beta)
        stepped = _stepped(
            torch.where(comes, -FIRST * lengths.max() * slope / pulls.clamp_min(1e-300), v), newton, c, beta
        )
        if stepped is None:
            break
        v, now = stepped, gap(stepped)
        since = 0 if now < least / 2 else since + 1
        if since:
            newton.factor = None  # perhaps it was a factor of another matrix that did not do
        if now < least:
            best, least = v, now
        if since == PATIENCE:
            break
    return best, least


def _stepped(v: Tensor, newton: NewtonSteps, c: Tensor, beta: float) -> Tensor | None:
    """v after a Newton step of the groups that are not zero, or None where there is none that helps.

    Groups that the step would take past zero, where the objective is another, become zero, and the others have a step
    without them. One that should have stayed comes again.
    """
    at, drops = v.any(1).nonzero()[:, 0], 0
    while True:
        if len(at) == 0:
            return None
        x, q, linear = v[at], part(newton.Q, at), c[at]
        lengths = x.norm(dim=1)
        n = x / lengths[:, None]
        g = times(q, x) - linear + beta * n
        step = newton.step(at, q, g, n, beta / lengths)
        if step is None:
            return None
        past = ((x + step) * n).sum(1) <= 0
        if drops == DROPS or not bool(past.any()):
            break
        at, drops = at[~past], drops + 1

    def objective(x: Tensor) -> float:
        return float((x * (times(q, x) / 2 - linear)).sum()) + beta * float(x.norm(dim=1).sum())

    now, promised, a = objective(x), float((g * step).sum()), 1.0
    for _ in range(HALVINGS):
        new = x + a * step
        new = torch.where((new * n).sum(1, keepdim=True) > 0, new, 0.0)
        if objective(new) <= now + ENOUGH * a * promised + 1e-14 * abs(now):
            return torch.zeros_like(v).index_copy(0, at, new)
        a /= 2
    return None
