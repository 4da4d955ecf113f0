"""What the denoisers of an unrolled network are given, stage by stage, as the network runs."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from mrirecon.errors import InputError
from mrirecon.physics.problem import Problem
from mrirecon.unrolled import Unrolled


def stage_inputs(net: Unrolled, problem: Problem) -> Iterator[tuple[nn.Module, Tensor]]:
    """Each stage's denoiser and the image (batch, map, *space) that it is given; a stage runs when it is asked for.

    For proximal gradient that is the image after the step towards the data, x - t (A^H A x - A^H y); for MoDL the image
    itself; for a one-shot network A^H y. It is seen at the denoiser's door, whatever the step does before.

    problem: as the network takes it, with scaled data.

    Raises InputError for a step without a ``denoiser``, or which does not call it.
    """
    x = problem.AHy
    for number, step in enumerate(net.sequence, 1):
        denoiser, given = denoiser_of(step, number), list[Tensor]()
        hook = denoiser.register_forward_pre_hook(lambda _, words, given=given: given.append(words[0]))
        try:
            x = step(x, problem)
        finally:
            hook.remove()
        if not given:
            raise InputError(f"stage {number} ({type(step).__name__}) does not call its denoiser; there is no input")
        yield denoiser, given[0]


def denoiser_of(step: nn.Module, number: int) -> nn.Module:
    """The denoiser of a step, which is the stage ``number``, from 1; raises InputError where there is none."""
    denoiser = getattr(step, "denoiser", None)
    if not isinstance(denoiser, nn.Module):
        raise InputError(
            f"stage {number} ({type(step).__name__}) has no denoiser; expected a step such as ProximalGradient"
        )
    return denoiser
