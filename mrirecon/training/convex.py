"""Training stage by stage, each a convex program that is solved to a certificate before the next begins.

What a certificate says: the filters of this stage are globally optimal, to the gap, for this stage's gated program with
these gates, given the images that it gets. It says nothing of other gates, of the ReLU network, or of stages jointly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite, log
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.gates import Sampling
from mrirecon.convex.working_set import Solution, solve
from mrirecon.data.module import FastMRIData
from mrirecon.data.slices import Slice
from mrirecon.denoisers import ConvexDual
from mrirecon.errors import InputError
from mrirecon.imaging import magnitude, pose, sense_target
from mrirecon.training.convex_stage import Sample, convex_denoiser, program_of, stage_program
from mrirecon.training.link import Local
from mrirecon.training.module import Reconstruction
from mrirecon.training.objective import objective
from mrirecon.training.stages import penalty
from mrirecon.training.validation import Validation
from mrirecon.unrolled import ModelBased, OneShot, ProximalGradient, run


@dataclass(frozen=True)
class Convex:
    """How stages are solved.

    Args:
        tolerance: relative duality gap at which a stage is done.
        gates: ``normal`` keeps the denoiser's gates, but for those whose pattern on the training data is another's or
            dead; ``data`` draws them from the statistics of its patches.
        candidates: values of t (proximal gradient) or lam (MoDL) to solve every stage with; the one with the lowest
            validation loss is kept. Null for the step's own.
        precision: of the passes over the data, float32 or float64; below gaps of about 1e-5 float64 is needed.
        cg_tolerance: relative residual of MoDL's equations; it counts in the certificate.
    """

    tolerance: float = 1e-4
    gates: Sampling = "normal"
    candidates: list[float] | None = None
    precision: Literal["float32", "float64"] = "float32"
    cg_tolerance: float = 1e-8

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1 or not 0 < self.cg_tolerance < 1:
            raise InputError(
                f"convex.tolerance is {self.tolerance}, convex.cg_tolerance is {self.cg_tolerance}; expected numbers "
                "between 0 and 1, such as 1e-4"
            )
        wrong = [value for value in self.candidates or [] if not (isfinite(value) and value > 0)]
        if wrong or self.candidates == []:
            raise InputError(f"convex.candidates is {self.candidates}; expected positive numbers, or null")


@dataclass
class Progress:
    """Where a run is.

    stages: of each that is done, its certificate, its scores on the validation files, and the value of t or lam.
    tried: of the stage in work, the candidates that are done, with their weights.
    filters: of the candidate in work, the last ones (gate, tap).
    """

    stages: list[dict[str, Any]] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    filters: Tensor | None = None


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
        convex_denoiser(step)
        if isinstance(step, OneShot) and settings.candidates is not None:
            raise InputError("convex.candidates are values of t or lam, which a one-shot denoiser does not have")


class StageByStage:
    """Solves the stages of a network, and says how far it is.

    report: called with stage, candidate and certificate after every round of a program.
    save: called whenever there is something worth keeping.
    """

    def __init__(
        self,
        model: Reconstruction,
        data: FastMRIData,
        settings: Convex,
        progress: Progress,
        device: torch.device,
        report: Callable[[int, float | None, Certificate], object],
        save: Callable[[], object],
    ) -> None:
        self.net, self.loss, self.data, self.settings = model.net, model.loss, data, settings
        self.progress, self.device, self.report, self.save = progress, device, report, save
        data.batch_size = 1  # a sample of a program is a slice

    def run(self) -> None:
        """Solve all stages that are not done."""
        for stage in range(len(self.progress.stages), len(self.net.steps)):
            self._solve(stage)
            self.save()

    def _solve(self, stage: int) -> None:
        step, progress, settings = self.net.steps[stage], self.progress, self.settings
        denoiser = convex_denoiser(step)
        values: Sequence[float | None] = settings.candidates or [None]
        for value in values[len(progress.tried) :]:
            if value is not None:
                _set(step, value)
            dtype = getattr(torch, settings.precision)
            program = stage_program(
                step,
                self._samples(stage),
                settings.gates,
                self._seed(stage),
                settings.cg_tolerance,
                dtype,
                program_of(self.loss),
            )
            solution = solve(program, settings.tolerance, progress.filters, partial(self._round, stage, value))
            gates, filters = (t.to(denoiser.gates) for t in (program.K.gates, solution.filters))
            found = {"gates": gates.reshape(denoiser.gates.shape), "filters": filters.reshape(denoiser.gates.shape)}
            _fill(denoiser, found)
            scores = self._validated(stage)
            progress.tried.append({"value": value, **found, "certificate": solution.certificate.as_dict(), **scores})
            progress.filters = filters  # where the next candidate starts
            self.save()
        best = min(progress.tried, key=lambda tried: tried["loss"])
        if best["value"] is not None:
            _set(step, best["value"])
        _fill(denoiser, best)
        kept = {key: value for key, value in best.items() if key not in ("gates", "filters", "certificate")}
        progress.stages.append({**best["certificate"], **kept})
        progress.tried, progress.filters = [], None

    def _seed(self, stage: int) -> int:
        """Of the gates that a stage draws."""
        return int(np.random.SeedSequence((self.data.seed, stage)).generate_state(1)[0])

    def _round(self, stage: int, value: float | None, solution: Solution) -> None:
        self.progress.filters = solution.filters
        self.report(stage, value, solution.certificate)

    def _samples(self, stage: int) -> Iterator[Sample]:
        """The training slices as the stage gets them, with the masks of epoch 0."""
        for batch in self._batches(self.data.train_dataloader()):
            problem, scale = pose(batch)
            x = run(self.net.sequence[:stage], problem.AHy, problem)
            target = sense_target(batch) / scale
            yield Sample(x, problem, target)

    def _validated(self, stage: int) -> dict[str, float]:
        """Scores of the network up to a stage on the validation files; the loss with the stage's penalty."""
        validation = Validation()
        for batch in self._batches(self.data.val_dataloader()):
            problem, scale = pose(batch)
            x = run(self.net.sequence[: stage + 1], problem.AHy, problem)
            loss = objective(self.loss, batch, scale)(x) + penalty(self.net.sequence[stage : stage + 1], x)
            image = magnitude(x * scale, batch.crop)
            validation.update(batch, image, [magnitude(problem.AHy * scale, batch.crop), image], [loss])
        scores = validation.scores(Local())
        return {key: scores[key] for key in ("loss", "psnr", "ssim", "nmse")} | {"psnr_in": scores["stage_psnr/in"]}

    def _batches(self, loader: Any) -> Iterator[Slice]:
        with torch.no_grad():
            for batch in loader:
                yield self.data.maps.attach(batch.to(self.device))


def _fill(denoiser: ConvexDual, found: dict[str, Any]) -> None:
    with torch.no_grad():
        denoiser.gates.copy_(found["gates"])
        denoiser.filters.copy_(found["filters"])


def _set(step: nn.Module, value: float) -> None:
    with torch.no_grad():
        if isinstance(step, ProximalGradient):
            step.step_size.fill_(value)
        elif isinstance(step, ModelBased):
            step.log_weight.fill_(log(value))
