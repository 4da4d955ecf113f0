"""GLEAM's second claim: what greedy training buys at equal activation memory, in PSNR and SSIM.

    scripts/greedy_study.py SCAN.h5 --json benchmarks/greedy_study.json

Five proximal-gradient networks are trained on simulated multi-coil slices: end to end with 8 steps; greedily with 24
steps in 3 stages, which needs the same activation memory; end to end with 24 steps and checkpointing, which is what
greedy training gives up; greedily with 8 steps in 8 stages; and end to end with 8 steps so wide that they have the
weights of 24. Every seed trains each once, with averaged weights and a learning rate that falls to 0.3 of itself
whenever the validation loss stops to fall (of each stage, where there are several), until validation PSNR has not
improved by 0.1 dB in 10 epochs, or the longer of two budgets is spent: 80 epochs of updates, or the time that the
greedy 24 steps take for these (of the updates alone, without data and validation). The weights that validate best
within a budget are what it has bought. The first learning rate of each network is the best of several by validation
PSNR after a short training with another seed; more are tried on a side while the last one there is best.

They are scored on held-out simulated slices and on a measured slice, whose k-space is cropped to the size of the
simulated ones: PSNR and SSIM of the magnitude inside the body, against the SENSE image of the full k-space. Differences
to the first network, and to the checkpointed one, are paired, with a 95 % interval: over simulated volumes of two
slices, and, for the measured slice, over the offsets of its mask, so that this one says nothing of other scans.

Every run is a `mrirecon fit` in a process of its own, killed and started again at will: finished ones are lines of JSON
beside the report, and an unfinished one is resumed.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.greedy_memory import saved_bytes
from greedy_networks import BASE, GIVEN_UP, NETWORKS, REFERENCE, step_seconds, training
from measured_scan import masks
from study import Lines, by_volume, command, cropped, draw, head, paired, score
from trainings import Trainings, best_rate

from mrirecon.checkpoint import load
from mrirecon.data.fastmri import list_volumes, read_volume
from mrirecon.data.slices import Slices
from mrirecon.errors import InputError
from mrirecon.evaluate import write_json
from mrirecon.physics.sampling import Sampling

SAMPLING = Sampling("equispaced_fraction", (4.0,), (0.08,))


@dataclass(frozen=True)
class Protocol:
    """How the networks are trained and scored.

    size, rows: side of the images, and rows of the strips that they are trained on.
    slices, train, val, test: slices of a volume, and volumes.
    epochs: of equal updates. every: epochs from one validation to the next.
    patience, least: epochs, and dB. average: decay of the averaged weights.
    falling: of the learning rate, after two validations whose loss is not lower by 1 %.
    rates, tuning: first learning rates to try, and for how many epochs.
    """

    size: int = 128
    rows: int = 32
    slices: int = 2
    train: int = 60
    val: int = 3
    test: int = 10
    epochs: int = 80
    every: int = 2
    patience: int = 10
    least: float = 0.1
    average: float = 0.995
    falling: tuple[tuple[str, float], ...] = (("factor", 0.3), ("patience", 1), ("threshold", 0.01))
    rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3)
    tuning: int = 8


PROTOCOL = Protocol()


Line = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="fully sampled fastMRI-layout file; its first slice is used")
    parser.add_argument("--json", type=Path, required=True, help="the report; every run's line goes beside it, .jsonl")
    parser.add_argument("--picture", type=Path, help="validation PSNR against updates and against time")
    parser.add_argument("--folder", type=Path, default=Path("runs/greedy_study"), help="for data and runs")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        study = Study(PROTOCOL, options.folder, options.scan, Lines(options.json.with_suffix(".jsonl")))
        study.run(options.seeds)
        write_json(options.json, study.report(options.seeds))
        if options.picture:
            draw(options.picture, study.curves(options.seeds), "validation PSNR in dB")
    except InputError as error:
        print(f"greedy_study: {error}", file=sys.stderr)
        return 2
    return 0


class Study:
    def __init__(self, protocol: Protocol, folder: Path, scan: Path, lines: Lines) -> None:
        self.protocol, self.lines = protocol, lines
        networks = {name: asdict(network) for name, network in NETWORKS.items()}
        self.trainings = Trainings(folder, lines, {**asdict(protocol), "networks": networks})
        self.data, size = folder / "data", protocol.size
        for split in ("train", "val", "test"):
            place, n = self.data / f"multicoil_{split}", getattr(protocol, split)
            words = f"simulate {place} --split {split} --volumes {n} --slices {protocol.slices} --coils [4,8]"
            if len(list(place.glob("[!.]*.h5"))) < n:
                command(*words.split(), "--shape", f"[{size},{size}]", "--overwrite")
        self.measured = cropped(scan, folder / "measured.h5", (size, size))
        if "seconds" not in lines.done:
            lines.keep("seconds", step_seconds((protocol.rows, size)))
        self.seconds: dict[str, float] = lines.done["seconds"]
        self.rates: dict[str, dict[float, float]] = {}  # of every network: validation PSNR by learning rate

    def run(self, seeds: int) -> None:
        best = {}
        for name in NETWORKS:
            best[name], self.rates[name] = best_rate(partial(self.tried, name), self.protocol.rates)
        for seed, name in product(range(seeds), NETWORKS):
            self.train(name, seed, best[name])

    def tried(self, name: str, rate: float) -> float:
        """Validation PSNR after a short training with a learning rate that stays."""
        curve = self.fit(f"{name} | tuning | {rate}", name, 1000, self.protocol.tuning, rate)
        return curve[max(curve)]

    def budgets(self, name: str) -> dict[str, int]:
        """How many updates each budget buys: a whole number of validations."""
        p, ratio = self.protocol, self.seconds[REFERENCE] / self.seconds[name]
        return {"updates": p.epochs * self.batches, "time": p.every * round(p.epochs * ratio / p.every) * self.batches}

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return self.protocol.slices * self.protocol.train

    def train(self, name: str, seed: int, rate: float) -> None:
        key, budgets = f"{name} | {seed}", self.budgets(name)
        if key in self.lines.done:
            return
        curve = self.fit(key, name, seed, max(budgets.values()) // self.batches, rate, patient=True)
        line: Line = {"trained": max(curve)}
        scored: dict[int, Line] = {}
        for budget, limit in budgets.items():
            best = max((updates for updates in curve if updates <= limit), key=lambda updates: curve[updates])
            scored[best] = scored.get(best) or self.scores(self.trainings.weights(key)[best])
            line[budget] = {"best": best, **scored[best]}
        self.lines.keep(key, line)

    def fit(self, key: str, name: str, seed: int, epochs: int, rate: float, patient: bool = False) -> dict[int, float]:
        p = self.protocol
        card: dict[str, Any] = {"model": {"scheduler": None}}
        if patient:
            stop = {"monitor": "val_psnr", "mode": "max", "patience": p.patience // p.every, "min_delta": p.least}
            plateau = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau", "init_args": dict(p.falling)}
            card = {"model": {"scheduler": plateau}}
            card["trainer"] = {"callbacks": [{"class_path": "EarlyStopping", "init_args": stop}]}
        words = [
            *("-c", "models/pgd_resnet", "-c", "train/end_to_end", *NETWORKS[name].words()),
            *("--data.path", str(self.data), "--data.sampling.accelerations", "[4]"),
            *("--data.sampling.center_fractions", "[0.08]", "--data.sampling.mask_type", "equispaced_fraction"),
            *("--model.rows", str(p.rows), "--model.optimizer.init_args.lr", str(rate)),
            *("--model.ema", str(p.average), "--trainer.max_epochs", str(epochs), "--seed_everything", str(seed)),
        ]
        return self.trainings.curve(key, words, p.every, card)

    def scores(self, weights: Path) -> Line:
        net = load(weights).net
        slices = Slices([read_volume(p) for p in list_volumes(self.data / "multicoil_test")], SAMPLING, keep_full=True)
        offsets = masks(read_volume(self.measured), SAMPLING)
        return {
            "simulated": [score(net, slices[[(0, i)]]) for i in range(len(slices))],
            "measured": [score(net, offset[0]) for offset in offsets],
        }

    def curves(self, seeds: int) -> dict[str, dict[str, list[Any]]]:
        """Of every network and seed, with time as that of the updates."""
        found = {n: [self.lines.done[f"{n} | {seed} | curve"] for seed in range(seeds)] for n in NETWORKS}
        minutes = {name: self.seconds[name] / 60 for name in NETWORKS}
        timed = {name: [[(x * minutes[name], y) for x, y in c] for c in curves] for name, curves in found.items()}
        return {"updates": found, "minutes of updates, one thread": timed}

    def values(self, name: str, budget: str, data: str, score: int, seeds: int) -> np.ndarray:
        """PSNR or SSIM of what a budget has bought, as (seed, volume), or (seed, offset of the mask)."""
        runs = [self.lines.done[f"{name} | {seed}"][budget][data] for seed in range(seeds)]
        return by_volume([[s[score] for s in run] for run in runs], self.protocol.slices if data == "simulated" else 1)

    def report(self, seeds: int) -> Line:
        done = self.lines.done
        rows = []
        for budget, name in product(("updates", "time"), NETWORKS):
            limit = self.budgets(name)[budget]
            runs = [done[f"{name} | {seed}"] for seed in range(seeds)]
            row: Line = {"network": name, "budget": budget, "limit": limit, "seeds": seeds}
            row["trained"] = [min(run["trained"], limit) for run in runs]
            row["by_patience"] = [run["trained"] < limit for run in runs]
            row["best"] = [run[budget]["best"] for run in runs]
            for data, (i, of) in product(("simulated", "measured"), enumerate(("psnr", "ssim"))):
                values = self.values(name, budget, data, i, seeds)
                row[f"{data}_{of}"] = float(values.mean())
                row[f"{data}_{of}_by_seed"] = values.mean(1).tolist()
                for other, key in ((BASE, "difference"), (GIVEN_UP, "against_checkpointed")):
                    if name != other:
                        row[f"{data}_{of}_{key}"] = paired(values - self.values(other, budget, data, i, seeds))
            rows.append(row)
        updates = {key: line[-1][0] for key, line in done.items() if key.endswith(" | curve")}
        made = {name: network.make() for name, network in NETWORKS.items()}
        strip = (self.protocol.rows, self.protocol.size)
        return {
            **head("torch", "numpy", "sigpy"),
            "protocol": done["settings"],
            "rates": self.rates,
            "seconds_per_update": self.seconds,
            "saved_MB": {n: 1e-6 * saved_bytes(training(net, strip)) for n, net in NETWORKS.items()},
            "weights": {name: sum(p.numel() for p in net.parameters()) for name, net in made.items()},
            # Of all updates, at the measured seconds of each; validation comes on top.
            "cpu_hours_of_updates": sum(n * self.seconds[key.split(" | ")[0]] for key, n in updates.items()) / 3600,
            "rows": rows,
        }


if __name__ == "__main__":
    sys.exit(main())
