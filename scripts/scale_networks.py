"""The networks of the scale study, and what an update of theirs costs: seconds, and memory for the backward pass."""

from __future__ import annotations

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
    """The network of a card in another size.

    hidden, n_scales: features of a scale-equivariant block at each scale, and its scales; None: as in the card.
    """

    card: str
    channels: int
    hidden: int | None = None
    n_scales: int | None = None
    steps: int = 5

    @property
    def sizes(self) -> dict[str, int]:
        """Of the denoiser, by the words of the card."""
        sizes = {"channels": self.channels, "hidden": self.hidden, "basis.init_args.n_scales": self.n_scales}
        return {key: size for key, size in sizes.items() if size is not None}

    def words(self) -> list[str]:
        prefix = "--model.net.init_args"
        found = ["-c", self.card, f"{prefix}.n_steps", str(self.steps)]
        for key, value in self.sizes.items():
            found += [f"{prefix}.denoiser.init_args.{key}", str(value)]
        return found

    def make(self) -> Unrolled:
        path = locate(self.card)
        net = yaml.safe_load(path.read_text())["model"]["net"]
        net["init_args"]["n_steps"] = self.steps
        for key, size in self.sizes.items():
            *rooms, last = key.split(".")
            reduce(getitem, rooms, net["init_args"]["denoiser"]["init_args"])[last] = size
        return build(net, path)


# Of as many bytes for the backward pass, within 2 % of the ordinary one's.
ORDINARY, EQUIVARIANT, ONE_SCALE = "ordinary", "scale-equivariant", "one scale"
NETWORKS = {
    ORDINARY: Network("models/pgd_resnet", 24),
    EQUIVARIANT: Network("models/pgd_scale_equivariant", 24, 12),
    ONE_SCALE: Network("models/pgd_scale_equivariant", 24, 24, 1),
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


def seconds(networks: dict[str, Network], size: int, bare: Slice) -> dict[str, dict[str, float]]:
    """CPU seconds of each network, one thread: of an ``update``, and to reconstruct and score a ``slice``.

    Of the processor and not of the clock, as the machine may be busy; the networks take turns.
    """
    updates = measure.in_turn({name: training(network, size).step for name, network in networks.items()}, 7)
    nets = {name: network.make().eval() for name, network in networks.items()}
    scores = measure.in_turn({name: partial(score, net, bare) for name, net in nets.items()}, 5)
    found = {"update": updates, "slice": scores}
    return {name: {what: median(t.cpu for t in taken[name]) for what, taken in found.items()} for name in networks}
