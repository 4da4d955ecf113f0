"""Networks trained on simulated data against tuned classical methods, on a measured scan.

    scripts/measured_scan.py SCAN.h5 --validation SIMULATED_VAL --model NAME=RUN --json FILE [--picture FILE]

All methods see the same masks, one for every offset of the equispaced pattern, and maps from the same centre lines.
Every classical method is swept over strength, wavelet and support threshold of the maps, and reported twice: with the
setting that is best on the simulated validation files, and with the best on this very scan, score by score, which no
user could know. A network has one setting, that of its training.

PSNR and SSIM are printed twice: of the whole image against the file's RSS, as `mrirecon evaluate` does, and inside the
body against the SENSE combination of the full k-space, since RSS turns the noise in air into a bias.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study import Lines, head

from mrirecon import __version__, metrics
from mrirecon.checkpoint import load
from mrirecon.data.fastmri import Volume, list_volumes, read_volume
from mrirecon.data.maps import VERSION as MAPS_VERSION
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slice, Slices
from mrirecon.errors import InputError
from mrirecon.evaluate import write_json
from mrirecon.figures import comparison
from mrirecon.imaging import magnitude, pose, sense_target
from mrirecon.metrics import body_mask, psnr_inside, ssim_inside
from mrirecon.physics.calibration import Calibration
from mrirecon.physics.sampling import Sampling, sample_seed
from mrirecon.progress import bar
from mrirecon.reconstruct import Method, classical, network
from mrirecon.tune import sweep

SCORES = ("psnr", "ssim", "body_psnr", "body_ssim")
CG = [float(f"{s:.2g}") for s in np.geomspace(1e-3, 1e-1, 9)]  # strengths, two decades
L1 = [float(f"{s:.2g}") for s in np.geomspace(2e-4, 2e-2, 9)]
WAVELETS = ("db4", "haar")
CROPS = (0.98, 0.95, 0.9, 0.8, 0.0)  # maps cut to the object's support, tightly or loosely, and not


@dataclass(frozen=True)
class Setting:
    """A method as it is set, and the calibration it uses."""

    method: Method
    calibration: Calibration


Words = dict[str, Any]  # a setting in plain values: method, strength, wavelet, crop; or model
Job = tuple[str, str, str, float, float]  # "scan" or "validation", its path, the words as JSON, mask


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="fully sampled fastMRI-layout file")
    parser.add_argument("--validation", type=Path, required=True, help="simulated files to choose settings on")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=RUN", help="a run folder or checkpoint")
    parser.add_argument("--acceleration", type=float, default=4.0)
    parser.add_argument("--center_fraction", type=float, default=0.08)
    parser.add_argument("--json", type=Path, required=True, help="the report; every run's line goes beside it, .jsonl")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    models = dict(model.split("=", 1) for model in options.model)
    mask = options.acceleration, options.center_fraction
    try:
        report = measure(options.scan, options.validation, models, mask, options.json.with_suffix(".jsonl"))
        print(markdown(report))
        write_json(options.json, report)
        if options.picture:
            draw(options.picture, options.scan, report, models, mask)
    except InputError as error:
        print(f"measured_scan: {error}", file=sys.stderr)
        return 2
    return 0


def measure(scan: Path, validation: Path, models: dict[str, str], mask: tuple[float, float], lines: Path) -> Words:
    """Every score of every setting at every offset, and the rows of the table.

    lines: one line of JSON for each setting and set of files, written as it comes; those that are there are not run
        again.
    """
    grid: dict[str, list[Words]] = {
        "zero-filled": [{"method": "zero-filled", "crop": c} for c in CROPS],
        "CG-SENSE": [{"method": "cg-sense", "strength": s, "crop": c} for c in CROPS for s in CG],
        "L1-wavelet": [
            {"method": "l1-wavelet", "strength": s, "wavelet": w, "crop": c}
            for c in CROPS
            for w in WAVELETS
            for s in L1
        ],
    }
    networks: list[Words] = [{"model": path, "model_hash": load(Path(path)).digest} for path in models.values()]
    every = [words for settings in grid.values() for words in settings]
    jobs: list[Job] = [("validation", str(validation), json.dumps(words), *mask) for words in every]
    jobs += [("scan", str(scan), json.dumps(words), *mask) for words in every + networks]
    results = Lines(lines)
    waiting = [job for job in jobs if key(job) not in results.done]
    with bar("settings", len(jobs)) as advance, ProcessPoolExecutor(initializer=alone) as pool:
        advance(len(jobs) - len(waiting))
        for job, scores in zip(waiting, pool.map(run, waiting), strict=True):
            results.keep(key(job), scores)
            advance(1)

    def found(where: str, path: Path, words: Words) -> list[list[float]]:
        scores: list[list[float]] = results.done[key((where, str(path), json.dumps(words), *mask))]
        return scores

    rows = []
    for name, settings in grid.items():
        of_settings = [found("scan", scan, words) for words in settings]
        chosen = max(range(len(settings)), key=lambda i: found("validation", validation, settings[i])[0][0])
        rows.append(row(name, "chosen on simulated files", settings[chosen], of_settings[chosen]))
        rows.append(best_row(name, settings, of_settings))
    for name, words in zip(models, networks, strict=True):
        rows.append(row(name, "as trained", {"model_hash": words["model_hash"]}, found("scan", scan, words)))
    sweeps = [
        {**words, **mean(found("scan", scan, words)), "simulated_psnr": found("validation", validation, words)[0][0]}
        for words in every
    ]
    return {
        **head("torch", "numpy", "sigpy", "scikit-image"),
        "scan": scan.name,
        "acceleration": mask[0],
        "center_fraction": mask[1],
        "offsets": len(rows[0]["values"]),
        "rows": rows,
        "grid": sweeps,
    }


def key(job: Job) -> str:
    """All that a job's scores depend on; the files by what is in them, not by their place."""
    where, path, words, *mask = job
    settings = {name: value for name, value in json.loads(words).items() if name != "model"}  # its hash says enough
    made_with = [__version__, MAPS_VERSION, asdict(Calibration())]
    return json.dumps([where, contents(path), settings, mask, made_with], sort_keys=True)


