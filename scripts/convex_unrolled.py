"""Unrolled networks of convex denoisers, solved stage by stage, and ordinary ones of similar size, trained by Adam."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from convex_data import Data
from study import Lines, command, score
from trainings import Trainings, best_rate

from mrirecon.checkpoint import load
from mrirecon.data.slices import Slice
from mrirecon.physics.sampling import Sampling
from mrirecon.unrolled import Unrolled

Line = dict[str, Any]
DENOISER = "--model.net.init_args.denoiser.init_args"
ONE_SHOT, UNROLLED, SEARCHED = "one-shot, convex", "unrolled, convex", "unrolled, convex, t searched"
SEARCH = 3  # further values of t, for every stage; each stage's line says which
TUNING = 1000  # the seed of tuning


@dataclass(frozen=True)
class Settings:
    """How networks are trained.

    steps: of the unrolled ones. gates, kernel_size: of the convex denoisers. tolerance: relative gap of a stage.
    strengths: of the penalty, first ones to try. channels: of the ordinary denoisers.
    epochs, every: of a training by Adam, and from one validation to the next. average: decay of averaged weights.
    rates, tuning: first learning rates to try, and for how many epochs.
    """

    steps: int = 4
    gates: int = 100
    kernel_size: int = 5
    tolerance: float = 1e-3
    strengths: tuple[float, ...] = (1e-2, 3e-3, 1e-3)
    channels: int = 8
    epochs: int = 40
    every: int = 2
    average: float = 0.99
    rates: tuple[float, ...] = (1e-3, 4e-3)
    tuning: int = 12
    regimes: Mapping[str, str] = field(
        default_factory=lambda: {"ordinary, greedy": "train/greedy", "ordinary, end to end": "train/end_to_end"}
    )


class Networks:
    """Trains and scores them; each result is a line.

    data: the files. sampling: of training and tests. tests: by name, what networks are scored on.
    """

    def __init__(
        self, settings: Settings, data: Data, sampling: Sampling, tests: dict[str, list[Slice]], trainings: Trainings
    ) -> None:
        self.settings, self.data, self.sampling, self.tests = settings, data, sampling, tests
        self.trainings, self.lines = trainings, trainings.lines
        self.validation = data.simulated("val", sampling)

    def run(self, seeds: int) -> None:
        self._kept("unrolled | zero-filled", lambda: {"scores": self._scores(Unrolled([]))})
        for name in (ONE_SHOT, UNROLLED):
            best = self.strength(name)
            for seed in range(seeds):
                self._kept(f"unrolled | {name} | {seed}", partial(self._convex, name, best, seed))
        for seed in range(seeds):  # with the strength of the one with t = 1
            self._kept(f"unrolled | {SEARCHED} | {seed}", partial(self._convex, SEARCHED, best, seed))
        for name in self.settings.regimes:
            rate, _ = self.rates(name)
            for seed in range(seeds):
                self._kept(f"unrolled | {name} | {seed}", partial(self._ordinary, name, rate, seed))

    def strength(self, name: str) -> float:
        """The one whose first stage validates best."""
        return best_rate(partial(self._tried_strength, name), self.settings.strengths)[0]

    def rates(self, name: str) -> tuple[float, dict[float, float]]:
        """The best learning rate, and the validation PSNR of all that were tried."""
        return best_rate(partial(self._tried_rate, name), self.settings.rates)

    def _tried_strength(self, name: str, strength: float) -> float:
        key = f"unrolled | {name} | tuning | {strength}"

        def tried() -> Line:
            run = self._solved(key, name, strength, TUNING, steps=1)
            return {"validation": self._validated(load(run).net)}

        psnr: float = self._kept(key, tried)["validation"]
        return psnr

    def _tried_rate(self, name: str, rate: float) -> float:
        key = f"unrolled | {name} | tuning | {rate}"

        def tried() -> Line:
            words = self._words(name, rate, TUNING, self.settings.tuning)
            self.trainings.curve(key, words, self.settings.tuning)
            weights = self.trainings.weights(key)
            return {"validation": self._validated(load(weights[max(weights)]).net)}

        psnr: float = self._kept(key, tried)["validation"]
        return psnr

    def _convex(self, name: str, strength: float, seed: int) -> Line:
        run = self._solved(f"unrolled | {name} | {seed}", name, strength, seed, self.settings.steps)
        stages = json.loads((run / "certificates.json").read_text())["stages"]
        net = load(run).net
        used = sum(stage["active"] for stage in stages) * self.settings.kernel_size**2
        return {"strength": strength, "stages": stages, "weights": used, "scores": self._scores(net)}

    def _solved(self, key: str, name: str, strength: float, seed: int, steps: int) -> Path:
        """The run of `mrirecon convex-fit`."""
        run, unrolled = self.trainings.run(key), name != ONE_SHOT
        settings = self.settings
        words = ["-c", f"models/{'pgd_convex' if unrolled else 'convex_one_shot'}", "-c", "train/convex"]
        words += ["--model.net.init_args.n_steps", str(steps)] if unrolled else []
        words += [f"{DENOISER}.n_gates", str(settings.gates), f"{DENOISER}.kernel_size", str(settings.kernel_size)]
        words += [f"{DENOISER}.strength", str(strength)]
        words += ["--convex.line_search", str(SEARCH)] if name == SEARCHED else []
        words += ["--convex.tolerance", str(settings.tolerance), "--seed_everything", str(seed)]
        command("convex-fit", *words, *self._data(), "--run", str(run), "--resume", "auto")
        return run

    def _ordinary(self, name: str, rate: float, seed: int) -> Line:
        key = f"unrolled | {name} | {seed}"
        self.trainings.curve(key, self._words(name, rate, seed, self.settings.epochs), self.settings.every)
        curve = {n: self._validated(load(path).net) for n, path in self.trainings.weights(key).items()}
        best = max(curve, key=lambda n: curve[n])
        net = load(self.trainings.weights(key)[best]).net
        weights = sum(p.numel() for p in net.parameters())
        return {"rate": rate, "best": best, "trained": max(curve), "weights": weights, "scores": self._scores(net)}

    def _words(self, name: str, rate: float, seed: int, epochs: int) -> list[str]:
        """Of `mrirecon fit`."""
        settings = self.settings
        return [
            *("-c", "models/pgd_resnet", "-c", settings.regimes[name], *self._data()),
            *("--model.net.init_args.n_steps", str(settings.steps), f"{DENOISER}.channels", str(settings.channels)),
            *("--model.optimizer.init_args.lr", str(rate), "--model.ema", str(settings.average)),
            *("--trainer.max_epochs", str(epochs), "--seed_everything", str(seed)),
        ]

    def _data(self) -> list[str]:
        """Words for the training and validation files."""
        sampling = "--data.sampling"
        return [
            *("--data.path", str(self.data.folder), f"{sampling}.mask_type", self.sampling.mask_type),
            *(f"{sampling}.accelerations", str([*self.sampling.accelerations]).replace(" ", "")),
            *(f"{sampling}.center_fractions", str([*self.sampling.center_fractions]).replace(" ", "")),
        ]

    def _validated(self, net: Unrolled) -> float:
        return float(np.mean([score(net, one)[0] for one in self.validation]))

    def _scores(self, net: Unrolled) -> dict[str, list[list[float]]]:
        """PSNR and SSIM in the body of every slice of every test."""
        found = {name: [score(net, one) for one in slices] for name, slices in self.tests.items()}
        return {name: np.round(values, 4).tolist() for name, values in found.items()}

    def _kept(self, key: str, make: Callable[[], Line]) -> Line:
        return kept(self.lines, key, make)


def kept(lines: Lines, key: str, make: Callable[[], Line]) -> Line:
    """A line, made if need be, with the seconds of the processor that it took."""
    if key not in lines.done:
        start = sum(os.times()[:4])  # of this process and of those it has waited for
        lines.keep(key, {**make(), "cpu_seconds": sum(os.times()[:4]) - start})
    found: Line = lines.done[key]
    return found
