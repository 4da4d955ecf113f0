"""Convex dual denoisers: do their programs find what networks are trained for, and what are they worth?

    scripts/convex_study.py SCAN.h5 [SCAN.h5 ...] --json benchmarks/convex_study.json

One shot: a denoiser of the zero-filled image, 80 x 80 as in the paper (Sahiner et al., ICLR 2021, arXiv:2012.05169), at
2, 4 and 8x Poisson disc sampling with 16 x 16 calibration. Of one training set with one penalty the least objective is
found for the gated program and for the program with cone constraints, behind random gates and behind gates that were
grown, and for ReLU networks by Adam with as many neurons as the constrained program has active groups; its learning
rate is the best of several, by the objective itself, and the best of its trainings counts. The objective of the ReLU
network to which the constrained solution is mapped is computed as `mrirecon fit` would.

Unrolled: proximal gradient with 4 convex denoisers, solved stage by stage, 128 x 128, 4x equispaced lines, beside the
one-shot denoiser and beside an ordinary network of as many steps and about as many weights, trained greedily and end to
end. Penalties and learning rates are chosen on validation files; so is t of every stage in one of the convex networks.

Scores are PSNR and SSIM of the magnitude inside the body, against the SENSE image of the full k-space; on simulated
test volumes, and on measured slices, cropped in k-space to the size of the training images.

Finished runs are lines of JSON beside the report; an unfinished training is resumed. `--part one-shot` and `--part
unrolled` make the lines of one part alone, in processes of their own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path

import convex_one_shot
import convex_unrolled
import torch
from convex_data import Data, Scans
from convex_one_shot import OneShots
from convex_report import report
from convex_unrolled import Line, Networks, kept
from study import Lines
from trainings import Trainings, best_rate

from mrirecon.data.slices import Slice
from mrirecon.errors import InputError
from mrirecon.evaluate import write_json
from mrirecon.physics.sampling import Sampling

MASKS = 8  # of a measured slice that are drawn at random
PARTS = ("one-shot", "unrolled")


@dataclass(frozen=True)
class Protocol:
    """All that results depend on.

    one_shot, unrolled: settings of the parts, with their scans. accelerations: of the one-shot part. calibration: side
    of the centre that is fully sampled there. adams: trainings by Adam of which the best counts.
    """

    one_shot: convex_one_shot.Settings = field(default_factory=convex_one_shot.Settings)
    one_shot_scans: Scans = field(default_factory=lambda: Scans(size=80, train=4, val=1, test=12))
    unrolled: convex_unrolled.Settings = field(default_factory=convex_unrolled.Settings)
    unrolled_scans: Scans = field(default_factory=lambda: Scans(size=128, train=16, val=6, test=24))
    accelerations: tuple[float, ...] = (2.0, 4.0, 8.0)
    calibration: int = 16
    adams: int = 5


PROTOCOL = Protocol()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path, nargs="+", help="fully sampled fastMRI-layout files; their first slices")
    parser.add_argument("--json", type=Path, required=True, help="the report; every run's line goes beside it, .jsonl")
    parser.add_argument("--folder", type=Path, default=Path("runs/convex_study"), help="for data and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=PARTS, help="make the lines of this part alone, and report nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        lines = Lines(options.json.with_suffix(".jsonl"))
        settings = {**asdict(PROTOCOL), "scans": [scan.name for scan in options.scans]}
        trainings = Trainings(options.folder / "runs", lines, settings)
        if options.part != "unrolled":
            data = Data(PROTOCOL.one_shot_scans, options.folder / "one_shot", options.scans)
            for acceleration in PROTOCOL.accelerations:
                Experiment(PROTOCOL, data, lines, acceleration).run(options.seeds)
        if options.part != "one-shot":
            data = Data(PROTOCOL.unrolled_scans, options.folder / "unrolled", options.scans)
            unrolled(PROTOCOL, data, trainings, options.seeds)
        if options.part is None:
            write_json(options.json, report(lines.done, options.seeds))
    except InputError as error:
        print(f"convex_study: {error}", file=sys.stderr)
        return 2
    return 0


class Experiment:
    """The first part at one acceleration."""

    def __init__(self, protocol: Protocol, data: Data, lines: Lines, acceleration: float) -> None:
        self.protocol, self.data, self.lines = protocol, data, lines
        self.sampling = Sampling("poisson", (acceleration,), (protocol.calibration / data.scans.size,))
        self.name = f"one shot | {acceleration:g}"

    @cached_property
    def denoisers(self) -> OneShots:
        return OneShots(
            self.protocol.one_shot, self.data.simulated("train", self.sampling), tests(self.data, self.sampling)
        )

    def run(self, seeds: int) -> None:
        self._kept("zero-filled", lambda: self.denoisers.zero_filled())
        for seed in range(seeds):
            for gates in self.protocol.one_shot.gates:
                self._kept(f"{gates} random gates | {seed}", partial(self._random, gates, seed))
        grown = [self._kept(f"grown gates | {seed}", partial(self._grown, seed)) for seed in range(seeds)]
        neurons = max(line["mapped"]["neurons"] for line in grown)
        rate, _ = best_rate(lambda rate: -self._adam(neurons, rate, 0)["objective"], self.protocol.one_shot.rates)
        for seed in range(self.protocol.adams):
            self._adam(neurons, rate, seed)

    def _random(self, gates: int, seed: int) -> Line:
        return self.denoisers.random(gates, seed)

    def _grown(self, seed: int) -> Line:
        return self.denoisers.grown(seed)

    def _adam(self, neurons: int, rate: float, seed: int) -> Line:
        key = f"Adam | {neurons} neurons | {rate} | {seed}"
        return self._kept(key, lambda: {"neurons": neurons, "rate": rate, **self.denoisers.adam(neurons, rate, seed)})

    def _kept(self, key: str, make: Callable[[], Line]) -> Line:
        return kept(self.lines, f"{self.name} | {key}", make)


def unrolled(protocol: Protocol, data: Data, trainings: Trainings, seeds: int) -> None:
    """The lines of the second part."""
    sampling = Sampling("equispaced_fraction", (4.0,), (0.08,))
    Networks(protocol.unrolled, data, sampling, tests(data, sampling), trainings).run(seeds)


def tests(data: Data, sampling: Sampling) -> dict[str, list[Slice]]:
    return {"simulated": data.simulated("test", sampling), **data.scanned(sampling, MASKS)}


if __name__ == "__main__":
    sys.exit(main())