@cache
def contents(path: str) -> list[str]:
    """The hashes of a file, or of the files of a folder."""
    found = []
    for name in list_volumes(path):
        with name.open("rb") as file:
            found.append(hashlib.file_digest(file, "blake2b").hexdigest()[:20])
    return found


def alone() -> None:
    torch.set_num_threads(1)  # a process for each core


def run(job: Job) -> list[list[float]]:
    """The scores of one setting: on the scan the four at every offset; on validation files the mean PSNR."""
    where, path, words, acceleration, center_fraction = job
    sampling = Sampling("equispaced_fraction", (acceleration,), (center_fraction,))
    one = setting(json.loads(words))
    if where == "scan":
        return score(one, masks(read_volume(path), sampling))
    volumes = [read_volume(file) for file in list_volumes(path)]
    (scores,) = sweep(volumes, [one.method], sampling, MapCache(None, one.calibration))
    return [[scores.psnr]]


def setting(words: Words) -> Setting:
    if "model" in words:
        trained = load(Path(words["model"]))
        return Setting(network(trained, torch.device("cpu")), trained.calibration)
    strength, wavelet = words.get("strength"), words.get("wavelet", "db4")
    return Setting(classical(words["method"], strength, wavelet), Calibration(crop=words["crop"]))


def masks(volume: Volume, sampling: Sampling) -> list[list[Slice]]:
    """The slices of the scan under every mask that the pattern can have, in order of its first line."""
    slices = Slices([volume], sampling, seed=0, keep_full=True)
    found: dict[tuple[int, bytes], dict[int, Slice]] = {}
    for number in range(volume.n_slices):
        for epoch in range(100):  # an offset is one of about five; a hundred draws miss none
            mask = sampling.draw(volume.shape, sample_seed(0, epoch, number)).mask
            under_mask = found.setdefault((int(mask.argmax()), mask.tobytes()), {})
            if number not in under_mask:
                under_mask[number] = slices[[(epoch, number)]]
    return [list(found[mask].values()) for mask in sorted(found)]


