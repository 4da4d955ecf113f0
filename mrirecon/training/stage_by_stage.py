"""Solves the stages of a network one after the other, and keeps what each was worth.

A stage's program is made of the training slices as the earlier stages leave them; its solution is stored in the network
as ordinary filters, and judged once more there: by the training objective of the network's own step, and by scores on
the validation files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import inf, isfinite, log
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.working_set import Program, Solution, solve
from mrirecon.data.module import FastMRIData
from mrirecon.data.slices import Slice
from mrirecon.denoisers import ConvexDual
from mrirecon.errors import InputError
from mrirecon.imaging import magnitude, pose, sense_target
from mrirecon.training.convex import Convex, Progress
from mrirecon.training.convex_stage import Sample, convex_denoiser, program_of, stage_program
from mrirecon.training.line_search import next_value, rounded
from mrirecon.training.link import Local
from mrirecon.training.module import Reconstruction
from mrirecon.training.objective import objective
from mrirecon.training.validation import Validation
from mrirecon.unrolled import ModelBased, ProximalGradient, run

LEAST = 1e-4  # relative: how far a step may be from the one that is certified, whatever the tolerance
COMPARED = ("value", "loss", "psnr", "primal", "gap")  # of candidates
MOST = 1000  # iterations of conjugate gradients that are tried


class Inexact(InputError):
    """The network's own step is not the one that a certificate would be for."""


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

    @torch.no_grad()
    def run(self) -> None:
        """Solve all stages that are not done."""
        for stage in range(len(self.progress.stages), len(self.net.steps)):
            self._solve(stage)
            self.save()

    def _solve(self, stage: int) -> None:
        step, progress = self.net.steps[stage], self.progress
        refused = dict[float | None, str]()
        for value in self._candidates(step, refused):
            if value is not None:
                _set(step, value)
            try:
                progress.tried.append({"value": value, **self._tried(stage, value)})
                self.save()
            except Inexact as error:
                refused[value] = str(error)  # another candidate may do
        if not progress.tried:
            raise InputError("; ".join(refused.values()))
        best = min(progress.tried, key=lambda tried: tried["loss"] if isfinite(tried["loss"]) else inf)
        candidates = [{key: tried[key] for key in COMPARED if key in tried} for tried in progress.tried]
        candidates += [{"value": value, "refused": said} for value, said in refused.items()]
        if best["value"] is not None:
            _set(step, best["value"])
        _fill(convex_denoiser(step), best)
        # In this order: stopped in between, the stage is solved again, and none is taken for another.
        progress.tried, progress.filters = [], None
        best |= {"candidates": candidates} if best["value"] is not None else {}
        progress.stages.append({key: value for key, value in best.items() if key not in ("gates", "filters")})

    def _candidates(self, step: nn.Module, refused: Mapping[float | None, str]) -> Iterator[float | None]:
        """Values of t or lam that are not tried yet; each after the first ones depends on the losses so far."""
        tried, settings = self.progress.tried, self.settings
        own = (tried[0]["value"] if tried else _get(step)) if settings.line_search else None
        first: Sequence[float | None] = settings.candidates or [own]
        done = {one["value"] for one in tried}
        yield from (value for value in dict.fromkeys(first) if value not in done)
        while len(tried) + len(refused) < len(set(first)) + settings.line_search:
            yield next_value({one["value"]: one["loss"] for one in tried} | dict.fromkeys(refused, inf))

    def _tried(self, stage: int, value: float | None) -> dict[str, Any]:
        """The solution of a stage in the step as it is, stored in its denoiser, and what it is worth."""
        step, settings, seed = self.net.steps[stage], self.settings, self._seed(stage)
        denoiser = convex_denoiser(step)
        _fill(denoiser, {"gates": _normal(denoiser.gates, seed), "filters": torch.zeros_like(denoiser.filters)})
        kind, dtype = program_of(self.loss), getattr(torch, settings.precision)
        total, rate = len(self.data.train_dataloader()), self.data.rates["train"]
        program = stage_program(
            step, self._samples(stage), settings.gates, seed, settings.cg_tolerance, dtype, kind, total, rate
        )
        if isinstance(step, ModelBased):
            self._checked(stage, program)  # before the work, with filters of zero; and after it, with the solution
        solution = solve(program, settings.tolerance, self.progress.filters, partial(self._round, stage, value))
        gates, filters = (t.to(denoiser.gates) for t in (program.K.gates, solution.filters))
        self.progress.filters = filters  # where the next candidate starts
        found = {"gates": gates.reshape(denoiser.gates.shape), "filters": filters.reshape(denoiser.gates.shape)}
        _fill(denoiser, found)
        self.save()
        # Of the filters as they are stored.
        proof = solution.certificate.of(program.objective(filters.double()))
        told: dict[str, Any] = {key: getattr(settings, key) for key in ("tolerance", "precision", "cg_tolerance")}
        told |= {"sampling": settings.gates, "seed": seed, "strength": denoiser.strength}
        told |= {"kernel": list(denoiser.gates.shape[1:]), "step": self._checked(stage, program)}
        return {**found, **proof.as_dict(), **told, **self._validated(stage)}

    def _seed(self, stage: int) -> int:
        """Of the gates that a stage draws."""
        return int(np.random.SeedSequence((self.data.seed, stage)).generate_state(1)[0])

    def _round(self, stage: int, value: float | None, solution: Solution) -> None:
        self.progress.filters = solution.filters
        self.report(stage, value, solution.certificate)

    def _checked(self, stage: int, program: Program) -> float:
        """The training objective of the network's own step; InputError where that is not the one that is certified.

        It may not be for MoDL, whose conjugate gradients have a fixed number of iterations.
        """
        step = self.net.steps[stage]
        own = self._objective(stage)
        if not isinstance(step, ModelBased):
            return own
        exact = program.objective(convex_denoiser(step).filters.flatten(1).double())
        allowed = max(LEAST, self.settings.tolerance) * exact
        if abs(own - exact) <= allowed:
            return own
        asked, more = step.iterations, own
        while abs(more - exact) > allowed and step.iterations < MOST:
            step.iterations *= 2
            more = self._objective(stage)
        enough, step.iterations = step.iterations, asked
        remedy = f"--model.net.init_args.iterations {enough}, or " if abs(more - exact) <= allowed else ""
        anew = ", in a new run, as finished stages would become others" if stage else ""
        raise Inexact(
            f"stage {stage + 1}: with {asked} iterations of conjugate gradients the step's training objective is "
            f"{own:.4g}, and {exact:.4g} of the exact step, which a certificate is for; use {remedy}a larger weight or "
            f"a larger convex.tolerance{anew}"
        )

    def _objective(self, stage: int) -> float:
        """The training objective of a stage, as the network's own step has it."""
        step, peak = self.net.steps[stage], torch.ones(1, device=self.device)
        losses = [float(self.loss(step(x, problem), target, peak)) for x, problem, target in self._samples(stage)]
        return fmean(losses) + float(convex_denoiser(step).penalty())

    def _samples(self, stage: int) -> Iterator[Sample]:
        """The training slices as the stage gets them, with the masks of epoch 0."""
        for batch in self._batches(self.data.train_dataloader()):
            problem, scale = pose(batch)
            x = run(self.net.sequence[:stage], problem.AHy, problem)
            target = sense_target(batch) / scale
            yield Sample(x, problem, target)

    def _validated(self, stage: int) -> dict[str, float]:
        """Scores of the network up to a stage on the validation files, and its loss there, without a penalty."""
        validation = Validation()
        for batch in self._batches(self.data.val_dataloader()):
            problem, scale = pose(batch)
            x = run(self.net.sequence[: stage + 1], problem.AHy, problem)
            loss = objective(self.loss, batch, scale)(x)
            image = magnitude(x * scale, batch.crop)
            validation.update(batch, image, [magnitude(problem.AHy * scale, batch.crop), image], [loss])
        scores = validation.scores(Local())
        return {key: scores[key] for key in ("loss", "psnr", "ssim", "nmse")} | {"psnr_in": scores["stage_psnr/in"]}

    def _batches(self, loader: Any) -> Iterator[Slice]:
        for batch in loader:
            yield self.data.maps.attach(batch.to(self.device))


def _normal(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)


def _fill(denoiser: ConvexDual, found: dict[str, Any]) -> None:
    denoiser.gates.copy_(found["gates"])
    denoiser.filters.copy_(found["filters"])


def _get(step: nn.Module) -> float:
    """The step's own t or lam, as far as single precision has it."""
    value = step.log_weight.exp() if isinstance(step, ModelBased) else step.step_size
    assert isinstance(value, Tensor)
    return rounded(float(value))


def _set(step: nn.Module, value: float) -> None:
    if isinstance(step, ProximalGradient):
        step.step_size.fill_(value)
    elif isinstance(step, ModelBased):
        step.log_weight.fill_(log(value))
