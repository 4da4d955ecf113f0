"""Which process trains which stages: consecutive blocks, so that the slowest process is as fast as it can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn

from mrirecon.errors import InputError
from mrirecon.physics.problem import Problem
from mrirecon.training.link import Local
from mrirecon.training.stages import stage_losses
from mrirecon.unrolled import Activations, Unrolled


def partition(costs: Sequence[float], n: int) -> list[range]:
    """Consecutive stages in ``n`` blocks, none empty, such that the costliest block is the cheapest possible."""
    if not 1 <= n <= len(costs):
        raise InputError(f"{len(costs)} stages cannot be shared out over {n} processes; each needs at least one")
    # best[j]: (cost of the costliest block, ends of the blocks) of the first j stages, for a growing number of blocks
    best: list[tuple[float, list[int]] | None] = [(sum(costs[:j]), [j]) if j else None for j in range(len(costs) + 1)]
    for _ in range(1, n):
        longer: list[tuple[float, list[int]] | None] = [None] * (len(costs) + 1)
        for j in range(1, len(costs) + 1):
            ways = [(max(b[0], sum(costs[i:j])), [*b[1], j]) for i, b in enumerate(best[:j]) if b is not None]
            longer[j] = min(ways, key=lambda way: way[0], default=None)
        best = longer
    whole = best[-1]
    assert whole is not None
    ends = whole[1]
    return [range(a, b) for a, b in pairwise([0, *ends])]


def blocks_of(sizes: Sequence[int], n_stages: int, n: int) -> list[range]:
    """The blocks that a user lists by their numbers of stages; InputError if they do not add up."""
    if len(sizes) != n or sum(sizes) != n_stages or min(sizes) < 1:
        raise InputError(
            f"blocks {list(sizes)} do not share {n_stages} stages out over {n} processes; expected {n} numbers from 1 "
            f"up that add up to {n_stages}, or null to balance them by measured cost"
        )
    ends = [sum(sizes[: i + 1]) for i in range(n)]
    return [range(b - size, b) for b, size in zip(ends, sizes, strict=True)]


def stage_costs(
    net: Unrolled,
    problem: Problem,
    loss: Callable[[Tensor], Tensor],
    stages: list[slice],
    activations: Activations = "stored",
    repeats: int = 2,
) -> list[float]:
    """Seconds of one batch's forward and backward pass in every stage: the shortest of some, after a first.

    On a copy of the network, as normalisation layers, for example, remember what they see.
    """
    copy = deepcopy(net)
    rounds = []
    with torch.random.fork_rng([problem.AHy.device] if problem.AHy.is_cuda else []):
        for _ in range(repeats + 1):
            ends = [_now(problem.AHy)]
            for output in stage_losses(copy, problem, loss, stages, Local(), activations):
                output.loss.backward()
                ends.append(_now(problem.AHy))
            rounds.append([b - a for a, b in pairwise(ends)])
    return [min(seconds) for seconds in zip(*rounds[1:], strict=True)]


def shared_stages(stages: Sequence[Sequence[nn.Module]]) -> tuple[int, int] | None:
    """Two stages that have a weight in common, the first such pair; None if all are apart."""
    owner: dict[int, int] = {}
    for k, steps in enumerate(stages):
        for p in {id(p) for step in steps for p in step.parameters()}:
            if owner.setdefault(p, k) != k:
                return owner[p], k
    return None


def _now(like: Tensor) -> float:
    if like.is_cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter()
