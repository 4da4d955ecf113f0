"""What users might write: a denoiser that draws from torch's own generator, a step that forgets its denoiser."""

from __future__ import annotations

from torch import Tensor, nn

from mrirecon.denoisers import ResNet
from mrirecon.physics import Problem
from mrirecon.unrolled import ProximalGradient, Unrolled


class Dropping(ResNet):
    """A residual CNN with dropout."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + nn.functional.dropout(x.real, 0.1, self.training)


class Deaf(ProximalGradient):
    """A gradient step that returns what it had before its denoiser."""

    def forward(self, x: Tensor, problem: Problem) -> Tensor:
        return x - self.step_size * (problem.A.normal(x) - problem.AHy)


def deaf(n_steps: int = 2) -> Unrolled:
    return Unrolled([Deaf(ResNet(channels=4, n_blocks=1)) for _ in range(n_steps)])
