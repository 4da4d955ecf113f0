"""A stage of a greedy unrolled network as a convex program in its denoiser's filters.

With the images that earlier steps give, fixed gates, and t or lam fixed, a step is affine in the filters v:

one-shot            x + D_v x
proximal gradient   z + D_v z,  z = x - t (A^H A x - A^H y)
MoDL                (A^H A + lam)^-1 (A^H y + lam x)  +  T D_v x,  T = lam (A^H A + lam)^-1

with D_v the gated filters. The loss, mean |result - target|^2 over pixels and slices or the sum of the parts' mean
absolute values, plus the denoiser's penalty, is what `fit` with loss L2 or PartsL1 minimises, here over all training
slices at once and each with one mask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mrirecon.convex.followed import Followed
from mrirecon.convex.gates import Sampling, distinct_gates
from mrirecon.convex.least_absolute import LeastAbsolute
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, ImagePatches
from mrirecon.denoisers import ConvexDual
from mrirecon.denoisers.denoiser import to_channels, to_complex
from mrirecon.errors import InputError
from mrirecon.losses import L2, Loss, PartsL1
from mrirecon.physics import LinearOperator, Problem
from mrirecon.solvers import conjugate_gradient
from mrirecon.training.room import check_memory
from mrirecon.unrolled import ModelBased, OneShot, ProximalGradient

ITERATIONS = 500  # of conjugate gradients, at most; some ten to fifty are usual


class Sample(NamedTuple):
    """A slice: the image that the step is given, its problem, and the target, both (1, map, H, W) in one scale."""

    x: Tensor
    problem: Problem
    target: Tensor


def stage_program(
    step: nn.Module,
    samples: Iterable[Sample],
    gates: Sampling = "normal",
    seed: int = 0,
    cg_tolerance: float = 1e-8,
    dtype: torch.dtype = torch.float32,
    kind: type[LeastSquares] | type[LeastAbsolute] = LeastSquares,
    total: int = 0,
    rate: float = 1.0,
) -> LeastSquares | LeastAbsolute:
    """The program of a step on the samples of a training set.

    gates, seed: how gates that have no pattern of their own on these samples are drawn anew.
    cg_tolerance: relative residual to which MoDL's equations are solved; what is left of it counts in the certificate.
    dtype: float32 or float64, of the filters' passes over the data.
    kind: of the program, by :func:`program_of` of the loss.
    total: samples there will be, if that is known: whether the memory holds them is then clear from the first.
    rate: data.volume_sample_rate with which these are read.

    Raises InputError for a step whose result is not affine in its filters, for more samples than the memory holds, and
    for images that are not finite.
    """
    denoiser = convex_denoiser(step)
    images: list[Tensor] = []
    targets: list[Tensor] = []
    solvers: list[_Inverse] = []
    held, pixels = 0, 0

    def needed(part: float) -> int:
        # An image and a target, and of either a scaled copy while both are there; what MoDL's steps give, in double
        # precision, and joined; and what solving takes.
        size, every = images[-1].element_size(), part * max(total, len(images)) / len(images)
        n = int(every * pixels)
        kept = int(every * held) + n * (4 * size + 20 * bool(solvers))
        return kept + kind.memory(n, denoiser.gates.numel(), size)

    with torch.no_grad():
        for x, problem, target in samples:
            reached = x
            if isinstance(step, ProximalGradient):
                x = x - step.step_size * (problem.A.normal(x) - problem.AHy)
                reached = x
            elif isinstance(step, ModelBased):
                solver = _Inverse(problem.A, float(step.log_weight.exp()), cg_tolerance)
                reached = solver.solve((problem.AHy + solver.lam * x).to(torch.complex128))
                solvers.append(solver)
                held += sum(t.numel() * t.element_size() for t in vars(problem.A).values() if isinstance(t, Tensor))
            images.append(to_channels(x)[0].to(dtype))
            targets.append(to_channels(target - reached)[0].to(dtype))
            if not bool(torch.isfinite(images[-1]).all() and torch.isfinite(targets[-1]).all()):
                raise InputError(
                    f"training slice {len(images)}, as this stage gets it, is not finite; look for NaN in the file, or "
                    "use a smaller step_size or a larger weight"
                )
            pixels += images[-1].numel()
            check_memory(needed, max(total, len(images)), rate, x.device)
    if not images:
        raise InputError("there is no slice to train on; name a folder of files with --data.path")
    # F is 1/2 ||.||^2, or sum |.|, + penalty for images and targets that are scaled so; gates do not see the scale.
    weights = [2 / (len(images) * image.numel()) for image in images]  # of a pixel, which is two samples
    scales = [(2 * weight) ** 0.5 if kind is LeastSquares else weight for weight in weights]
    parts = [part for image, a in zip(images, scales, strict=True) for part in image * a]
    b = torch.cat([(target * a).flatten() for target, a in zip(targets, scales, strict=True)])
    patches = ImagePatches(parts, denoiser.gates.shape[-1], denoiser.padding)
    # As the denoiser will hold them: rounded later, they would open on other patches.
    u = distinct_gates(denoiser.gates.flatten(1).to(dtype), patches, gates, seed).to(denoiser.gates.dtype)
    K = GatedOperator(patches, u.to(dtype))
    if not isinstance(step, ModelBased):
        return kind(K, b, denoiser.strength)
    shapes = [image.shape for image in images]
    error = sum((s.off * a) ** 2 for s, a in zip(solvers, scales, strict=True)) ** 0.5
    return kind(Followed(K, _Smoothing(solvers, shapes)), b, denoiser.strength, error)


def program_of(loss: Loss) -> type[LeastSquares] | type[LeastAbsolute]:
    """The kind of program that a loss leads to; InputError for a loss without one."""
    if isinstance(loss, L2):
        return LeastSquares
    if isinstance(loss, PartsL1):
        return LeastAbsolute
    raise InputError(
        f"model.loss is {type(loss).__name__}, but stages are solved for mrirecon.losses.L2 or "
        "mrirecon.losses.PartsL1, which are sums over real and imaginary parts; the complex modulus of L1 couples the "
        "parts, magnitude losses are not convex in the complex image, and all of them have `mrirecon fit`"
    )


def convex_denoiser(step: nn.Module) -> ConvexDual:
    """The denoiser of a step that is a convex program; InputError for another."""
    if not isinstance(step, (OneShot, ProximalGradient, ModelBased)):
        raise InputError(
            f"the step {type(step).__name__} is not known to be affine in its filters; use "
            "mrirecon.unrolled.one_shot, proximal_gradient or model_based"
        )
    if not isinstance(step.denoiser, ConvexDual):
        raise InputError(
            f"training with a {type(step.denoiser).__name__} is no convex program; use mrirecon.denoisers.ConvexDual, "
            "or `mrirecon fit`"
        )
    return step.denoiser


class _Inverse:
    """Solves (A^H A + lam) x = b for one slice in double precision, and knows how far off that was.

    A small lam multiplies what is left of b; in single precision that alone could be more than the gap asked for.
    """

    def __init__(self, A: LinearOperator, lam: float, tolerance: float) -> None:
        self.A, self.lam, self.tolerance = A, lam, tolerance
        self.error, self.off = 0.0, 0.0  # the largest ||x - its solution|| / ||x||, and the last ||x - its solution||

    def solve(self, b: Tensor) -> Tensor:
        def H(v: Tensor) -> Tensor:
            return self.A.normal(v) + self.lam * v

        x = conjugate_gradient(H, b, iterations=ITERATIONS, tolerance=self.tolerance)
        # ||x - H^-1 b|| <= ||b - H x|| / lam, as H >= lam
        self.off = float((b - H(x)).norm()) / self.lam
        if self.off:
            self.error = max(self.error, self.off / max(float(x.norm()), 1e-300))
        return x


class _Smoothing:
    """T = lam (A^H A + lam)^-1 on the real and imaginary parts of all slices, one after the other."""

    def __init__(self, solvers: list[_Inverse], shapes: list[torch.Size]) -> None:
        self.solvers, self.shapes = solvers, shapes

    @property
    def error(self) -> float:
        return max(solver.error for solver in self.solvers)

    def __call__(self, q: Tensor) -> Tensor:
        parts = q.split([shape.numel() for shape in self.shapes])
        out = []
        for part, shape, solver in zip(parts, self.shapes, self.solvers, strict=True):
            image = to_complex(part.reshape(1, *shape).double())
            out.append(to_channels(solver.lam * solver.solve(image)).flatten())
        return torch.cat(out).to(q)
