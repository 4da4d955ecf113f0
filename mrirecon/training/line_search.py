"""A line search over a positive number, such as a step size: which value to try next."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite, sqrt

STEP = 2.0  # from the first value to the second


def next_value(losses: Mapping[float, float]) -> float:
    """The value to try after those that were tried.

    Beyond the best one, by the last ratio, while that is the least or largest; else halfway, by ratio, to the neighbour
    that is farther away. A function with one minimum is so enclosed ever more closely.

    losses: of the values that were tried, at least one, all positive; the lower the better, not finite for the worst.
        Of equal ones the larger value is the best: MoDL's equations are the easier, the larger its weight.
    """
    values = sorted(losses)
    worth = [losses[value] if isfinite(losses[value]) else inf for value in values]
    k = min(range(len(values)), key=lambda i: (worth[i], -values[i]))
    best = values[k]
    if len(values) == 1:
        return best * STEP
    if k == 0 or k == len(values) - 1:
        return rounded(best * best / values[1 if k == 0 else k - 1])
    below, above = values[k - 1], values[k + 1]
    return rounded(sqrt(best * (above if above / best >= best / below else below)))


def rounded(value: float) -> float:
    """Six digits, so that a card can say it."""
    return float(f"{value:.6g}")
