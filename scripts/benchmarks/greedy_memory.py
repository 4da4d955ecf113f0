"""Memory of a training step: bytes that autograd keeps, and growth of a fresh process."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.utils.checkpoint
from torch import Tensor

from benchmarks.greedy_training import Case, Training


def saved_bytes(training: Training) -> int:
    """Largest number of bytes that autograd keeps for the backward pass at any moment of a training step.

    Counted where a tensor is saved, each storage once and for as long as it lives. Apart from these, and not counted:
    parameters, and the batch itself, which are there anyway. Checkpointing saves what it recomputes through hooks of
    its own, and those are counted like all others.
    """
    problem, target = training.batch
    operator = [t for t in vars(problem.A).values() if isinstance(t, Tensor)]
    saved = _Saved([*training.weights, *operator, problem.y, problem.AHy, target])
    hooks_of_recomputation = torch.utils.checkpoint._recomputation_hook

    def counted(*args: Any) -> Any:
        hooks = hooks_of_recomputation(*args)
        keep = hooks.pack_hook
        hooks.pack_hook = lambda x: keep(saved.add(x))
        return hooks

    with (
        patch.object(torch.utils.checkpoint, "_recomputation_hook", counted),
        torch.autograd.graph.saved_tensors_hooks(saved.add, lambda x: x),
    ):
        training.step()
    return saved.peak


class _Saved:
    def __init__(self, apart: Iterable[Tensor]) -> None:
        self._apart = {t.untyped_storage().data_ptr() for t in apart}
        self._alive: dict[int, int] = {}
        self.peak = 0

    def add(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        place = storage.data_ptr()
        if place not in self._apart and place not in self._alive:
            self._alive[place] = storage.nbytes()
            weakref.finalize(storage, self._alive.pop, place)
            self.peak = max(self.peak, sum(self._alive.values()))
        return x


def growth(case: Case, regime: str) -> int:
    """Bytes by which a fresh process grows in its first training step; on a GPU, those that torch allocates there.

    Gradients and Adam's moments are there before. On a CPU this is resident memory, Linux only; it also holds what
    computing needs for a moment, and what the allocator does not give back.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_growth, case, regime).result()


def _growth(case: Case, regime: str) -> int:
    torch.set_num_threads(1)
    Training.of(replace(case, n_steps=1, size=16), regime).step()  # loads the libraries
    training = Training.of(case, regime)
    training.make_state()
    if case.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        training.step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status("VmRSS")
    training.step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def moments(training: Training) -> list[Tensor]:
    states = training.optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def backward_nodes(training: Training) -> dict[str, int]:
    """What autograd builds for a training step, all losses together.

    fft_nodes: transforms in the backward pass. input_gradients: convolutions whose backward pass goes on into their
    input, of ``convolutions``.
    """
    counts = {"fft_nodes": 0, "convolutions": 0, "input_gradients": 0}
    for loss in training.losses():
        seen, waiting = set(), [loss.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            inputs = [function for function, _ in node.next_functions]
            waiting += inputs
            counts["fft_nodes"] += "Fft" in node.name()
            if "Convolution" in node.name():
                counts["convolutions"] += 1
                counts["input_gradients"] += inputs[0] is not None
    return counts
