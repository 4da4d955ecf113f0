"""The program under squared loss by accelerated proximal gradients alone: no matrix is held, whatever the groups.

Working sets (:func:`mrirecon.convex.working_set.solve`) are the quicker way; this one is the second opinion, and what
remains where a working set has too many variables for its matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from mrirecon.convex.accelerated import Iterate, Linear, Squares, accelerated
from mrirecon.convex.certificate import Certificate
from mrirecon.convex.metric import Metric, PatchMetric
from mrirecon.convex.operator import Operator
from mrirecon.convex.working_set import Solution
from mrirecon.errors import InputError

PATIENCE = 20  # looks at the gap without a better one by a tenth: rounding, or the error of K, allows no more
EVERY = 25  # iterations between two looks


class Squared(Protocol):
    """What is needed of :class:`mrirecon.convex.least_squares.LeastSquares`."""

    K: Operator
    b: Tensor
    beta: float

    @property
    def moments(self) -> Tensor: ...
    def certify(self, v: Tensor, at: Tensor, theta: Tensor | None = None) -> tuple[Certificate, Tensor]: ...
    def worth(self, v: Tensor, gradient: Tensor, r: Tensor, theta: Tensor) -> Certificate: ...


def solve_first_order(
    program: Squared,
    tolerance: float = 1e-4,
    start: Tensor | None = None,
    metric: Metric | None = None,
    report: Callable[[Certificate], object] = lambda proof: None,
) -> Solution:
    """The filters whose certificate has a relative gap of at most ``tolerance``.

    start: filters (gate, tap), zero unless given. metric: in which steps are measured, the patches' second moments
        unless given; it changes the way, not the end. report: called whenever the gap is known.

    Raises InputError where the gap does not become so small.
    """
    v = torch.zeros_like(program.K.gates, dtype=torch.float64) if start is None else start.double()
    metric = PatchMetric(program.moments) if metric is None else metric
    iterate, _, proof = descended(program.K, program, v, metric, tolerance, report=report)
    if abs(proof.gap) > tolerance:
        raise InputError(
            f"accelerated gradients came to a relative gap of {proof.gap:.1e} and no further, {tolerance:.1e} was "
            "asked for; use mrirecon.convex.working_set.solve, float64, or ask for a larger tolerance"
        )
    return Solution(iterate.x, proof)


def descended(
    K: Linear,
    program: Squared,
    start: Tensor,
    metric: Metric,
    tolerance: float,
    every: int = EVERY,
    report: Callable[[Certificate], object] = lambda proof: None,
) -> tuple[Iterate, Tensor, Certificate]:
    """The last iterate from filters ``start`` of K's groups, the gradients there, and what it is worth among them."""
    best, since = float("inf"), 0
    for number, iterate in enumerate(accelerated(K, program.b, Squares(), program.beta, start, metric)):
        if number % every == every - 1:
            gradient = K.adjoint(iterate.r)
            proof = program.worth(iterate.x, gradient, iterate.r, iterate.r)
            report(proof)
            gap = abs(proof.gap)  # below 0 it is rounding
            best, since = (gap, 0) if gap < 0.9 * best else (best, since + 1)
            if gap <= tolerance or since == PATIENCE:
                break
    return iterate, gradient, proof
