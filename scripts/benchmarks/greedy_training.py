"""A training step of the greedy benchmark: a network on one batch of noise, updated in one of four regimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mrirecon.denoisers import Contractive, ResNet
from mrirecon.physics import Problem, orthonormal, sense
from mrirecon.testing import complex_normal
from mrirecon.training.link import Link, Local
from mrirecon.training.stages import stage_losses, stages_of
from mrirecon.unrolled import Activations, Unrolled, model_based, proximal_gradient

# Steps per stage, and what is kept of a step's activations.
REGIMES: dict[str, tuple[int | None, Activations]] = {
    "end-to-end": (None, "stored"),
    "checkpointed": (None, "recomputed"),
    "greedy": (1, "stored"),
    "inverted": (None, "inverted"),
}
# n_steps and channels to a network. The two below can be undone, the last one only in words.
NETWORKS: dict[str, Callable[[int, int], Unrolled]] = {
    "PGD, ResNet": lambda n, channels: proximal_gradient(lambda: ResNet(channels, n_blocks=2), n),
    "MoDL 4, Contractive": lambda n, channels: model_based(lambda: Contractive(channels), n, weight=4.0),
    "PGD t=0.5, Contractive": lambda n, channels: proximal_gradient(lambda: Contractive(channels), n, step_size=0.5),
    "PGD t=1, Contractive": lambda n, channels: proximal_gradient(lambda: Contractive(channels), n),
}


@dataclass(frozen=True)
class Case:
    """What is trained: ``n_steps`` unrolls of a network of NETWORKS, on a square image of ``size`` and its coils."""

    n_steps: int = 8
    network: str = "PGD, ResNet"
    channels: int = 64
    n_coils: int = 8
    size: int = 128
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


class Training:
    """A network, its optimiser and one batch, all made beforehand; ``step`` is what is measured."""

    def __init__(
        self, net: Unrolled, batch: tuple[Problem, Tensor], steps_per_stage: int | None, activations: Activations
    ) -> None:
        self.net, self.batch, self.activations = net, batch, activations
        self.stages = stages_of(len(net.sequence), steps_per_stage)
        self.optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    @classmethod
    def of(cls, case: Case, regime: str) -> Training:
        """On noise, in one of REGIMES."""
        return cls(network(case), batch(case), *REGIMES[regime])

    def losses(self) -> Iterator[Tensor]:
        return losses(self.net, self.batch, self.stages, Local(), self.activations)

    def backward(self) -> None:
        for loss in self.losses():
            loss.backward()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.backward()
        self.optimizer.step()
        if self.batch[1].is_cuda:
            torch.cuda.synchronize()

    def make_state(self) -> None:
        """Gradients and Adam's moments, of zeros, so that they are there before memory is measured."""
        for p in self.net.parameters():
            p.grad = torch.zeros_like(p)
        self.optimizer.step()

    def gradient(self) -> Tensor:
        """Of all weights together, as one vector."""
        self.net.zero_grad()
        self.backward()
        return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in self.weights])

    @property
    def weights(self) -> list[nn.Parameter]:
        return list(self.net.parameters())


def losses(
    net: Unrolled,
    batch: tuple[Problem, Tensor],
    stages: list[slice],
    link: Link,
    activations: Activations = "stored",
) -> Iterator[Tensor]:
    """The loss of each stage that the link owns, by the package's own `stage_losses`."""
    problem, target = batch
    for output in stage_losses(net, problem, lambda x: (x - target).abs().mean(), stages, link, activations):
        yield output.loss


def network(case: Case) -> Unrolled:
    torch.manual_seed(0)
    net = NETWORKS[case.network](case.n_steps, case.channels)
    for layer in net.modules():
        # Last layers start at zero: with them every other gradient is zero, and every denoiser the identity.
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            layer.reset_parameters()
    return net.to(case.device)


def batch(case: Case, seed: int = 1) -> tuple[Problem, Tensor]:
    """Problem and target of noise, a third of the lines kept; scaled as in training."""
    shape = (case.size, case.size)
    maps, _ = orthonormal(complex_normal((1, 1, case.n_coils, *shape), seed=seed))
    lines = torch.rand(1, 1, 1, case.size, generator=torch.Generator().manual_seed(seed)) < 0.33
    x = complex_normal((1, 1, *shape), seed=seed + 1000).to(case.device)
    A = sense(maps.to(case.device), lines.float().to(case.device))
    problem, scale = Problem.pose(A, A(x)).scaled()
    return problem, x / scale
