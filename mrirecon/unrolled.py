"""Unrolled reconstruction: a list of steps, each of which brings the image nearer to the data and denoises it.

Proximal gradient:  x <- D(x - t (A^H A x - A^H y))
Model-based (MoDL): x <- argmin_x ||A x - y||^2 + lam ||x - D(x_k)||^2

with a learned denoiser D. Proximal gradient after Sandino et al., IEEE Signal Processing Magazine 37(1), 2020; MoDL
after Aggarwal et al., IEEE TMI 38(2), 2019, arXiv:1712.02862. How a network is trained (end to end, checkpointed,
greedily) is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, isfinite
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mrirecon.denoisers.denoiser import Denoiser, no_inverse
from mrirecon.errors import InputError
from mrirecon.inversion import run_inverted
from mrirecon.physics.problem import Problem
from mrirecon.solvers import conjugate_gradient

Activations = Literal["stored", "recomputed", "inverted"]


class ProximalGradient(nn.Module):
    """x <- D(x - t (A^H A x - A^H y)), with a learned step size t.

    Args:
        denoiser: the learned proximal operator D.
        step_size: t at the start of training. With ||A|| <= 1, 1 is the longest step that never overshoots.
    """

    def __init__(self, denoiser: nn.Module, step_size: float = 1.0) -> None:
        super().__init__()
        if not isfinite(step_size):
            raise InputError(f"step_size is {step_size}; expected a number, usually 1")
        self.denoiser = denoiser
        self.step_size = nn.Parameter(torch.tensor(float(step_size)))

    def forward(self, x: Tensor, problem: Problem) -> Tensor:
        return self.denoiser(x - self.step_size * (problem.A.normal(x) - problem.AHy))

    def check_inverse(self) -> None:
        """Raise InputError where ``inverse`` cannot be: from t = 1 up, or with a denoiser that has none."""
        _undoable(self.denoiser)
        t = float(self.step_size.detach())
        if not t < 1:
            raise InputError(
                f"step_size is {t:.4g}, but activations: inverted needs one below 1: it inverts I - t A^H A, which is "
                "singular at t = 1, as ||A|| <= 1 and A^H A reaches 1. Start with a step_size of at most 0.5, or use "
                "activations: recomputed"
            )

    @torch.no_grad()
    def inverse(self, y: Tensor, problem: Problem) -> Tensor:
        """x of a result y: the denoiser's inverse z, then (I - t A^H A) x = z - t A^H y by conjugate gradients.

        Errors of z grow by up to 1 / (1 - t).
        """
        t = self.step_size
        z = _undoable(self.denoiser).inverse(y)
        # Until only rounding is left: in single precision 8 iterations at t = 0.5, 18 at 0.9, 39 at 0.99.
        return conjugate_gradient(
            lambda v: v - t * problem.A.normal(v),
            z - t * problem.AHy,
            x0=z,
            iterations=200,
            tolerance=10 * torch.finfo(z.dtype).eps,
        )


class ModelBased(nn.Module):
    """x <- (A^H A + lam I)^-1 (A^H y + lam z) with z = D(x), by conjugate gradients started at z.

    The start is the denoised image, as it solves the equation where lam is large; few iterations then do.

    Args:
        denoiser: the learned denoiser D.
        weight: lam at the start of training, > 0; it is learned through its logarithm and so stays positive.
        iterations: conjugate gradient iterations of a step, at most.
    """

    def __init__(self, denoiser: nn.Module, weight: float = 0.05, iterations: int = 10) -> None:
        super().__init__()
        if not 0 < weight < inf:
            raise InputError(f"weight is {weight}; it must be positive and finite, for example 0.05")
        if iterations < 1:
            raise InputError(f"iterations is {iterations}; a step needs at least 1")
        self.denoiser = denoiser
        self.log_weight = nn.Parameter(torch.tensor(float(weight)).log())
        self.iterations = iterations

    def forward(self, x: Tensor, problem: Problem) -> Tensor:
        lam = self.log_weight.exp()
        z = self.denoiser(x)
        b = problem.AHy + lam * z
        return conjugate_gradient(lambda v: problem.A.normal(v) + lam * v, b, x0=z, iterations=self.iterations)

    def check_inverse(self) -> None:
        """Raise InputError for a denoiser that has no inverse."""
        _undoable(self.denoiser)

    @torch.no_grad()
    def inverse(self, y: Tensor, problem: Problem) -> Tensor:
        """x of a result y: z = ((A^H A + lam) y - A^H y_data) / lam, then the denoiser's inverse.

        Exact where the conjugate gradients of the step have converged; what is left of their residual comes back
        divided by lam.
        """
        lam = self.log_weight.exp()
        return _undoable(self.denoiser).inverse(y + (problem.A.normal(y) - problem.AHy) / lam)


class OneShot(nn.Module):
    """x <- D(x), which does not look at the data again.

    Args:
        denoiser: the learned denoiser D.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, problem: Problem) -> Tensor:
        denoised: Tensor = self.denoiser(x)
        return denoised


