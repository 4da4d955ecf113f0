"""GLEAM's second claim: what greedy training buys at equal activation memory, in PSNR and SSIM.

    scripts/greedy_study.py SCAN.h5 --json benchmarks/greedy_study.json

Five proximal-gradient networks are trained on simulated multi-coil slices: end to end with 8 steps; greedily with 24
steps in 3 stages, which needs the same activation memory; end to end with 24 steps and checkpointing, which is what
greedy training gives up; greedily with 8 steps in 8 stages; and end to end with 8 steps so wide that they have the
weights of 24. Each is trained twice per seed: for an equal number of updates, and for an equal time, that of the greedy
24 steps; with a cosine schedule over its own length, until validation has not improved for PATIENCE validations. The
learning rate of each network is the best of RATES, and of higher ones while the highest is best, by validation PSNR
after TUNING epochs with another seed.

The weights of the best validation PSNR are scored on held-out simulated slices and on a measured slice, whose k-space
is cropped to the size of the simulated ones: PSNR and SSIM of the magnitude inside the body, against the SENSE image of
the full k-space. Differences to the first network are paired, with a 95 % interval: over simulated volumes of two
slices, and, for the measured slice, over the offsets of its mask, so that this one says nothing of other scans.

Every run is a `mrirecon fit` in a process of its own, killed and started again at will: finished ones are lines of JSON
beside the report, and an unfinished one is resumed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median, stdev
from typing import Any

import h5py
import numpy as np
import scipy.stats
import torch
from benchmarks.greedy_memory import saved_bytes
from benchmarks.greedy_training import Training
from benchmarks.measure import in_turn, installed, machine
from measured_scan import finished, masks

from mrirecon.checkpoint import build, load
from mrirecon.cropping import center_crop
from mrirecon.data.fastmri import list_volumes, read_volume
from mrirecon.data.header import ismrmrd_header
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slice, Slices
from mrirecon.data.writing import write_volume
from mrirecon.evaluate import write_json
from mrirecon.imaging import magnitude, pose, sense_target
from mrirecon.metrics import body_mask, psnr_inside, ssim_inside
from mrirecon.physics import Problem, sense
from mrirecon.physics.sampling import Sampling
from mrirecon.unrolled import Activations, Unrolled

SIZE, ROWS = 128, 32  # images of 128 x 128, trained on strips of 32 rows
VOLUMES = {"train": 60, "val": 3, "test": 10}  # of two slices each
EPOCHS, EVERY, PATIENCE = 16, 2, 4  # epochs of equal updates; validation every so many; validations without progress
RATES, TUNING = (5e-4, 1e-3, 2e-3), 4
SAMPLING = Sampling("equispaced_fraction", (4.0,), (0.08,))
SCORES = ("psnr", "ssim")


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
    parser.add_argument("--folder", type=Path, default=Path("runs/greedy_study"), help="for data and runs")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(options.folder, options.scan, options.json.with_suffix(".jsonl"))
    study.run(options.seeds)
    write_json(options.json, study.report(options.seeds))
    return 0


class Study:
    def __init__(self, folder: Path, scan: Path, lines: Path) -> None:
        self.folder, self.lines = folder, lines
        self.done: dict[str, Any] = finished(lines)
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder / "data"
        for split, n in VOLUMES.items():
            place = self.data / f"multicoil_{split}"
            words = f"simulate {place} --split {split} --volumes {n} --slices 2 --coils [4,8] --shape [{SIZE},{SIZE}]"
            if len(list(place.glob("[!.]*.h5"))) < n:
                command(*words.split(), "--overwrite")
        self.measured = cropped(scan, folder / "measured.h5")

    def keep(self, key: str, value: Any) -> Any:
        """A result under its name, in memory and as a line of JSON."""
        self.done[key] = value
        with self.lines.open("a") as file:
            file.write(json.dumps({"key": key, "scores": value}) + "\n")
        return value

    def run(self, seeds: int) -> None:
        if "seconds" not in self.done:
            self.keep("seconds", step_seconds())
        for name in NETWORKS:
            for rate in RATES:
                self.train(name, "tuning", 1000, TUNING, rate)
            while self.rate(name) == max(self.tried(name)):
                self.train(name, "tuning", 1000, TUNING, 2 * self.rate(name))
        for seed, budget, name in product(range(seeds), ("updates", "time"), NETWORKS):
            self.train(name, budget, seed, self.epochs(name, budget), self.rate(name))

    def epochs(self, name: str, budget: str) -> int:
        seconds = self.done["seconds"]
        return EPOCHS if budget == "updates" else round(EPOCHS * seconds[REFERENCE] / seconds[name])

    def tried(self, name: str) -> list[float]:
        """The learning rates that a network was tuned with."""
        prefix = f"{name} | tuning | "
        return [float(key.removeprefix(prefix)) for key in self.done if key.startswith(prefix)]

    def rate(self, name: str) -> float:
        return max(self.tried(name), key=lambda rate: self.done[f"{name} | tuning | {rate}"]["val_psnr"])

    def train(self, name: str, budget: str, seed: int, epochs: int, rate: float) -> None:
        key = f"{name} | {budget} | {rate if budget == 'tuning' else seed}"
        if key in self.done:
            return
        if budget == "time" and name == REFERENCE:  # the run of equal updates
            self.keep(key, self.done[f"{name} | updates | {seed}"])
            return
        run = self.folder / key.replace(" | ", "-").replace(" ", "_").replace(",", "")
        keep: dict[str, Any] = {"dirpath": str(run / "kept"), "filename": "best", "monitor": "val_psnr", "mode": "max"}
        keep["enable_version_counter"] = False  # killed before its first last.ckpt, a run begins anew
        stop = {"monitor": "val_psnr", "mode": "max", "patience": PATIENCE}
        callbacks = [
            {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": keep},
            {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": stop},
        ]
        run.mkdir(exist_ok=True)
        card = run / "card.yaml"
        card.write_text(json.dumps({"trainer": {"callbacks": callbacks}}))  # JSON is YAML
        command(
            *("fit", "-c", "models/pgd_resnet", "-c", "train/end_to_end", "-c", str(card), *NETWORKS[name].words()),
            *("--data.path", str(self.data), "--data.sampling.accelerations", "[4]"),
            *("--data.sampling.center_fractions", "[0.08]", "--data.sampling.mask_type", "equispaced_fraction"),
            *("--model.rows", str(ROWS), "--model.optimizer.init_args.lr", str(rate)),
            *("--trainer.max_epochs", str(epochs), "--trainer.check_val_every_n_epoch", str(EVERY)),
            *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
            *("--seed_everything", str(seed), "--run", str(run), "--resume", "auto"),
        )
        (best,) = (run / "kept").glob("best*.ckpt")
        last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        line: Line = {"epochs": last["epoch"] + 1, "updates": last["global_step"], "rate": rate}
        line |= {"val_psnr": best_score(torch.load(best, weights_only=True))}
        if budget != "tuning":
            net = load(best).net
            line["simulated"] = [score(net, b) for b in batches(list_volumes(self.data / "multicoil_test"))]
            line["measured"] = [score(net, offset[0]) for offset in masks(read_volume(self.measured), SAMPLING)]
        self.keep(key, line)

    def cpu_hours(self) -> float:
        """Of all updates, at the measured seconds of each; validation comes on top."""
        runs = [key for key in self.done if key != "seconds" and not key.startswith(f"{REFERENCE} | time")]
        return sum(self.done[key]["updates"] * self.done["seconds"][key.split(" | ")[0]] for key in runs) / 3600

    def report(self, seeds: int) -> Line:
        rows = []
        for budget, name in product(("updates", "time"), NETWORKS):
            runs = [self.done[f"{name} | {budget} | {seed}"] for seed in range(seeds)]
            base = [self.done[f"{BASE} | {budget} | {seed}"] for seed in range(seeds)]
            row: Line = {"network": name, "budget": budget, "rate": self.rate(name), "seeds": seeds}
            row |= {key: [run[key] for run in runs] for key in ("epochs", "updates", "val_psnr")}
            for data, (i, of) in product(("simulated", "measured"), enumerate(SCORES)):
                values, others = (by_item([run[data] for run in some], i) for some in (runs, base))
                row[f"{data}_{of}"] = float(values.mean())
                row[f"{data}_{of}_by_seed"] = values.mean(1).tolist()
                if name != BASE:
                    row[f"{data}_{of}_difference"] = paired(values - others)
            rows.append(row)
        return {
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "versions": {name: installed(name) for name in ("mrirecon", "torch", "numpy", "sigpy")},
            "size": {"pixels": SIZE, "rows": ROWS, "volumes": VOLUMES, "epochs": EPOCHS, "patience": PATIENCE * EVERY},
            "rates": {name: self.rate(name) for name in NETWORKS},
            "seconds_per_update": self.done["seconds"],
            "saved_MB": {name: 1e-6 * saved_bytes(training(network)) for name, network in NETWORKS.items()},
            "weights": {name: sum(p.numel() for p in n.make().parameters()) for name, n in NETWORKS.items()},
            "cpu_hours_of_updates": self.cpu_hours(),
            "rows": rows,
        }


def by_item(scores: list[list[list[float]]], i: int) -> np.ndarray:
    """One score as (seed, item). Items are independent: volumes, by the mean of their two slices; or mask offsets."""
    values = np.array([[slice_[i] for slice_ in run] for run in scores])
    return values.reshape(len(values), -1, 2).mean(2) if values.shape[1] == 2 * VOLUMES["test"] else values


def paired(differences: np.ndarray) -> Line:
    """Mean of (seed, item), its 95 % interval over items, the spread over seeds, and a verdict.

    The interval is of Student's t over items, each averaged over the seeds; where it holds zero, or the mean is less
    than the range of the seeds' means, the verdict is 'undecided'.
    """
    by_item, by_seed = differences.mean(0), differences.mean(1)
    mean, n = float(by_item.mean()), len(by_item)
    half = float(t_quantile(n - 1) * stdev(by_item.tolist()) / n**0.5)
    spread = float(np.ptp(by_seed))
    clear = abs(mean) > max(half, spread)
    verdict = ("better" if mean > 0 else "worse") if clear else "undecided"
    return {"mean": mean, "interval": [mean - half, mean + half], "seed_range": spread, "verdict": verdict}


def t_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t."""
    return float(scipy.stats.t.ppf(0.975, freedom))


