"""The networks of the scale study, and what an update of theirs costs: seconds, and memory for the backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, reduce
from operator import getitem
from statistics import median

import torch
import yaml
from benchmarks.greedy_training import Training
from study import score
from torch import Tensor

from benchmarks import measure
from mrirecon.cards import locate
from mrirecon.checkpoint import build
from mrirecon.data.slices import Slice
from mrirecon.physics import Problem, sense
from mrirecon.unrolled import Unrolled


@dataclass(frozen=True)
class Network:
    """The network of a card with another denoiser.

    denoiser: its settings that differ from the card's, by the words of the card.
    """

    card: str
    denoiser: Mapping[str, int | float | str]
    steps: int = 5

    def words(self) -> list[str]:
        """Of `mrirecon fit`."""
        prefix = "--model.net.init_args"
        found = ["-c", self.card, f"{prefix}.n_steps", str(self.steps)]
        for key, value in self.denoiser.items():
            found += [f"{prefix}.denoiser.init_args.{key}", str(value)]
        return found

    def make(self) -> Unrolled:
        path = locate(self.card)
        net = yaml.safe_load(path.read_text())["model"]["net"]
        net["init_args"]["n_steps"] = self.steps
        for key, value in self.denoiser.items():
            *rooms, last = key.split(".")
            reduce(getitem, rooms, net["init_args"]["denoiser"]["init_args"])[last] = value
        return build(net, path)


# Of as many bytes for the backward pass, within 2 % of the ordinary one's.
ORDINARY, EQUIVARIANT, ONE_SCALE = "ordinary", "scale-equivariant", "one scale"
NETWORKS = {
    ORDINARY: Network("models/pgd_resnet", {"channels": 24}),
    EQUIVARIANT: Network("models/pgd_scale_equivariant", {"channels": 24, "hidden": 12}),
    ONE_SCALE: Network("models/pgd_scale_equivariant", {"channels": 24, "hidden": 24, "basis.init_args.n_scales": 1}),
}
# The scale-equivariant one with one thing changed, to tell what holds it back; only the second has as much memory.
CHANGED = {
    "twice as wide": Network("models/pgd_scale_equivariant", {"channels": 48, "hidden": 24}),
    "3 scales of 1.4": Network(
        "models/pgd_scale_equivariant",
        {
            "channels": 24,
            "hidden": 14,
            "basis.class_path": "mrirecon.denoisers.scales.Zoomed",
            "basis.init_args.n_scales": 3,
            "basis.init_args.ratio": 1.4,
        },
    ),
    "maximum over scales": Network("models/pgd_scale_equivariant", {"channels": 24, "hidden": 12, "projection": "max"}),
}


def training(network: Network, size: int) -> Training:
    """Updates of a network on noise, size x size, seen by six coils."""
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 1, 6, size, size, dtype=torch.complex64, generator=g)
    maps = maps / maps.abs().square().sum(2, keepdim=True).sqrt()
    x = torch.randn(1, 1, size, size, dtype=torch.complex64, generator=g)
    A = sense(maps, (torch.rand(1, 1, 1, size, generator=g) < 0.3).float())
    return Training(network.make(), (Problem.pose(A, A(x)), x), None, "stored")


def kept_bytes(network: Network, size: int) -> int:
    """Bytes that autograd keeps for the backward pass of one image, each storage once; weights and data apart."""
    made = training(network, size)
    problem, target = made.batch
    operator = [t for t in vars(problem.A).values() if isinstance(t, Tensor)]
    apart = (*made.weights, *operator, problem.y, problem.AHy, target)
    return measure.kept_bytes(lambda: list(made.losses()), apart)


def seconds(networks: Mapping[str, Network], size: int, bare: Slice) -> dict[str, dict[str, float]]:
    """CPU seconds of each network, one thread: of an ``update``, and to reconstruct and score a ``slice``.

    Of the processor and not of the clock, as the machine may be busy; the networks take turns.
    """
    updates = measure.in_turn({name: training(network, size).step for name, network in networks.items()}, 7)
    nets = {name: network.make().eval() for name, network in networks.items()}
    scores = measure.in_turn({name: partial(score, net, bare) for name, net in nets.items()}, 5)
    found = {"update": updates, "slice": scores}
    return {name: {what: median(t.cpu for t in taken[name]) for what, taken in found.items()} for name in networks}
