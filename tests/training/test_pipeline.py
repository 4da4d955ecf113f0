"""A pipeline of processes against one process. All laws share one group of four, without Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mrirecon.training.link import GO_ON, STOP, Local
from tests.conftest import free_port
from tests.training import workers


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    port = free_port()
    context = torch.multiprocessing.get_context("spawn")
    group = [context.Process(target=workers.main, args=(rank, folder, port)) for rank in range(4)]
    for process in group:
        process.start()
    try:
        for process in group:
            process.join(180)
    finally:
        for process in group:
            process.kill()
    assert [process.exitcode for process in group] == [0, 9, 0, 0], "only rank 1 dies, and in the last case"
    return folder


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes: bits are claimed for equal numbers of threads
    try:
        return workers.train(Local(), workers.network())
    finally:
        torch.set_num_threads(threads)


def results(folder: Path, case: str) -> list[Any]:
    world, _ = workers.CASES[case]
    paths = [folder / f"{case}-{rank}.pt" for rank in range(world)]
    return [torch.load(path) for path in paths if path.exists()]


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [tensor for item in values for tensor in flat(item)]


SPLITS = {
    "one": [[0, 1, 2, 3]],
    "two": [[0, 1, 2], [3]],  # the last stage is said to cost as much as five others
    "four": [[0], [1], [2], [3]],
    "uneven": [[0, 1, 2], [3]],
    "three": [[0], [1, 2], [3]],
}


@pytest.mark.parametrize("case", SPLITS)
def test_weights_and_moments_equal_those_of_one_process_bit_for_bit(done: Path, alone: dict, case: str) -> None:
    found = results(done, case)
    assert [f["owned"] for f in found] == SPLITS[case]
    for f in found:
        for k in f["owned"]:
            here, there = (flat([run["weights"][k], run["state"][k]]) for run in (f, alone))
            assert len(here) > 10 and all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


@pytest.mark.parametrize("case", SPLITS)
def test_afterwards_every_process_has_all_weights_values_and_sums(done: Path, alone: dict, case: str) -> None:
    found = results(done, case)
    whole = {f"steps.{k}.{name}": w for k, weights in alone["weights"].items() for name, w in weights.items()}
    for f in found:
        assert all(torch.equal(f["spread"][name], whole[name]) for name in whole)
        assert f["gathered"] == list(range(len(found))) and float(f["total"]) == sum(range(len(found)))


def test_denoisers_notice_the_weights_of_other_processes(done: Path) -> None:
    assert results(done, "remembered") == [0.0, 0.0]


def test_replicas_equal_one_process_that_takes_their_batches_together(done: Path) -> None:
    together = workers.train(Local(), workers.network(), workers.sgd, lambda t: [2 * t, 2 * t + 1])
    for f in results(done, "replicas"):
        for k in f["owned"]:
            for a, b in zip(flat(f["weights"][k]), flat(together["weights"][k]), strict=True):
                assert (a - b).abs().max() <= 1e-6


@pytest.mark.parametrize("case", ["word", "word in replicas"])
def test_a_word_of_the_first_process_reaches_all_in_the_same_batch(done: Path, case: str) -> None:
    expected = [(t, STOP if t == 6 else GO_ON) for t in range(workers.N_BATCHES - 1)]
    assert results(done, case) == [expected] * workers.CASES[case][0]


def test_all_of_a_group_meet_before_the_first_image_travels(done: Path) -> None:
    """NCCL makes its point-to-point channels lazily, and hangs if some of a group do not come."""
    for calls in results(done, "set-up"):
        assert calls[:2] == ["all_reduce", "all_reduce"] and {"isend", "recv"} & set(calls[2:])


def test_two_processes_with_sleeping_stages_are_nearly_twice_as_fast(done: Path) -> None:
    # 1.9 on a quiet machine; 1 if processes waited for each other.
    assert results(done, "sleeping")[0] >= 1.7


def test_who_does_not_come_to_a_meeting_is_named(done: Path) -> None:
    first, second, _ = results(done, "missing")
    assert first == "rank 0: rank 2 has not come in 2.7 s, before the first batch"
    assert second.startswith("rank 1: lost all other processes")


def test_those_who_lose_a_process_name_rank_stage_and_batch(done: Path) -> None:
    first, last = results(done, "death")
    assert first.startswith("rank 0 (stage 0): lost rank 1 (stages 1 to 2), in epoch 0, batch ")
    assert last.startswith("rank 2 (stage 3): lost rank 1 (stages 1 to 2), in epoch 0, batch ")
    # What rank 1 had sent last may be lost with it; rank 0 is ahead by what is in flight.
    assert int(last.split("batch ")[1].split()[0]) in (2, 3)
    assert int(first.split("batch ")[1].split()[0]) in (3, 4, 5)
