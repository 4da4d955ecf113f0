"""What training stage by stage is, each a convex program that is solved to a certificate before the next begins.

What a certificate says: the filters of this stage are globally optimal, to the gap, for this stage's gated program with
these gates, given the images that it gets. It says nothing of other gates, of the ReLU network, or of stages jointly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from torch import Tensor

from mrirecon.convex.gates import Sampling
from mrirecon.errors import InputError
from mrirecon.training.convex_stage import convex_denoiser, program_of
from mrirecon.training.module import Reconstruction
from mrirecon.unrolled import OneShot

SINGLE = 1e-5  # least relative gap that sums of residuals in single precision are worth


@dataclass(frozen=True)
class Convex:
    """How stages are solved.

    Args:
        tolerance: relative duality gap at which a stage is done.
        gates: how every stage draws its own, by (seed_everything, stage): from a ``normal`` distribution, or by
            ``data`` from the statistics of its patches. Those whose pattern on the training data is another's, or
            dead, are drawn anew.
        candidates: values of t (proximal gradient) or lam (MoDL) to solve every stage with; the one with the lowest
            validation loss is kept, and one for which MoDL's iterations are too few is left out. Null for the step's
            own.
        line_search: how many further values of t or lam to try after the candidates, or after the step's own: beyond
            the best one while it is the least or largest, else halfway (by ratio) to the neighbour farther away. The
            search is outside the program, which no certificate speaks of: another value may be better.
        precision: of the passes over the data, float32 or float64; below gaps of 1e-5 it must be float64.
        cg_tolerance: relative residual of MoDL's equations; it counts in the certificate.
    """

    tolerance: float = 1e-4
    gates: Sampling = "normal"
    candidates: list[float] | None = None
    line_search: int = 0
    precision: Literal["float32", "float64"] = "float32"
    cg_tolerance: float = 1e-8

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1 or not 0 < self.cg_tolerance < 1:
            raise InputError(
                f"convex.tolerance is {self.tolerance}, convex.cg_tolerance is {self.cg_tolerance}; expected numbers "
                "between 0 and 1, such as 1e-4"
            )
        if self.precision == "float32" and self.tolerance < SINGLE:
            raise InputError(
                f"convex.tolerance is {self.tolerance:g}, below what the rounding of single precision can prove; use "
                f"--convex.precision float64, or a tolerance of {SINGLE:g} or more"
            )
        wrong = [value for value in self.candidates or [] if not (isfinite(value) and value > 0)]
        if wrong or self.candidates == []:
            raise InputError(f"convex.candidates is {self.candidates}; expected positive numbers, or null")
        if self.line_search < 0:
            raise InputError(f"convex.line_search is {self.line_search}; expected a number of values, or 0 for none")


@dataclass
class Progress:
    """Where a run is.

    stages: of each that is done, its certificate, its scores on the validation files, and the value of t or lam.
    tried: of the stage in work, the candidates that are done, with their weights.
    filters: of the candidate in work, the last ones (gate, tap).
    files: what tells the training and validation files from others.
    """

    stages: list[dict[str, Any]] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    filters: Tensor | None = None
    files: str = ""


def refuse(model: Reconstruction, settings: Convex) -> None:
    """Raises InputError for a training that is not a sequence of convex programs."""
    program_of(model.loss)
    if len(model.stages) != len(model.net.sequence):
        raise InputError(
            "model.steps_per_stage must be 1: through two steps at once the result is not linear in the filters"
        )
    if model.net.repeats > 1:
        raise InputError("share_weights: true makes one program of all stages, which is not convex; use false")
    for step in model.net.steps:
        denoiser = convex_denoiser(step)
        if denoiser.strength == 0:
            raise InputError("strength is 0: a certificate needs a penalty; use a number above 0, such as 1e-3")
        if denoiser.ndim != 2:
            raise InputError(f"the denoiser's ndim is {denoiser.ndim}, but training samples are slices; use ndim: 2")
        if isinstance(step, OneShot) and (settings.candidates is not None or settings.line_search):
            raise InputError(
                "convex.candidates and convex.line_search are of t or lam, which a one-shot denoiser does not have"
            )
