"""What the processes of test_pipeline.py do: small trainings over torch.distributed, without Lightning."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mrirecon.denoisers import Contractive, Denoiser, ResNet
from mrirecon.errors import ProcessLost
from mrirecon.physics import Problem
from mrirecon.training.group import clip_stage
from mrirecon.training.link import GO_ON, STOP, Link, Local
from mrirecon.training.pipeline import Pipeline
from mrirecon.training.stages import stage_losses, stages_of
from mrirecon.unrolled import Unrolled, proximal_gradient
from tests.conftest import posed

N_STEPS, N_BATCHES = 4, 10


class Noisy(Denoiser):
    """Draws random numbers, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.net = ResNet(channels=4, n_blocks=1)
        nn.init.normal_(self.net.last.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.01 * torch.randn_like(x))


class Sleeper(nn.Module):
    """Takes its time without computing, so that any number of them fit on any number of cores."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.weight = seconds, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, problem: Problem) -> Tensor:
        time.sleep(self.seconds)
        return x * self.weight


def network() -> Unrolled:
    torch.manual_seed(0)
    return proximal_gradient(Noisy, n_steps=N_STEPS)


def problem(number: int) -> tuple[Problem, Tensor]:
    """Batch ``number``: shapes vary, as they do between volumes."""
    return posed((10, 12 + 2 * (number % 3)), batch=1, seed=number)


def train(
    link: Link,
    net: Unrolled,
    make: Callable[[Any], torch.optim.Optimizer] = lambda groups: torch.optim.Adam(groups, 1e-2),
    batches: Callable[[int], list[int]] = lambda t: [t],
    costs: Callable[[], list[float]] = lambda: [1.0] * N_STEPS,
    before: Callable[[int], None] = lambda t: None,
    clip: float | None = 0.5,
) -> dict[str, Any]:
    """Ten updates, each from the mean gradient of ``batches(t)``; weights and moments of the stages owned here."""
    optimizer = make([{"params": list(step.parameters())} for step in net.steps])
    stages = stages_of(len(net.sequence), 1)
    for t in range(N_BATCHES):
        optimizer.zero_grad()
        link.word = GO_ON
        before(t)
        link.begin(0, t, len(stages), costs)
        numbers = batches(t)
        for number in numbers:
            posed, x = problem(number)
            losses = stage_losses(net, posed, lambda z, x=x: (z - x).abs().mean(), stages, link, seed=(7, number))
            for output in losses:
                (output.loss / len(numbers)).backward()
        own = link.owned(len(stages))
        link.average([p.grad for k in own for p in net.steps[k].parameters()])
        for k in own:
            clip_stage(list(net.steps[k].parameters()), clip)
        optimizer.step()
    own = list(link.owned(len(stages)))
    state = {k: [optimizer.state[p] for p in net.steps[k].parameters()] for k in own}
    return {"owned": own, "weights": {k: net.steps[k].state_dict() for k in own}, "state": state, "word": link.word}


def bits(rank: int, **settings: Any) -> dict[str, Any]:
    link, net = Pipeline(**settings), network()
    found = train(link, net, costs=lambda: [1.0, 1.0, 1.0, 5.0])
    link.spread(lambda k: list(net.steps[k].parameters()))
    found["spread"] = net.state_dict()
    found["gathered"] = link.gathered(rank)
    found["total"] = link.total(torch.tensor([float(rank)]))()
    link.close()
    return found


def remembered(rank: int) -> float:
    """Denoisers that keep what they have found of their weights: how far they are from new ones, after others came."""

    def network() -> Unrolled:
        torch.manual_seed(0)
        return proximal_gradient(lambda: Contractive(channels=3, n_layers=2), n_steps=N_STEPS)

    link, net, posed = Pipeline(), network(), problem(0)[0]
    with torch.no_grad():
        net(posed)
    train(link, net)
    link.spread(lambda k: list(net.steps[k].parameters()))
    new = network()
    new.load_state_dict(net.state_dict())
    link.close()
    with torch.no_grad():
        return float((net(posed) - new(posed)).abs().max())


def sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, 1e-2)


def replicas(rank: int) -> dict[str, Any]:
    link = Pipeline(replicas=2)
    found = train(link, network(), sgd, lambda t: [2 * t + link.replica])
    link.close()
    return found


def word(rank: int, **settings: Any) -> list[tuple[int, int]]:
    """The word of the first process, and in which batch each process has it."""
    link, heard = Pipeline(**settings), []

    def before(t: int) -> None:
        if rank == 0 and t == 6:
            link.word = STOP
        if t:
            heard.append((t - 1, words[-1]))

    words: list[int] = []
    average = link.average
    link.average = lambda gradients: (average(gradients), words.append(link.word))[0]  # the end of a batch
    train(link, network(), before=before)
    link.close()
    return heard


def sleeping(rank: int) -> float:
    """Seconds of a pipeline of stages that sleep, over the seconds of one process."""
    net = Unrolled([Sleeper(0.06) for _ in range(4)])
    posed, x = problem(0)

    def seconds(link: Link) -> float:
        start = time.perf_counter()
        optimizer = torch.optim.Adam(net.parameters())
        for t in range(60):
            optimizer.zero_grad()
            link.begin(0, t, 4, lambda: [1.0] * 4)
            for output in stage_losses(net, posed, lambda z: (z - x).abs().mean(), stages_of(4, 1), link):
                output.loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    alone = seconds(Local()) if rank == 0 else 0.0
    best = 0.0
    for _ in range(4):  # a busy machine wakes sleepers late
        link = Pipeline()
        dist.barrier()
        start = time.perf_counter()
        seconds(link)
        link.finish_sending()
        dist.barrier()
        best = max(best, *link.gathered(alone / (time.perf_counter() - start)))
        link.close()
        if best >= 1.7:
            break
    return best


def set_up(rank: int) -> list[str]:
    """Calls of torch.distributed until the first image is sent."""
    calls = []

    def spied(name: str) -> Callable[..., Any]:
        original = getattr(dist, name)
        return lambda *args, **kwargs: (calls.append(name), original(*args, **kwargs))[1]

    originals = {name: getattr(dist, name) for name in ("all_reduce", "isend", "recv")}
    for name in originals:
        setattr(dist, name, spied(name))
    link = Pipeline()
    train(link, network())
    link.close()
    for name, original in originals.items():
        setattr(dist, name, original)
    return calls


def death(rank: int) -> str:
    """Rank 1 dies in the fourth batch; what the others say."""
    link = Pipeline(sizes=[1, 2, 1], timeout=20)

    def before(t: int) -> None:
        if rank == 1 and t == 3:
            os._exit(9)

    try:
        train(link, network(), before=before)
    except ProcessLost as lost:
        return str(lost)
    return "nothing happened"


def missing(rank: int) -> str:
    """Rank 2 does not come to a meeting in time; what the others say."""
    link = Pipeline(timeout=3)
    if rank == 2:
        time.sleep(6)
        return ""
    try:
        link.meet()
    except ProcessLost as lost:
        return str(lost)
    return "nothing happened"


CASES: dict[str, tuple[int, Callable[..., Any]]] = {
    "one": (1, bits),
    "two": (2, bits),
    "four": (4, bits),
    "uneven": (2, lambda rank: bits(rank, sizes=[3, 1])),
    "three": (3, lambda rank: bits(rank, sizes=[1, 2, 1])),
    "remembered": (2, remembered),
    "replicas": (4, replicas),
    "word": (3, word),
    "word in replicas": (4, lambda rank: word(rank, replicas=2)),
    "set-up": (2, set_up),
    "sleeping": (2, sleeping),
    "missing": (3, missing),
    "death": (3, death),
}


def main(rank: int, folder: Path, port: int) -> None:
    """All cases, one after the other, each in a process group of its own."""
    torch.set_num_threads(1)
    # Not a file, which those who have nothing to do in a case would look at all the time.
    store = dist.TCPStore("localhost", port, is_master=rank == 0, timeout=timedelta(minutes=3))
    for name, (world, case) in CASES.items():
        if rank < world:
            own = dist.PrefixStore(name, store)
            dist.init_process_group("gloo", store=own, timeout=timedelta(minutes=3), rank=rank, world_size=world)
            torch.save(case(rank), folder / f"{name}-{rank}.pt")
            dist.destroy_process_group()
