"""What a scale-equivariant denoiser buys at equal activation memory, with few training volumes and at other scales.

    scripts/scale_study.py SCAN.h5 --json benchmarks/scale_study.json

Proximal-gradient networks of five steps, one with an ordinary and one with a scale-equivariant denoiser, are trained on
1, 2, 4, 8 and 16 simulated volumes of heads, with and without scale augmentation. What is due to the axis of scales and
not to the layout of a block shows in a third, whose denoiser has one scale and is the second's otherwise. All keep as
many bytes for the backward pass. An epoch has as many updates whatever it is trained on. All trainings have as many
updates, no more than the CPU-hours asked for allow by the measured time of an update and of a scored slice; weights are
averaged, and the learning rate falls along a cosine. The learning rate at the top of it is for each network the best of
several by validation PSNR after a short training on 4 volumes with another seed, without augmentation; more are tried
on a side while the last one there is best. The weights that validate best, in distribution, are scored. Validation is
by the PSNR inside the body, as the tests are: that of the whole image, which training shows, is ruled by the noise in
the air, and chooses weights too early. Seeds differ in weights at the start, masks and order; the volumes are the same.

To tell what holds the scale-equivariant network back, it is trained with one thing changed, too: twice as wide, which
takes twice the memory, with another axis of scales, and with another projection; on the largest set alone, without
augmentation, at its learning rate.

They are tested in distribution and on objects 0.7 to 1.4 times as large: under the same coils (anatomy), and with the
coils scaled alike (pixel size). A measured slice is tested with its k-space cropped to 0.5 to 1 of 256 samples. Scores
are PSNR and SSIM of the magnitude inside the body, against the SENSE image of the full k-space. Differences are paired,
with a 95 % interval over volumes, or, for the measured slice, over the offsets of its mask, so that this one says
nothing of other scans.

Every run is a `mrirecon fit` in a process of its own, killed and started again at will: finished ones are lines of JSON
beside the report, with the words that train them; an unfinished one is resumed. The config.yaml in the folder of a run
is its card: `mrirecon fit -c FOLDER/RUN/config.yaml` trains it again.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scale_networks import CHANGED, EQUIVARIANT, NETWORKS, kept_bytes, seconds
from scale_report import Line, Runs, Setting, changes, comparisons, draw, volumes
from scale_tests import USUAL, VALIDATION, Data, Scans
from study import Lines, head, score
from trainings import Trainings, best_rate

from mrirecon.checkpoint import load
from mrirecon.errors import InputError
from mrirecon.evaluate import write_json

TUNING = 1000  # the seed of tuning


@dataclass(frozen=True)
class Protocol:
    """How the networks are trained.

    scans: on what, and what they are tested on. every: epochs from one validation to the next.
    most: epochs, whatever the hours allow. average: decay of the averaged weights.
    rates, tuning, tuned_on: first learning rates to try, for how many epochs, and on how many volumes.
    spare: part of the hours for what is not measured beforehand: starts of processes, reading, maps, simulation.
    """

    scans: Scans = field(default_factory=Scans)
    every: int = 2
    most: int = 40
    average: float = 0.99
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    tuning: int = 12
    tuned_on: int = 4
    spare: float = 0.15


PROTOCOL = Protocol()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="fully sampled fastMRI-layout file; its first slice is used")
    parser.add_argument("--json", type=Path, required=True, help="the report; every run's line goes beside it, .jsonl")
    parser.add_argument("--picture", type=Path, help="PSNR against scale and against the number of volumes")
    parser.add_argument("--folder", type=Path, default=Path("runs/scale_study"), help="for data and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hours", type=float, default=6.0, help="CPU-hours of all; a resumed study keeps its own")
    parser.add_argument(
        "--part",
        type=part,
        default=(0, 1),
        metavar="K/N",
        help="train every N-th run from the K-th on, and report nothing; for N processes at once, after one has tuned",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        study = Study(PROTOCOL, options.folder, options.scan, Lines(options.json.with_suffix(".jsonl")))
        study.run(options.seeds, options.hours, options.part)
        if options.part[1] > 1:
            return 0
        report = study.report(options.seeds)
        write_json(options.json, report)
        if options.picture:
            draw(options.picture, report["rows"], PROTOCOL.scans)
    except InputError as error:
        print(f"scale_study: {error}", file=sys.stderr)
        return 2
    return 0


def part(text: str) -> tuple[int, int]:
    """K/N as (K - 1, N)."""
    k, n = map(int, text.split("/"))
    if not 1 <= k <= n:
        raise argparse.ArgumentTypeError(f"{text}; expected such as 1/2 and 2/2")
    return k - 1, n


class Study:
    def __init__(self, protocol: Protocol, folder: Path, scan: Path, lines: Lines) -> None:
        self.protocol, self.lines = protocol, lines
        self.networks = NETWORKS | CHANGED
        networks = {name: network.words() for name, network in self.networks.items()}
        self.trainings = Trainings(folder, lines, {**asdict(protocol), "networks": networks, "scan": scan.name})
        self.data = Data(protocol.scans, folder / "data", scan)
        self.settings = [Setting(*s) for s in product(NETWORKS, (False, True), protocol.scans.volumes)]
        self.changed = [Setting(name, False, max(protocol.scans.volumes)) for name in CHANGED]
        self.rates: dict[str, dict[float, float]] = {}  # of every network: validation PSNR by learning rate

    def run(self, seeds: int, hours: float, part: tuple[int, int]) -> None:
        epochs = self.length(hours, seeds)["epochs"]
        best = {}
        for name in NETWORKS:
            best[name], self.rates[name] = best_rate(partial(self.tried, name), self.protocol.rates)
        best |= dict.fromkeys(CHANGED, best[EQUIVARIANT])
        first, step = part
        runs = [*product(range(seeds), self.settings), *product(range(seeds), self.changed)]
        for seed, setting in runs[first::step]:
            self.train(setting, seed, epochs, best[setting.network])

    def length(self, hours: float, seeds: int) -> Line:
        """How many epochs each training may have, with what this follows from; as it was when the study began."""
        p, scans = self.protocol, self.protocol.scans
        if "length" not in self.lines.done:
            taken = seconds(self.networks, scans.size, next(self.data.slices(USUAL)))
            val, fixed, round_ = scans.val * scans.slices, 0.0, 0.0
            for name, t in taken.items():
                tries = len(p.rates) + 1 if name in NETWORKS else 0
                runs = seeds * sum(s.network == name for s in (*self.settings, *self.changed))
                fixed += (runs * self.data.slices_of_tests() + 2 * tries * val) * t["slice"]
                fixed += tries * p.tuning * scans.batches * t["update"]
                round_ += runs * (p.every * scans.batches * t["update"] + 2 * val * t["slice"])
            rounds = min(int(((1 - p.spare) * 3600 * hours - fixed) / round_), p.most // p.every)
            if rounds < 1:
                least = (fixed + round_) / (1 - p.spare) / 3600
                raise InputError(f"--hours {hours:g} is too short for {seeds} seeds; at least {least:.2g} are needed")
            most = (fixed + rounds * round_) / 3600
            length = {"hours": hours, "seeds": seeds, "epochs": rounds * p.every, "hours_at_most": most}
            self.lines.keep("length", {**length, "seconds": taken})
        found: Line = self.lines.done["length"]
        return found

    def tried(self, name: str, rate: float) -> float:
        """Validation PSNR after a short training."""
        p = self.protocol
        key = f"{name} | tuning | {rate}"
        if f"{key} | validation" not in self.lines.done:
            self.trainings.curve(key, self.words(Setting(name, False, p.tuned_on), TUNING, p.tuning, rate), p.tuning)
            weights = self.trainings.weights(key)
            self.lines.keep(f"{key} | validation", self.validated(weights[max(weights)]))
        found: float = self.lines.done[f"{key} | validation"]
        return found

    def validated(self, weights: Path) -> float:
        net = load(weights).net
        return float(np.mean([score(net, bare)[0] for bare in self.data.slices(VALIDATION)]))

    def train(self, setting: Setting, seed: int, epochs: int, rate: float) -> None:
        key, start = setting.key(seed), cpu_seconds()
        if key in self.lines.done:
            return
        words = self.words(setting, seed, epochs, rate)
        self.trainings.curve(key, words, self.protocol.every)
        weights = self.trainings.weights(key)
        curve = {updates: self.validated(path) for updates, path in weights.items()}
        best = max(curve, key=lambda updates: curve[updates])
        net = load(weights[best]).net
        scans = self.protocol.scans
        scores = {
            name: volumes([score(net, one) for one in self.data.slices(name)], scans.slices_of(name))
            for name in scans.names
        }
        line = {
            "trained": max(curve),
            "best": best,
            "validation": list(curve.items()),
            "words": ["fit", *words],
            "cpu_seconds": cpu_seconds() - start,
        }
        self.lines.keep(key, {**line, "scores": scores})

    def words(self, setting: Setting, seed: int, epochs: int, rate: float) -> list[str]:
        """Of `mrirecon fit`."""
        scales = ",".join(f"{s:g}" for s in sorted((1.0, *self.protocol.scans.shifts)))
        return [
            *(*self.networks[setting.network].words(), "-c", "train/end_to_end", *self.data.words(setting.volumes)),
            *(("--data.scales", f"[{scales}]") if setting.augmented else ()),
            *("--model.optimizer.init_args.lr", str(rate), "--model.ema", str(self.protocol.average)),
            *("--trainer.max_epochs", str(epochs), "--seed_everything", str(seed)),
        ]

    def report(self, seeds: int) -> Line:
        done, size = self.lines.done, self.protocol.scans.size
        runs = Runs(done, self.protocol.scans, seeds)
        lines = [line for setting in (*self.settings, *self.changed) for line in runs.of(setting)]
        made = {name: network.make() for name, network in self.networks.items()}
        return {
            **head("torch", "numpy", "sigpy"),
            "protocol": done["settings"],
            "length": done["length"],
            "most_updates": done["length"]["epochs"] * self.protocol.scans.batches,
            "rates": self.rates,
            "saved_MB": {name: 1e-6 * kept_bytes(network, size) for name, network in self.networks.items()},
            "weights": {name: sum(p.numel() for p in net.parameters()) for name, net in made.items()},
            # Without tuning; of a run that was killed, what came after.
            "cpu_hours": sum(line["cpu_seconds"] for line in lines) / 3600,
            **comparisons(runs, self.settings),
            "changed": changes(runs, self.changed),
        }


def cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(main())
