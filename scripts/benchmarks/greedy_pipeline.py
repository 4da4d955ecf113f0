"""Two pipelined processes beside two that know nothing of each other, and beside one.

The two processes alternate between the three ways in blocks of batches, in an order drawn anew for each round; a block
ends when both are done. What a block of the pipeline takes includes filling and draining it: the second process waits
for its first image, the first for the second to end.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from benchmarks.greedy_training import Case, batch, losses, network
from mrirecon.training.link import Link, Local
from mrirecon.training.pipeline import Pipeline
from mrirecon.training.stages import stages_of
from mrirecon.unrolled import Unrolled

PIPELINE, INDEPENDENT, ONE = "pipeline of two", "two independent halves (the ceiling)", "one process"


@dataclass(frozen=True)
class Blocks:
    """A network of an even number of stages, and how long it is measured."""

    case: Case
    n_batches: int
    n_rounds: int


def batches_per_second(blocks: Blocks) -> dict[str, list[float]]:
    """Of each way of training, in every round: batches that have gone through all stages."""
    with TemporaryDirectory() as folder:
        spawn(_process, (Path(folder), blocks), nprocs=2)
        found: dict[str, list[float]] = json.loads((Path(folder) / "found.json").read_text())
    return found


def ratio(found: dict[str, list[float]], way: str) -> float:
    """A way's rate over the ceiling's in the same round, the median of the rounds."""
    return median(a / b for a, b in zip(found[way], found[INDEPENDENT], strict=True))


def _process(rank: int, folder: Path, blocks: Blocks) -> None:
    torch.set_num_threads(1)
    backend = "gloo"
    if blocks.case.device == "cuda":
        torch.cuda.set_device(rank)
        backend = "nccl"
    dist.init_process_group(backend, f"file://{folder / 'meet'}", timedelta(minutes=5), world_size=2, rank=rank)
    half = blocks.case.n_steps // 2
    process = _Process(rank, blocks.case, Pipeline(blocks.case.device, sizes=[half, half]))
    found: dict[str, list[float]] = {way: [] for way in (PIPELINE, INDEPENDENT, ONE)}
    order, rng = list(found), Random(0)  # the same order in both processes
    for number in range(blocks.n_rounds + 1):
        n_batches = blocks.n_batches if number else 2  # first a short round that does not count
        rng.shuffle(order)
        for way in order:
            n = max(1, n_batches // 2) if way == ONE else n_batches  # for about the same time
            dist.barrier()
            start = time.perf_counter()
            process.train(way, number, n)
            dist.barrier()
            if number:
                found[way].append(n / (time.perf_counter() - start))
    process.pipeline.close()
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


class _Process:
    def __init__(self, rank: int, case: Case, pipeline: Pipeline) -> None:
        self.rank, self.pipeline = rank, pipeline
        self.net = network(case)
        half = case.n_steps // 2
        # The later half starts at A^H y, too, where it is on its own: the same work on another image.
        self.half = Unrolled(list(self.net.steps)[rank * half : (rank + 1) * half])
        self.own = torch.optim.Adam(self.half.parameters(), 1e-4)
        self.all = torch.optim.Adam(self.net.parameters(), 1e-4)
        self.batches = [batch(case, seed) for seed in range(1, 5)]

    def train(self, way: str, epoch: int, n_batches: int) -> None:
        if way == PIPELINE:
            self._train(self.net, self.own, self.pipeline, epoch, n_batches)
            self.pipeline.finish_sending()
        elif way == INDEPENDENT:
            self._train(self.half, self.own, Local(), epoch, n_batches)
        elif self.rank == 0:
            self._train(self.net, self.all, Local(), epoch, n_batches)
        if self.batches[0][1].is_cuda:
            torch.cuda.synchronize()

    def _train(self, net: Unrolled, optimizer: torch.optim.Optimizer, link: Link, epoch: int, n_batches: int) -> None:
        stages = stages_of(len(net.sequence), 1)
        for t in range(n_batches):
            optimizer.zero_grad()
            link.begin(epoch, t, len(stages), lambda: [1.0] * len(stages))
            for loss in losses(net, self.batches[t % len(self.batches)], stages, link):
                loss.backward()
            optimizer.step()
