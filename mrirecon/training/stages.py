"""Where the gradient stops: an unrolled network as stages that are trained side by side (GLEAM).

Stage k starts at the detached output of stage k - 1, has the same loss against the same target, and needs only its own
activations:  min over the weights of stage k of  loss( F_k( stop_gradient(x_{k-1}) ) ),  x_0 = A^H y.

One stage is ordinary end-to-end training. Ozturkler et al. 2022, arXiv:2207.08393. Neither Lightning nor
torch.distributed is known here; a `Link` decides which stages this process owns and how an image gets to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mrirecon.denoisers import Denoiser
from mrirecon.errors import InputError
from mrirecon.physics.problem import Problem
from mrirecon.training.link import Link
from mrirecon.unrolled import Activations, Unrolled, run


def stages_of(n_steps: int, steps_per_stage: int | None = None) -> list[slice]:
    """The stages of a network as slices of its steps; ``None`` makes the whole network one stage.

    A last stage may be shorter than the others.
    """
    if steps_per_stage is None:
        return [slice(0, n_steps)]
    if not 1 <= steps_per_stage <= n_steps:
        raise InputError(
            f"steps_per_stage={steps_per_stage} does not fit a network of {n_steps} steps; "
            f"use 1 to {n_steps}, or null to train end to end"
        )
    return [slice(k, min(k + steps_per_stage, n_steps)) for k in range(0, n_steps, steps_per_stage)]


def steps_of(net: Unrolled, stage: slice) -> list[int]:
    """The numbers of the distinct steps of a stage; shared steps have one."""
    return sorted({i % len(net.steps) for i in range(len(net.sequence))[stage]})


def apart(net: Unrolled, stages: Sequence[slice], numbers: Iterable[int]) -> dict[tuple[int, ...], list[int]]:
    """Some of the stages by number, those that share weights together; each group with the numbers of its steps."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for k in numbers:
        steps, together = set(steps_of(net, stages[k])), [k]
        for others in [others for others in groups if steps & set(others)]:
            steps, together = steps | set(others), groups.pop(others) + together
        groups[tuple(sorted(steps))] = together
    return groups


class Output(NamedTuple):
    """What a stage gives for a batch: its number, its loss to call ``backward`` on, its image without a graph."""

    stage: int
    loss: Tensor
    image: Tensor


def stage_losses(
    net: Unrolled,
    problem: Problem,
    loss: Callable[[Tensor], Tensor],
    stages: list[slice],
    link: Link,
    activations: Activations = "stored",
    seed: tuple[int, ...] | None = None,
    trained: range | None = None,
) -> Iterator[Output]:
    """The loss of each stage that this process owns, one after the other.

    Call ``backward`` on a loss before asking for the next, and only one stage's activations are ever alive. The image
    is sent on before the loss is yielded, so that the next device starts while this one is in its backward pass.

    seed: of the random numbers that a denoiser draws (dropout, noise), together with the stage, so that they do not
        depend on which process the stage is in; sets torch's generator. None leaves that as it is.
    trained: consecutive stages that learn, all unless given. Those before only hand on their image; those after do not
        run.
    """
    steps = net.sequence
    trained = range(len(stages)) if trained is None else trained
    for k in link.owned(len(stages)):
        if k >= trained.stop:
            break
        x = problem.AHy if k == 0 else link.receive(problem.AHy, k)
        if seed is not None:
            torch.manual_seed(int(np.random.SeedSequence((*seed, k)).generate_state(1, np.uint64)[0]))
        with torch.set_grad_enabled(k in trained):
            x = run(steps[stages[k]], x, problem, activations)
        if k + 1 < trained.stop:
            link.send(x.detach(), k)
        if k in trained:
            value = loss(x) + penalty(steps[stages[k]], x)
            if not value.requires_grad:
                raise InputError(f"stage {k} has nothing to learn: its output does not depend on any weight")
            yield Output(k, value, x.detach())


def penalty(steps: list[nn.Module], x: Tensor) -> Tensor:
    """The penalties of a stage's denoisers, each counted once however often its step is used."""
    with torch.autocast(x.device.type, enabled=False):
        penalties = [m.penalty().to(x.device) for m in nn.ModuleList(steps).modules() if isinstance(m, Denoiser)]
    return torch.stack(penalties).sum() if penalties else x.real.new_zeros(())
