"""Proximal Newton: a smooth convex function with a group lasso, by a sequence of quadratics with one.

min_v  f(v) + beta sum_i ||v_i||;   v+ = v + a d,  d from the minimum of f's quadratic model with the same group lasso

The step a is halved until the objective falls by a part of what the model promises. Lee, Sun, Saunders, SIAM J. Optim.
24(3), 2014. Second derivatives may jump: for piecewise quadratics the method ends after finitely many steps.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.groups import times

STEPS, ENOUGH = 50, 1e-4


class Smooth(Protocol):
    """f and its derivatives at v (group, tap); the second ones are (group, tap, group, tap)."""

    def value(self, v: Tensor) -> float: ...
    def derivatives(self, v: Tensor) -> tuple[Tensor, Tensor]: ...


def proximal_newton(f: Smooth, beta: float, start: Tensor, tolerance: float) -> Tensor:
    """The minimiser, to a relative decrease of the objective by less than ``tolerance`` in the last step's model."""

    def penalty(v: Tensor) -> float:
        return beta * float(v.norm(dim=1).sum())

    v = start
    value, cost = f.value(v), penalty(v)
    for _ in range(STEPS):
        g, H = f.derivatives(v)
        Hv = times(H, v)
        # What makes the model 0 or more: it is f(v) at v, and f is a sum of squares.
        offset = max(value - float((g * v).sum()) + float((v * Hv).sum()) / 2, 1e-3 * (value + cost))
        aim = minimise_quadratic(H, Hv - g, beta, offset, 0.1 * tolerance)
        promised = float((g * (aim - v)).sum()) + penalty(aim) - cost
        if promised > -tolerance * (value + cost):
            return v
        a = 1.0
        while True:
            new = v + a * (aim - v)
            new_value, new_cost = f.value(new), penalty(new)
            if new_value + new_cost <= value + cost + ENOUGH * a * promised or a < 1e-6:
                break
            a /= 2
        v, value, cost = new, new_value, new_cost
    return v
