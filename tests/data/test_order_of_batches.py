"""Claims about the order of slices: whole, of one shape, seeded, shared out, and resumed exactly."""

from __future__ import annotations

import pytest

from mrirecon.data.batches import Batches

SHAPES = ["a"] * 7 + ["b"] * 4 + ["a"] * 2


def numbers(batches: Batches) -> list[int]:
    return [number for batch in batches for _, number in batch]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 20])
@pytest.mark.parametrize("seed", [None, 5])
def test_every_slice_comes_once_in_batches_of_one_shape(batch_size, seed):
    batches = Batches(SHAPES, batch_size, seed)
    got = list(batches)
    assert len(got) == len(batches)
    assert sorted(numbers(batches)) == list(range(len(SHAPES)))
    assert all(len({SHAPES[number] for _, number in batch}) == 1 for batch in got)


def test_order_is_that_of_seed_and_epoch_and_without_a_seed_that_of_the_volumes():
    def order(seed, epoch):
        batches = Batches(SHAPES, 2, seed)
        batches.set_epoch(epoch)
        return numbers(batches)

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4
    assert numbers(Batches(SHAPES)) == list(range(len(SHAPES)))


def test_replicas_together_read_what_one_process_reads():
    whole = list(Batches(SHAPES, 2, seed=1))
    parts = [list(Batches(SHAPES, 2, 1, rank, 3)) for rank in range(3)]
    assert {len(part) for part in parts} == {len(Batches(SHAPES, 2, 1, 0, 3))}
    assert [part[i] for i in range(len(parts[0])) for part in parts][: len(whole)] == whole


def test_more_replicas_than_batches_all_get_one():
    assert [len(list(Batches(["a"], 1, 1, rank, 4))) for rank in range(4)] == [1] * 4


def test_a_resumed_epoch_continues_and_the_next_is_whole():
    batches = Batches(SHAPES, 2, seed=1)
    batches.set_epoch(2)
    whole = list(batches)
    resumed = Batches(SHAPES, 2, seed=1)
    resumed.resume(2, 3)
    assert list(resumed) == whole[3:] == list(resumed)  # asking twice changes nothing
    assert len(resumed) == len(whole)
    resumed.set_epoch(3)
    batches.set_epoch(3)
    assert list(resumed) == list(batches)
