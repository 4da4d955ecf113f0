"""The line search: it encloses a minimum from wherever it begins, and heeds values that are no use."""

from __future__ import annotations

from math import inf, log, nan

import pytest

from mrirecon.training.line_search import next_value


@pytest.mark.parametrize("start", [0.01, 0.7, 30.0])
def test_it_comes_to_the_minimum(start: float) -> None:
    losses = {start: log(start / 0.7) ** 2}
    for _ in range(25):
        value = next_value(losses)
        assert value not in losses
        losses[value] = log(value / 0.7) ** 2
    assert min(losses, key=losses.__getitem__) == pytest.approx(0.7, rel=1e-2)


def test_it_goes_on_beyond_the_best_at_the_ends_and_halfway_inside() -> None:
    assert next_value({0.5: 1.0}) == 1.0
    assert next_value({0.5: 1.0, 1.0: 2.0}) == 0.25
    assert next_value({0.5: 2.0, 1.0: 1.0}) == 2.0
    assert next_value({1.0: 2.0, 4.0: 1.0, 64.0: 3.0}) == 16.0
    assert next_value({1.0: 2.0, 16.0: 1.0, 64.0: 3.0}) == 4.0


def test_values_that_cannot_be_used_are_the_worst() -> None:
    assert next_value({0.25: inf, 1.0: 1.0, 2.0: nan}) == 0.5
    assert next_value({0.25: inf, 0.5: inf}) == 1.0, "larger weights are easier"