def command(*words: str) -> None:
    """Run mrirecon in a process of its own with one thread."""
    subprocess.run([sys.executable, "-m", "mrirecon", *words], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def cropped(scan: Path, path: Path) -> Path:
    """The first slice of a scan with its k-space cut to SIZE x SIZE: the same field of view in larger pixels."""
    with h5py.File(scan) as file:
        kspace = center_crop(file["kspace"][0], (SIZE, SIZE))[None]
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (-2, -1)), norm="ortho"), (-2, -1))
    rss = np.sqrt((np.abs(images) ** 2).sum(1)).astype(np.float32)
    header = ismrmrd_header((SIZE, SIZE), (SIZE, SIZE))
    path.unlink(missing_ok=True)
    write_volume(path, kspace, reconstruction_rss=rss, header=header, attrs={"acquisition": "AXT2"})
    return path


def batches(paths: list[Path]) -> Iterator[Slice]:
    slices = Slices([read_volume(path) for path in paths], SAMPLING, keep_full=True)
    return (slices[[(0, i)]] for i in range(len(slices)))


def score(net: Unrolled, bare: Slice) -> list[float]:
    """PSNR and SSIM inside the body against the SENSE image of the full k-space."""
    batch = MapCache(None).attach(bare)
    problem, scale = pose(batch)
    with torch.inference_mode():
        image = magnitude(net(problem) * scale, batch.crop).numpy()
    reference = magnitude(sense_target(batch), batch.crop).numpy()
    body = body_mask(reference[0])[None]
    return [psnr_inside(reference, image, body), ssim_inside(reference, image, body)]


def best_score(checkpoint: Line) -> float:
    """The best validation PSNR that a checkpoint's ModelCheckpoint remembers."""
    states = checkpoint["callbacks"].values()
    (best,) = (s["best_model_score"] for s in states if "best_model_score" in s and s["monitor"] == "val_psnr")
    return float(best)


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
