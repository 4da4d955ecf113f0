"""Sharing stages out, and the groups of batches that make an update."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.training.group import Group
from mrirecon.training.partition import blocks_of, partition, stage_costs
from mrirecon.training.stages import stages_of
from tests.training import workers


def test_the_slowest_block_is_as_fast_as_any_partition_makes_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        costs = rng.random(rng.integers(1, 8)).tolist()
        n = int(rng.integers(1, len(costs) + 1))
        blocks = partition(costs, n)
        assert [k for block in blocks for k in block] == list(range(len(costs))) and all(map(len, blocks))
        cuts = ([0, *inner, len(costs)] for inner in combinations(range(1, len(costs)), n - 1))
        best = min(max(sum(costs[a:b]) for a, b in pairwise(cut)) for cut in cuts)
        assert max(sum(costs[k] for k in block) for block in blocks) == pytest.approx(best)


def test_equal_stages_make_equal_blocks() -> None:
    assert [len(block) for block in partition([1.0] * 8, 4)] == [2, 2, 2, 2]


def test_more_blocks_than_stages_are_refused() -> None:
    with pytest.raises(InputError, match="3 stages cannot be shared out over 4 processes"):
        partition([1.0] * 3, 4)


@pytest.mark.parametrize("sizes", [[3, 2], [4], [0, 4], [2, 1, 1]])
def test_blocks_that_do_not_add_up_are_refused(sizes: list[int]) -> None:
    with pytest.raises(InputError, match="do not share 4 stages out over 2 processes"):
        blocks_of(sizes, 4, 2)
    assert blocks_of([3, 1], 4, 2) == [range(3), range(3, 4)]


def test_the_cost_of_a_longer_stage_is_higher_and_measuring_changes_nothing() -> None:
    net = workers.network()
    before = [p.clone() for p in net.parameters()]
    posed, x = workers.problem(0)
    state = torch.get_rng_state()
    costs = stage_costs(net, posed, lambda z: (z - x).abs().mean(), stages_of(4, 3), repeats=10)
    assert len(costs) == 2 and costs[0] > costs[1] > 0
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, net.parameters(), strict=True))


def test_groups_of_batches_cover_an_epoch() -> None:
    assert [Group(4).place(b, 6) for b in range(6)] == [(0, 4), (1, 4), (2, 4), (3, 4), (0, 2), (1, 2)]
    assert [Group(1).place(b, 3) for b in range(3)] == [(0, 1)] * 3
