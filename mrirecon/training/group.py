"""A group of batches whose mean gradient makes one update, and what is done with that gradient."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.training.link import Link
from mrirecon.unrolled import Unrolled


class Group:
    """Where training is in its present group of batches; goes into a checkpoint that is saved inside one.

    size: batches in a group; the last group of an epoch may be smaller.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InputError(f"model.accumulate is {size}; expected at least 1 batch an update")
        self.size = size
        self.open = False  # between two updates
        self._saved: dict[str, Tensor] = {}  # gradients of a checkpoint, until training has gone on

    def place(self, batch: int, n_batches: int) -> tuple[int, int]:
        """The place of a batch of an epoch in its group, and how many the group has."""
        first = batch - batch % self.size
        return batch - first, min(self.size, n_batches - first)

    def begin(self, place: int, net: Unrolled, steps: Collection[int]) -> None:
        """A batch begins; ``steps`` of the network are trained here. Gradients are those of the group so far."""
        if place == 0:
            net.zero_grad()
        for name, gradient in self._saved.items():
            if int(name.split(".")[1]) in steps:  # "steps.K...."
                parameter = net.get_parameter(name)
                parameter.grad = gradient.to(parameter.device)
        self._saved = {}

    def state_dict(self, net: Unrolled, link: Link) -> dict[str, Tensor]:
        """The gradients inside a group, from all processes, which must all call this; empty between groups."""
        if not self.open:
            return {}
        found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        link.average(list(found.values()))
        on_host = {name: gradient.cpu() for name, gradient in found.items()}
        return {name: gradient for part in link.gathered(on_host) for name, gradient in part.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.open, self._saved = bool(state_dict), dict(state_dict)


def clip_stage(parameters: Sequence[Tensor], largest: float | None) -> Tensor:
    """Shorten the gradient of one stage to a norm of at most ``largest``; its norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if largest is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm


def refuse_deaf(net: Unrolled, stages: Sequence[slice]) -> None:
    """After a backward pass of stages: raises InputError for a step whose denoiser had no part in its stage's loss.

    End to end its weights would reach a loss by a later step; in greedy training they would never learn.
    """
    for stage in stages:
        for number, step in list(enumerate(net.sequence))[stage]:
            weights = [p for p in getattr(step, "denoiser", step).parameters() if p.requires_grad]
            if weights and all(p.grad is None for p in weights):
                raise InputError(
                    f"the output of step {number} ({type(step).__name__}) does not depend on its own denoiser, so "
                    "greedy training would never change it; let the step return what its denoiser has improved, put "
                    "more steps into a stage with --model.steps_per_stage, or train end to end with null"
                )
