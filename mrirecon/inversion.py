"""Training without stored activations: the backward pass undoes the steps one by one, from the last image back.

Forward:   x_k = f_k(x_{k-1}), k = 1..n, without a graph; only x_0 and x_n are kept.
Backward:  for k = n..1:  x_{k-1} = f_k^-1(x_k);  f_k once more with a graph;  its share of the gradient.

Memory-efficient learning by inversion, Kellman et al., IEEE TCI 6, 2020, arXiv:1912.05098; a baseline of GLEAM,
arXiv:2207.08393. The memory is that of one step at any depth, as with recomputed activations but without an image for
every step; the time is that of recomputation and of the inverses. The gradient is as good as the inverses, whose error
grows from step to step on the way back: by up to (1 + lam) / lam in a model-based step and 1 / (1 - t) in a proximal
gradient step, as these shrink what the data determine, and by up to 1 / (1 - L) in the denoiser. So it is measured in
every backward pass and refused above `TOLERANCE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mrirecon.errors import InputError
from mrirecon.physics.problem import Problem

# Of the reconstructed first input, relative. With an error e there, measured on random networks of 4 to 8 steps of both
# kinds: the gradient of all weights together was wrong by 0.003 to 0.5 e, that of the first denoiser by 0.1 to 23 e,
# the worst single tensor, a bias whose gradient nearly cancels, by 3 to 114 e. So at 1e-3 the tensor that is worst off
# is wrong by some percent; at 1e-2 it can be nothing but error.
TOLERANCE = 1e-3


class Invertible(Protocol):
    """A step that can be undone: ``inverse(step(x, problem), problem)`` is x, up to an error that is measured."""

    def __call__(self, x: Tensor, problem: Problem) -> Tensor: ...

    def inverse(self, y: Tensor, problem: Problem) -> Tensor: ...

    def check_inverse(self) -> None:
        """Raise InputError where the step, with its present weights, cannot be undone at all."""

    def parameters(self) -> Iterator[nn.Parameter]: ...


def invertible(steps: Iterable[nn.Module]) -> list[Invertible]:
    """The same steps; raises InputError where one of them cannot be undone."""
    checked = []
    for step in steps:
        if not (hasattr(step, "inverse") and hasattr(step, "check_inverse")):
            raise InputError(
                f"a step {type(step).__name__} has no inverse, which activations: inverted needs; "
                "use activations: recomputed"
            )
        checked.append(cast(Invertible, step))
        checked[-1].check_inverse()
    return checked


def run_inverted(steps: Iterable[nn.Module], x: Tensor, problem: Problem) -> Tensor:
    """Apply steps one after the other, to be undone in the backward pass.

    Gradients reach x and the weights, but not the problem: InputError where the problem's data need one. The backward
    pass raises InputError where the first input comes back with a larger error than `TOLERANCE`.
    """
    undoable = invertible(steps)
    if problem.AHy.requires_grad or problem.y.requires_grad:
        raise InputError("activations: inverted gives no gradient of the data or the maps; use activations: recomputed")
    parameters = dict.fromkeys(p for step in undoable for p in step.parameters() if p.requires_grad)
    return cast(Tensor, _Inverted.apply(undoable, problem, list(parameters), x, *parameters))


class _Inverted(torch.autograd.Function):
    """The weights are arguments so that autograd asks for their gradients; `forward` finds them in the steps."""

    @staticmethod
    def forward(
        ctx: Any, steps: list[Invertible], problem: Problem, names: list[Tensor], x: Tensor, *parameters: Tensor
    ) -> Tensor:
        y = x
        for step in steps:
            y = step(y, problem)
        ctx.steps, ctx.problem, ctx.parameters = steps, problem, names
        ctx.save_for_backward(x, y)
        device = x.device.type
        ctx.autocast = {"dtype": torch.get_autocast_dtype(device), "enabled": torch.is_autocast_enabled(device)}
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        first, x = ctx.saved_tensors
        gradients: dict[Tensor, Tensor] = {}
        # No cache of cast weights: the forward pass, which has no graph, may have left some in it.
        with torch.autocast(x.device.type, **ctx.autocast, cache_enabled=False):
            for k in reversed(range(len(ctx.steps))):
                step = ctx.steps[k]
                x = step.inverse(x, ctx.problem).detach()
                if k == 0:
                    _refuse_a_wrong_input(x, first, len(ctx.steps))
                x.requires_grad_()
                weights = [p for p in step.parameters() if p.requires_grad]
                with torch.enable_grad():
                    y = step(x, ctx.problem)
                cotangent, *shares = torch.autograd.grad(y, [x, *weights], cotangent, allow_unused=True)
                for p, share in zip(weights, shares, strict=True):
                    if share is not None:
                        gradients[p] = gradients[p] + share if p in gradients else share
        return None, None, None, cotangent, *(gradients.get(p) for p in ctx.parameters)


def _refuse_a_wrong_input(found: Tensor, true: Tensor, n_steps: int) -> None:
    error = relative_error(found, true)
    if not error <= TOLERANCE:  # so written that NaN is refused
        raise InputError(
            f"activations: inverted: going back {n_steps} steps, the first input comes out with a relative error of "
            f"{error:.1e}; at most {TOLERANCE:g} is allowed, as gradients would be wrong. Use ModelBased with a larger "
            "weight (4 for 8 steps, at least 0.5 for few) or more iterations; ProximalGradient with a step_size of at "
            "most 0.5; the Contractive denoiser with a smaller lipschitz or more sweeps; fewer steps_per_stage; "
            "32-bit precision; or activations: recomputed"
        )


def relative_error(x: Tensor, reference: Tensor) -> float:
    """Largest ||x - reference|| / ||reference|| of the items of a batch; an empty item counts with a norm of 1."""
    error = torch.linalg.vector_norm((x - reference).flatten(1), dim=1)
    norm = torch.linalg.vector_norm(reference.flatten(1), dim=1)
    return float((error / torch.where(norm > 0, norm, 1.0)).max())


@torch.no_grad()
def inverse_errors(steps: Sequence[nn.Module], x: Tensor, problem: Problem) -> list[float]:
    """Relative error of the input of every step as the backward pass meets it, in the order of the steps.

    The steps are undone from the last image back, so the errors of later steps are carried into earlier ones; the first
    number is what `TOLERANCE` limits. For the error of one step alone, give that step alone. Keeps all images.
    """
    undoable = invertible(steps)
    images = [x]
    for step in undoable:
        images.append(step(images[-1], problem))
    y, errors = images.pop(), []
    for step, image in zip(reversed(undoable), reversed(images), strict=True):
        y = step.inverse(y, problem)
        errors.append(relative_error(y, image))
    return errors[::-1]