def _undoable(denoiser: nn.Module) -> Denoiser:
    if not isinstance(denoiser, Denoiser) or type(denoiser).inverse is Denoiser.inverse:
        raise no_inverse(denoiser)
    return denoiser


def run(steps: Iterable[nn.Module], x: Tensor, problem: Problem, activations: Activations = "stored") -> Tensor:
    """Apply steps one after the other.

    activations: what the backward pass needs of a step is ``stored``; or ``recomputed`` there from the step's input
        (activation checkpointing); or ``inverted``: the input itself is found from the step's result, see
        :mod:`mrirecon.inversion`.
    """
    if activations == "inverted" and torch.is_grad_enabled():
        return run_inverted(steps, x, problem)
    for step in steps:
        x = checkpoint(step, x, problem, use_reentrant=False) if activations == "recomputed" else step(x, problem)
    return x


class Unrolled(nn.Module):
    """A network that is a list of steps, started at A^H y.

    Args:
        steps: the distinct steps, each a module ``(image, problem) -> image``.
        repeats: how often the list is run through; more than once means shared weights.
    """

    def __init__(self, steps: Sequence[nn.Module], repeats: int = 1) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.repeats = repeats

    @property
    def sequence(self) -> list[nn.Module]:
        """The steps in the order in which they are applied, a shared one as often as it is used."""
        return list(self.steps) * self.repeats

    def forward(self, problem: Problem) -> Tensor:
        """Image (batch, map, *space) of a problem whose data are scaled (see ``Problem.scaled``)."""
        return run(self.sequence, problem.AHy, problem)


def one_shot(denoiser: Callable[[], nn.Module]) -> Unrolled:
    """A denoiser of A^H y alone, without data consistency: what unrolled networks are compared with.

    Args:
        denoiser: makes the denoiser.
    """
    return Unrolled([OneShot(denoiser())])


def proximal_gradient(
    denoiser: Callable[[], nn.Module], n_steps: int = 8, step_size: float = 1.0, share_weights: bool = False
) -> Unrolled:
    """A proximal-gradient network.

    Args:
        denoiser: makes the denoiser of a step.
        n_steps: number of unrolled steps.
        step_size: t of every step at the start of training.
        share_weights: one denoiser and one step size for all steps.
    """
    return _unroll(lambda: ProximalGradient(denoiser(), step_size), n_steps, share_weights)


def model_based(
    denoiser: Callable[[], nn.Module],
    n_steps: int = 8,
    weight: float = 0.05,
    iterations: int = 10,
    share_weights: bool = False,
) -> Unrolled:
    """A MoDL network.

    Args:
        denoiser: makes the denoiser of a step.
        n_steps: number of unrolled steps.
        weight: lam of every step at the start of training.
        iterations: conjugate gradient iterations of a step.
        share_weights: one denoiser and one weight for all steps, as in the MoDL paper.
    """
    return _unroll(lambda: ModelBased(denoiser(), weight, iterations), n_steps, share_weights)


def _unroll(make_step: Callable[[], nn.Module], n_steps: int, share_weights: bool) -> Unrolled:
    if n_steps < 1:
        raise InputError(f"n_steps is {n_steps}; a network needs at least 1 step")
    if share_weights:
        return Unrolled([make_step()], repeats=n_steps)
    return Unrolled([make_step() for _ in range(n_steps)])
