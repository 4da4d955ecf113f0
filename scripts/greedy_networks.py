"""The networks of the greedy study, and updates of theirs on noise, to be timed and weighed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from benchmarks.greedy_training import Training
from benchmarks.measure import in_turn

from mrirecon.checkpoint import build
from mrirecon.physics import Problem, sense
from mrirecon.unrolled import Activations, Unrolled


@dataclass(frozen=True)
class Network:
    """A network and its regime, in the words of the cards."""

    steps: int
    channels: int
    per_stage: int | None
    activations: Activations = "stored"

    def words(self) -> list[str]:
        prefix = "--model.net.init_args"
        return [
            *(f"{prefix}.n_steps", str(self.steps), f"{prefix}.denoiser.init_args.channels", str(self.channels)),
            *("--model.steps_per_stage", str(self.per_stage or "null"), "--model.activations", self.activations),
        ]

    def make(self) -> Unrolled:
        denoiser = {"class_path": "mrirecon.denoisers.ResNet", "init_args": {"channels": self.channels, "n_blocks": 2}}
        arguments = {"n_steps": self.steps, "denoiser": denoiser}
        return build({"class_path": "mrirecon.unrolled.proximal_gradient", "init_args": arguments}, Path(__file__))


NETWORKS = {
    "end to end, 8 steps": Network(8, 16, None),
    "greedy, 24 steps in 3 stages": Network(24, 16, 8),
    "checkpointed, 24 steps": Network(24, 16, None, "recomputed"),
    "greedy, 8 steps in 8 stages": Network(8, 16, 1),
    "end to end, 8 wider steps": Network(8, 28, None),
}
BASE, REFERENCE, GIVEN_UP = list(NETWORKS)[:3]  # what is compared with; whose time all get; what greedy may give up


def training(network: Network, shape: tuple[int, int]) -> Training:
    """Updates of a network on noise of a shape (rows, columns), seen by six coils."""
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 1, 6, *shape, dtype=torch.complex64, generator=g)
    maps = maps / maps.abs().square().sum(2, keepdim=True).sqrt()
    x = torch.randn(1, 1, *shape, dtype=torch.complex64, generator=g)
    A = sense(maps, (torch.rand(1, 1, 1, shape[1], generator=g) < 0.3).float())
    return Training(network.make(), (Problem.pose(A, A(x)), x), network.per_stage, network.activations)


def step_seconds(shape: tuple[int, int]) -> dict[str, float]:
    """Seconds of one update of each network, one thread; the networks take turns."""
    taken = in_turn({name: training(network, shape).step for name, network in NETWORKS.items()}, 7)
    return {name: median(t.wall for t in times) for name, times in taken.items()}
