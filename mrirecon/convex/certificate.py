"""What a convex program's solution is worth, proved by a point of its dual.

Primal:  F(v) = L(K v - b) + beta sum_i ||v_i||
Dual:    G(theta) = -L*(theta) - <theta, b>   over all theta with ||K_i^T theta|| <= beta for every group i

F(v) >= G(theta) for any two such points, so their difference bounds how far F(v) is from the least possible value.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import isfinite

import torch
from torch import Tensor

from mrirecon.errors import InputError


@dataclass(frozen=True)
class Certificate:
    """What is known of a solution.

    primal: F at the solution. dual: a lower bound of F at every point, where violation is 0.
    gap: (primal - dual) / primal, at least how far F is above its minimum, relative to F; 0 where primal is 0.
    subgradient: length of the shortest subgradient of F at the solution, 0 at the minimum. Under absolute loss, whose
        subgradients are many where residuals are zero, of those with the multipliers that give the dual value.
    violation: how far constraints are from being kept, relative to what they constrain; 0 for a program without any.
    active: groups that are not zero. groups: of the program.
    """

    primal: float
    dual: float
    gap: float
    subgradient: float
    violation: float
    active: int
    groups: int

    def of(self, primal: float) -> Certificate:
        """The same with the objective of these filters after rounding; the bound is that of all."""
        return replace(self, primal=primal, gap=relative_gap(primal, self.dual))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def __str__(self) -> str:
        """In words; a gap below 0, which is rounding, as 0."""
        violated = f", violation {self.violation:.1e}" if self.violation else ""
        return (
            f"objective {self.primal:.6g}, relative duality gap {max(self.gap, 0.0):.1e}{violated}, "
            f"{self.active} of {self.groups} groups active"
        )


def relative_gap(primal: float, dual: float) -> float:
    """(primal - dual) / primal, and 0 where nothing is left to gain."""
    return (primal - dual) / primal if primal > 0 else 0.0


def certificate_of(primal: float, dual: float, v: Tensor, gradient: Tensor, beta: float) -> Certificate:
    """The certificate of filters v (group, tap) with gradients of the loss, or K^T theta, in their groups.

    Raises InputError for numbers that are not finite, of which nothing can be said.
    """
    if not (isfinite(primal) and isfinite(dual) and bool(torch.isfinite(gradient).all())):
        raise InputError(
            "a patch, a target or a filter is NaN or infinite, so that there is nothing to certify; look for such "
            "pixels in the data"
        )
    norms, lengths = v.norm(dim=1), gradient.norm(dim=1)
    on = norms > 0
    inside = (lengths - beta).clamp_min(0)[~on]
    outside = (gradient + beta * v / norms.clamp_min(1e-300)[:, None])[on]
    return Certificate(
        primal=primal,
        dual=dual,
        gap=relative_gap(primal, dual),
        subgradient=float((inside.square().sum() + outside.square().sum()).sqrt()),
        violation=0.0,
        active=int(on.sum()),
        groups=len(v),
    )
