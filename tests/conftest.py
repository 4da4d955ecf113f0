"""What tests of several rooms need."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable

import torch
from torch import Tensor


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
