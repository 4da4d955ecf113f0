"""From the gradients of some batches to one update of a stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.unrolled import Unrolled


def group_of(batch: int, size: int, n_batches: int) -> tuple[int, int]:
    """The place of a batch in the group of batches that makes one update, and how many the group has.

    The last group of an epoch of ``n_batches`` may be smaller.
    """
    first = batch - batch % size
    return batch - first, min(size, n_batches - first)


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