def score(one: Setting, offsets: list[list[Slice]]) -> list[list[float]]:
    """The four scores at every offset, of the whole volume."""
    values = []
    for image, target, reference, body in images(one, offsets):
        whole = metrics.score(target, image)
        values.append(
            [whole.psnr, whole.ssim, psnr_inside(reference, image, body), ssim_inside(reference, image, body)]
        )
    return values


def images(one: Setting, offsets: list[list[Slice]]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Image, RSS target, SENSE reference and body mask at every offset, all (slices, h, w)."""
    maps = MapCache(None, one.calibration)
    for volume in offsets:
        parts = []
        for bare in volume:
            batch = maps.attach(bare)
            problem, scale = pose(batch)
            with torch.inference_mode():
                image = magnitude(one.method.solve(problem) * scale, batch.crop).numpy()
            target = batch.target.numpy()
            parts.append(
                (image, target, magnitude(sense_target(batch), batch.crop).numpy(), body_mask(target[0])[None])
            )
        image, target, reference, body = (np.concatenate(part) for part in zip(*parts, strict=True))
        yield image, target, reference, body


def mean(values: list[list[float]]) -> dict[str, float]:
    return dict(zip(SCORES, np.mean(values, axis=0).tolist(), strict=True))


def row(name: str, how: str, words: Words, values: list[list[float]]) -> Words:
    """A line of the table, with the scores at every offset."""
    spread = dict(zip(SCORES, np.std(values, axis=0, ddof=1).tolist(), strict=True))
    return {"method": name, "setting": how, "words": words, "mean": mean(values), "std": spread, "values": values}


def best_row(name: str, settings: list[Words], scores: list[list[list[float]]]) -> Words:
    """Each score from the setting that is best for it, by its mean over the offsets."""
    winners = np.argmax(np.mean(scores, axis=1), axis=0)
    values = [[scores[w][o][k] for k, w in enumerate(winners)] for o in range(len(scores[0]))]
    words = {score: settings[w] for score, w in zip(SCORES, winners, strict=True)}
    return row(name, "best on this scan, score by score", words, values)


def markdown(report: Words) -> str:
    """The rows as the table of the README."""
    lines = [
        "| method | setting | PSNR (dB) | SSIM | body PSNR (dB) | body SSIM |",
        "|---|---|---|---|---|---|",
    ]
    for r in report["rows"]:
        cells = [f"{r['mean'][k]:.{d}f} ± {r['std'][k]:.{d}f}" for k, d in zip(SCORES, (2, 3, 2, 3), strict=True)]
        lines.append(f"| {r['method']} | {r['setting']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(path: Path, scan: Path, report: Words, models: dict[str, str], mask: tuple[float, float]) -> None:
    """The first offset: target, each classical method as chosen on simulated files, and each network."""
    sampling = Sampling("equispaced_fraction", (mask[0],), (mask[1],))
    offset = masks(read_volume(scan), sampling)[:1]
    shown = {r["method"]: r["words"] for r in report["rows"] if r["setting"].startswith("chosen")}
    shown |= {name: {"model": where} for name, where in models.items()}
    views = {name: next(images(setting(words), offset)) for name, words in shown.items()}
    target = next(iter(views.values()))[1][0]
    comparison(path, target, {name: view[0][0] for name, view in views.items()}, target_name="full sampling (RSS)")


if __name__ == "__main__":
    sys.exit(main())
