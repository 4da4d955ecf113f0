"""GLEAM's second claim: what greedy training buys at equal activation memory, in PSNR and SSIM.

    scripts/greedy_study.py SCAN.h5 --json benchmarks/greedy_study.json

Five proximal-gradient networks are trained on simulated multi-coil slices: end to end with 8 steps; greedily with 24
steps in 3 stages, which needs the same activation memory; end to end with 24 steps and checkpointing, which is what
greedy training gives up; greedily with 8 steps in 8 stages; and end to end with 8 steps so wide that they have the
weights of 24. Every seed trains each once, with averaged weights and a learning rate that falls to 0.3 of itself
whenever validation stops to improve, until validation PSNR has not improved by LEAST dB in PATIENCE epochs, or the
longer of two budgets is spent: EPOCHS of updates, or the time that the greedy 24 steps take for them. The weights that
validate best within a budget are what it has bought. The first learning rate of each network is the best of RATES, and
of higher ones while the highest is best, by validation PSNR after TUNING epochs with another seed.

They are scored on held-out simulated slices and on a measured slice, whose k-space is cropped to the size of the
simulated ones: PSNR and SSIM of the magnitude inside the body, against the SENSE image of the full k-space. Differences
to the first network are paired, with a 95 % interval: over simulated volumes of two slices, and, for the measured
slice, over the offsets of its mask, so that this one says nothing of other scans.

Every run is a `mrirecon fit` in a process of its own, killed and started again at will: finished ones are lines of JSON
beside the report, and an unfinished one is resumed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks.greedy_memory import saved_bytes
from benchmarks.greedy_training import Training
from benchmarks.measure import in_turn
from measured_scan import masks
from study import Lines, by_volume, command, cropped, draw, head, paired, score

from mrirecon.checkpoint import build, load
from mrirecon.data.fastmri import list_volumes, read_volume
from mrirecon.data.slices import Slices
from mrirecon.evaluate import write_json
from mrirecon.physics import Problem, sense
from mrirecon.physics.sampling import Sampling
from mrirecon.unrolled import Activations, Unrolled

SIZE, ROWS = 128, 32  # images of 128 x 128, trained on strips of 32 rows
SLICES, VOLUMES = 2, {"train": 60, "val": 3, "test": 10}
EPOCHS, EVERY = 80, 2  # of equal updates; validation every so many
PATIENCE, LEAST = 10, 0.1  # epochs, dB
FALLING = {"factor": 0.3, "patience": 1, "threshold": 0.01}  # after two validations without a loss lower by 1 %
AVERAGE = 0.995
RATES, TUNING = (5e-4, 1e-3, 2e-3), 8
BATCHES = SLICES * VOLUMES["train"]  # of an epoch
NAME = "{step}-{val_psnr:.4f}"
SAMPLING = Sampling("equispaced_fraction", (4.0,), (0.08,))


@dataclass(frozen=True)
class Network:
    """A network and its regime, in the words of the cards."""

    steps: int
    channels: int
    per_stage: int | None
    activations: Activations = "stored"

    def words(self) -> list[str]:
        prefix = "--model.net.init_args"
        return [
            *(f"{prefix}.n_steps", str(self.steps), f"{prefix}.denoiser.init_args.channels", str(self.channels)),
            *("--model.steps_per_stage", str(self.per_stage or "null"), "--model.activations", self.activations),
        ]

    def make(self) -> Unrolled:
        denoiser = {"class_path": "mrirecon.denoisers.ResNet", "init_args": {"channels": self.channels, "n_blocks": 2}}
        arguments = {"n_steps": self.steps, "denoiser": denoiser}
        return build({"class_path": "mrirecon.unrolled.proximal_gradient", "init_args": arguments}, Path(__file__))


NETWORKS = {
    "end to end, 8 steps": Network(8, 16, None),
    "greedy, 24 steps in 3 stages": Network(24, 16, 8),
    "checkpointed, 24 steps": Network(24, 16, None, "recomputed"),
    "greedy, 8 steps in 8 stages": Network(8, 16, 1),
    "end to end, 8 wider steps": Network(8, 28, None),
}
BASE, REFERENCE = list(NETWORKS)[:2]  # what is compared with; whose time all get

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
    study = Study(options.folder, options.scan, options.json.with_suffix(".jsonl"))
    study.run(options.seeds)
    write_json(options.json, study.report(options.seeds))
    if options.picture:
        draw(options.picture, study.curves(options.seeds), "validation PSNR in dB")
    return 0


class Study:
    def __init__(self, folder: Path, scan: Path, lines: Path) -> None:
        self.folder, self.lines = folder, Lines(lines)
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        for split, n in VOLUMES.items():
            place = self.data / f"multicoil_{split}"
            words = f"simulate {place} --split {split} --volumes {n} --slices {SLICES} --coils [4,8]"
            if len(list(place.glob("[!.]*.h5"))) < n:
                command(*words.split(), "--shape", f"[{SIZE},{SIZE}]", "--overwrite")
        self.measured = cropped(scan, folder / "measured.h5", (SIZE, SIZE))

    def run(self, seeds: int) -> None:
        if "seconds" not in self.lines.done:
            self.lines.keep("seconds", step_seconds())
        for name in NETWORKS:
            self.tune(name)
        for seed, name in product(range(seeds), NETWORKS):
            self.train(name, seed)

    def tune(self, name: str) -> None:
        for rate in RATES:
            self.tried(name, rate)
        while self.rate(name) == max(self.rates(name)):
            self.tried(name, 2 * self.rate(name))

    def tried(self, name: str, rate: float) -> None:
        """A short training with a learning rate, and its validation PSNR in the end."""
        key = f"{name} | tuning | {rate}"
        if key not in self.lines.done:
            curve = self.fit(key, name, 1000, TUNING, rate)
            self.lines.keep(key, {"trained": max(curve), "val_psnr": curve[max(curve)]})

    def rates(self, name: str) -> dict[float, float]:
        """Validation PSNR by the learning rates that a network was tuned with."""
        prefix = f"{name} | tuning | "
        tuned = {key.removeprefix(prefix): v for key, v in self.lines.done.items() if key.startswith(prefix)}
        return {float(rate): line["val_psnr"] for rate, line in tuned.items()}

    def rate(self, name: str) -> float:
        rates = self.rates(name)
        return max(rates, key=lambda rate: rates[rate])

    def budgets(self, name: str) -> dict[str, int]:
        """How many epochs each budget buys."""
        seconds = self.lines.done["seconds"]
        return {"updates": EPOCHS, "time": round(EPOCHS * seconds[REFERENCE] / seconds[name])}

    def train(self, name: str, seed: int) -> None:
        key = f"{name} | {seed}"
        if key in self.lines.done:
            return
        budgets = self.budgets(name)
        curve = self.fit(key, name, seed, max(budgets.values()), self.rate(name), PATIENCE // EVERY)
        line: Line = {"rate": self.rate(name), "trained": max(curve), "curve": list(curve.items())}
        scored: dict[int, Line] = {}
        for budget, epochs in budgets.items():
            best = max((updates for updates in curve if updates <= epochs * BATCHES), key=lambda u: curve[u])
            scored[best] = scored.get(best) or self.scores(self.kept(key)[best])
            line[budget] = {"best": best, "by_patience": max(curve) < epochs * BATCHES, **scored[best]}
        self.lines.keep(key, line)

    def fit(self, key: str, name: str, seed: int, epochs: int, rate: float, patience: int = 0) -> dict[int, float]:
        """Train, or go on with a training; the validation PSNR by the number of updates."""
        run = self.folder / folder_of(key)
        # Killed before its first last.ckpt a run begins anew, and finds what it has kept.
        keep = {"dirpath": str(run / "kept"), "filename": NAME, "save_top_k": -1, "save_weights_only": True}
        callbacks = [{"class_path": "ModelCheckpoint", "init_args": {**keep, "enable_version_counter": False}}]
        if patience:
            stop = {"monitor": "val_psnr", "mode": "max", "patience": patience, "min_delta": LEAST}
            callbacks.append({"class_path": "EarlyStopping", "init_args": stop})
        plateau = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau", "init_args": FALLING}
        run.mkdir(exist_ok=True)
        card = run / "card.yaml"
        schedule = {"scheduler": plateau if patience else None}
        card.write_text(json.dumps({"trainer": {"callbacks": callbacks}, "model": schedule}))  # JSON is YAML
        command(
            *("fit", "-c", "models/pgd_resnet", "-c", "train/end_to_end", "-c", str(card), *NETWORKS[name].words()),
            *("--data.path", str(self.data), "--data.sampling.accelerations", "[4]"),
            *("--data.sampling.center_fractions", "[0.08]", "--data.sampling.mask_type", "equispaced_fraction"),
            *("--model.rows", str(ROWS), "--model.optimizer.init_args.lr", str(rate)),
            *("--model.ema", str(AVERAGE), "--trainer.max_epochs", str(epochs)),
            *("--trainer.check_val_every_n_epoch", str(EVERY), "--trainer.enable_progress_bar", "false"),
            *("--trainer.enable_model_summary", "false", "--seed_everything", str(seed)),
            *("--run", str(run), "--resume", "auto"),
        )
        return {updates: float(path.stem.rpartition("=")[2]) for updates, path in self.kept(key).items()}

    def kept(self, key: str) -> dict[int, Path]:
        """The weights after each validation of a run, by the number of updates."""
        found = (self.folder / folder_of(key) / "kept").glob("*.ckpt")
        return dict(sorted((int(path.stem.split("-")[0].partition("=")[2]), path) for path in found))

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
        done = self.lines.done
        found = {name: [done[f"{name} | {seed}"]["curve"] for seed in range(seeds)] for name in NETWORKS}
        minutes = {name: done["seconds"][name] / 60 for name in NETWORKS}
        timed = {name: [[(x * minutes[name], y) for x, y in c] for c in curves] for name, curves in found.items()}
        return {"updates": found, "minutes of updates, one thread": timed}

    def report(self, seeds: int) -> Line:
        done = self.lines.done
        rows = []
        for budget, name in product(("updates", "time"), NETWORKS):
            runs, base = ([done[f"{of} | {seed}"] for seed in range(seeds)] for of in (name, BASE))
            limit = self.budgets(name)[budget] * BATCHES
            row: Line = {"network": name, "budget": budget, "limit": limit, "seeds": seeds}
            row["trained"] = [min(run["trained"], limit) for run in runs]
            row |= {key: [run[budget][key] for run in runs] for key in ("best", "by_patience")}
            for data, (i, of) in product(("simulated", "measured"), enumerate(("psnr", "ssim"))):
                values, others = (
                    by_volume([[s[i] for s in run[budget][data]] for run in some], SLICES if data == "simulated" else 1)
                    for some in (runs, base)
                )
                row[f"{data}_{of}"] = float(values.mean())
                row[f"{data}_{of}_by_seed"] = values.mean(1).tolist()
                if name != BASE:
                    row[f"{data}_{of}_difference"] = paired(values - others)
            rows.append(row)
        updates = {key: line["trained"] for key, line in done.items() if key != "seconds"}
        size = {"pixels": SIZE, "rows": ROWS, "slices": SLICES, "volumes": VOLUMES, "epochs": EPOCHS}
        return {
            **head("torch", "numpy", "sigpy"),
            "size": {**size, "patience_epochs": PATIENCE, "patience_dB": LEAST, "average": AVERAGE},
            "rates": {name: self.rate(name) for name in NETWORKS},
            "seconds_per_update": done["seconds"],
            "saved_MB": {name: 1e-6 * saved_bytes(training(network)) for name, network in NETWORKS.items()},
            "weights": {name: sum(p.numel() for p in n.make().parameters()) for name, n in NETWORKS.items()},
            # Of all updates, at the measured seconds of each; validation comes on top.
            "cpu_hours_of_updates": sum(n * done["seconds"][key.split(" | ")[0]] for key, n in updates.items()) / 3600,
            "rows": rows,
        }


def folder_of(key: str) -> str:
    return key.replace(" | ", "-").replace(" ", "_").replace(",", "")


def training(network: Network) -> Training:
    """Updates of a network on a strip of noise."""
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 1, 6, ROWS, SIZE, dtype=torch.complex64, generator=g)
    maps = maps / maps.abs().square().sum(2, keepdim=True).sqrt()
    x = torch.randn(1, 1, ROWS, SIZE, dtype=torch.complex64, generator=g)
    A = sense(maps, (torch.rand(1, 1, 1, SIZE, generator=g) < 0.3).float())
    return Training(network.make(), (Problem.pose(A, A(x)), x), network.per_stage, network.activations)


def step_seconds() -> dict[str, float]:
    """Seconds of one update of each network, one thread; the networks take turns."""
    taken = in_turn({name: training(network).step for name, network in NETWORKS.items()}, 7)
    return {name: median(t.wall for t in times) for name, times in taken.items()}


if __name__ == "__main__":
    sys.exit(main())
