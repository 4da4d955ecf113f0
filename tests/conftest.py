"""What tests of several rooms need."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable

import torch
from torch import Tensor

from mrirecon.physics import Problem, sense


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def peak_of_saved(train: Callable[[], object]) -> int:
    """Most bytes that autograd keeps at once while ``train`` runs."""
    alive = peak = 0

    class Saved:
        def __init__(self, x: Tensor) -> None:
            nonlocal alive, peak
            self.x = x
            alive += x.nbytes
            peak = max(peak, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.x.nbytes

    gc.collect()
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda s: s.x):
        train()
    return peak


def posed(
    shape: tuple[int, ...],
    batch: int = 2,
    n_coils: int = 3,
    dtype: torch.dtype = torch.complex64,
    seed: int = 1,
    sampled: float = 0.5,
) -> tuple[Problem, Tensor]:
    """The problem of random maps and random columns without noise, and its image (batch, 1, *shape)."""
    g = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, 1, n_coils, *shape, dtype=torch.complex128, generator=g)
    maps = (maps / maps.abs().square().sum(2, keepdim=True).sqrt()).to(dtype)
    mask = torch.rand(batch, 1, *[1] * (len(shape) - 1), shape[-1], generator=g) < sampled
    x = torch.randn(batch, 1, *shape, dtype=torch.complex128, generator=g).to(dtype)
    A = sense(maps, mask.to(dtype.to_real()), len(shape))
    return Problem.pose(A, A(x)), x
