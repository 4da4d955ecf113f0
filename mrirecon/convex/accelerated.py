"""Accelerated proximal gradient for a convex loss with a group lasso, with line search, growth and restart.

min_v  L(K v - b) + beta sum_i ||v_i||

x+ = argmin_v <K^T L'(K z - b), v> + ||v - z||_M^2 / (2 step) + beta sum_i ||v_i||
z  = x+ + (t - 1) / t+ (x+ - x),   t+ = (1 + sqrt(1 + 4 t^2)) / 2

Beck and Teboulle 2009; the step is shortened until the quadratic bound holds and grows where it holds with room to
spare (Liu, Ji, Ye 2009); momentum restarts where it points uphill (O'Donoghue and Candes 2015). As K is linear, K z is
combined of what K has given for x: a trial step costs one K, an iteration one K and one K^T.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrirecon.convex.metric import Metric
from mrirecon.errors import InputError

SHRINK, GROW, ROOM = 0.8, 1.25, 5.0
SMALLEST = 1e-30  # of the first step


class Loss(Protocol):
    """A smooth convex function L of the residual K v - b."""

    def value(self, r: Tensor) -> float: ...
    def gradient(self, r: Tensor) -> Tensor: ...
    def excess(self, r: Tensor, at: Tensor) -> float:
        """L(r) - L(at) - <L'(at), r - at>, without the rounding errors of that difference."""


class Squares:
    """L(r) = 1/2 ||r||^2."""

    def value(self, r: Tensor) -> float:
        r = r.double()
        return float(torch.linalg.vecdot(r, r)) / 2

    def gradient(self, r: Tensor) -> Tensor:
        return r

    def excess(self, r: Tensor, at: Tensor) -> float:
        return self.value(r - at)


class Linear(Protocol):
    """K and its transpose, between filters (group, tap) and residuals (n,)."""

    def forward(self, v: Tensor) -> Tensor: ...
    def adjoint(self, q: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Iterate:
    """After an iteration: filters x, residual r = K x - b, the objective there, and the step that led there."""

    x: Tensor
    r: Tensor
    objective: float
    step: float


def accelerated(
    K: Linear, b: Tensor, loss: Loss, beta: float, start: Tensor, metric: Metric, step: float = 1.0
) -> Iterator[Iterate]:
    """Iterates without end, each of a lower objective than the last, but for rounding and for the accuracy of the
    metric's steps: the caller looks at certificates and stops.

    start: (group, tap), double precision. step: the first one tried.
    """

    def objective(x: Tensor, r: Tensor) -> float:
        return loss.value(r) + beta * float(x.norm(dim=1).sum())

    x = z = start
    rx = rz = K.forward(x).double() - b
    lowest, t, first = objective(x, rx), 1.0, step
    while True:
        g = K.adjoint(loss.gradient(rz))
        while True:
            new = metric.step(z, g, step, beta)
            # By the difference: its rounding is relative to how far the step is, not to where it is. What adds up over
            # many steps is in double precision.
            r = rz + K.forward(new - z)
            bound, excess = metric.inner(new - z, new - z) / (2 * step), loss.excess(r, rz)
            if excess <= bound:
                break
            step *= SHRINK
            if not step > SMALLEST * first:
                raise InputError(
                    "steps became endlessly short: a patch, a target or a filter is NaN or infinite, or rounding does "
                    "not allow the accuracy that was asked for; look for such pixels, or use float64"
                )
        value = objective(new, r)
        if value > lowest and t > 1:  # momentum led uphill: again without it
            z, rz, t = x, rx, 1.0
            continue
        restart = metric.inner(z - new, new - x) > 0
        t_new = 1.0 if restart else (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = 0.0 if restart else (t - 1) / t_new
        z, rz = torch.lerp(x, new, 1 + ahead), torch.lerp(rx, r, 1 + ahead)
        x, rx, t, lowest = new, r, t_new, value
        yield Iterate(x, rx, value, step)
        if bound > ROOM * excess:
            step *= GROW
