"""Networks trained on simulated data against tuned classical methods, on a measured scan.

    scripts/measured_scan.py SCAN.h5 --validation SIMULATED_VAL --model NAME=RUN [--json FILE] [--picture FILE]

All methods see the same masks, one for every offset of the equispaced pattern, and maps from the same centre lines.
Every classical method is swept over strength, wavelet and support threshold of the maps, and reported twice: with the
setting that is best on the simulated validation files, and with the best on this very scan, score by score, which no
user could know. A network has one setting, that of its training.

PSNR and SSIM are printed twice: of the whole image against the file's RSS, as `mrirecon evaluate` does, and inside the
body against the SENSE combination of the full k-space, since RSS turns the noise in air into a bias.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.measure import installed, machine

from mrirecon.checkpoint import load
from mrirecon.data.fastmri import Volume, list_volumes, read_volume
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slice, Slices
from mrirecon.errors import InputError
from mrirecon.evaluate import write_json
from mrirecon.figures import comparison
from mrirecon.imaging import magnitude, pose, sense_target
from mrirecon.metrics import body_mask, psnr, psnr_inside, ssim, ssim_inside
from mrirecon.physics.calibration import Calibration
from mrirecon.physics.sampling import Sampling
from mrirecon.progress import bar
from mrirecon.reconstruct import Method, classical, network
from mrirecon.tune import best, sweep

SCORES = ("psnr", "ssim", "body_psnr", "body_ssim")
CG = [float(f"{s:.2g}") for s in np.geomspace(1e-3, 1e-1, 9)]  # strengths, two decades
L1 = [float(f"{s:.2g}") for s in np.geomspace(2e-4, 2e-2, 9)]
WAVELETS = ("db4", "haar")
CROPS = (0.9, 0.0)  # maps cut to the object's support, and not


@dataclass(frozen=True)
class Setting:
    """A method as it is set, and the calibration it uses."""

    method: Method
    calibration: Calibration

    @property
    def words(self) -> dict[str, object]:
        return {**self.method.record, "crop": self.calibration.crop}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, help="fully sampled fastMRI-layout file")
    parser.add_argument("--validation", type=Path, required=True, help="simulated files to choose settings on")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=RUN", help="a run folder or checkpoint")
    parser.add_argument("--acceleration", type=float, default=4.0)
    parser.add_argument("--center_fraction", type=float, default=0.08)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    try:
        sampling = Sampling("equispaced_fraction", (options.acceleration,), (options.center_fraction,))
        report = measure(options.scan, options.validation, dict(m.split("=", 1) for m in options.model), sampling)
    except InputError as error:
        print(f"measured_scan: {error}", file=sys.stderr)
        return 2
    print(markdown(report))
    if options.json:
        write_json(options.json, report)
    if options.picture:
        draw(options.picture, options.scan, report, dict(m.split("=", 1) for m in options.model), sampling)
    return 0


def measure(scan: Path, validation: Path, models: dict[str, str], sampling: Sampling) -> dict[str, object]:
    """Every score of every setting at every offset, and the rows of the table."""
    volume = read_volume(scan)
    offsets = masks(volume, sampling)
    grid = {"zero-filled": [setting("zero-filled", crop=c) for c in CROPS]}
    grid["CG-SENSE"] = [setting("cg-sense", s, crop=c) for c in CROPS for s in CG]
    grid["L1-wavelet"] = [setting("l1-wavelet", s, w, c) for c in CROPS for w in WAVELETS for s in L1]
    chosen = {name: choose(settings, validation, sampling) for name, settings in grid.items()}
    rows, sweeps = [], {}
    for name, settings in grid.items():
        with bar(f"{name} on the scan", len(settings)) as advance:
            scores = [score(s, offsets, advance) for s in settings]
        sweeps[name] = [{**s.words, **mean(values)} for s, values in zip(settings, scores, strict=True)]
        rows.append(row(name, "chosen on simulated files", settings[chosen[name]].words, scores[chosen[name]]))
        rows.append(best_row(name, settings, scores))
    for name, path in models.items():
        trained = load(Path(path))
        one = Setting(network(trained, torch.device("cpu")), trained.calibration)
        words = {"model_hash": trained.digest, "crop": trained.calibration.crop}
        rows.append(row(name, "as trained", words, score(one, offsets)))
    return {
        "machine": machine(),
        "versions": {name: installed(name) for name in ("mrirecon", "torch", "numpy", "sigpy", "scikit-image")},
        "date": datetime.date.today().isoformat(),
        "scan": scan.name,
        "acceleration": sampling.accelerations[0],
        "center_fraction": sampling.center_fractions[0],
        "offsets": len(offsets),
        "rows": rows,
        "grid": sweeps,
    }


def setting(name: str, strength: float | None = None, wavelet: str = "db4", crop: float = 0.9) -> Setting:
    return Setting(classical(name, strength, wavelet), Calibration(crop=crop))  # type: ignore[arg-type]


def masks(volume: Volume, sampling: Sampling) -> list[Slice]:
    """The first slice of the scan under every mask that the pattern can have, in order of its first line."""
    slices = Slices([volume], sampling, seed=0, keep_full=True)
    found: dict[bytes, Slice] = {}
    for epoch in range(100):  # an offset is one of about five; a hundred draws miss none
        batch = slices[[(epoch, 0)]]
        found.setdefault(batch.mask.numpy().tobytes(), batch)
    return sorted(found.values(), key=lambda batch: int(batch.mask.flatten().argmax()))


def choose(settings: list[Setting], validation: Path, sampling: Sampling) -> int:
    """The setting with the best PSNR on the validation files."""
    volumes = [read_volume(path) for path in list_volumes(validation)]
    scores = []
    for crop in CROPS:
        some = [s.method for s in settings if s.calibration.crop == crop]
        name = some[0].record["method"]
        with bar(f"{name} on simulated files, crop {crop}", sum(v.n_slices for v in volumes)) as advance:
            scores += sweep(volumes, some, sampling, MapCache(None, Calibration(crop=crop)), advance)
    return best(scores)  # in the order of the grid, which goes by crop first


def score(one: Setting, offsets: list[Slice], advance: object = None) -> list[list[float]]:
    """The four scores at every offset."""
    values = []
    for batch, image, target, reference, body in images(one, offsets):
        del batch
        whole = [psnr(target, image), ssim(target, image)]
        values.append([*whole, psnr_inside(reference, image, body), ssim_inside(reference, image, body)])
    if callable(advance):
        advance(1)
    return values


def images(
    one: Setting, offsets: list[Slice]
) -> Iterator[tuple[Slice, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Batch, image, RSS target, SENSE reference and body mask at every offset, all (1, h, w)."""
    cache = MapCache(None, one.calibration)
    for bare in offsets:
        batch = cache.attach(bare)
        problem, scale = pose(batch)
        with torch.inference_mode():
            image = magnitude(one.method.solve(problem) * scale, batch.crop).numpy()
        target = batch.target.numpy()
        yield batch, image, target, magnitude(sense_target(batch), batch.crop).numpy(), body_mask(target[0])[None]


def mean(values: list[list[float]]) -> dict[str, float]:
    return dict(zip(SCORES, np.mean(values, axis=0).tolist(), strict=True))


def row(name: str, how: str, words: dict[str, object], values: list[list[float]]) -> dict[str, object]:
    spread = dict(zip(SCORES, np.std(values, axis=0, ddof=1).tolist(), strict=True))
    return {"method": name, "setting": how, "words": words, "mean": mean(values), "std": spread}


def best_row(name: str, settings: list[Setting], scores: list[list[list[float]]]) -> dict[str, object]:
    """Each score from the setting that is best for it, by its mean over the offsets."""
    winners = np.argmax(np.mean(scores, axis=1), axis=0)
    values = [[scores[w][o][k] for k, w in enumerate(winners)] for o in range(len(scores[0]))]
    words = {key: settings[w].words for key, w in zip(SCORES, winners, strict=True)}
    return row(name, "best on this scan, score by score", words, values)


def markdown(report: dict) -> str:
    """The rows as the table of the README."""
    lines = [
        "| method | setting | PSNR (dB) | SSIM | body PSNR (dB) | body SSIM |",
        "|---|---|---|---|---|---|",
    ]
    for r in report["rows"]:
        cells = [f"{r['mean'][k]:.{d}f} ± {r['std'][k]:.{d}f}" for k, d in zip(SCORES, (2, 3, 2, 3), strict=True)]
        lines.append(f"| {r['method']} | {r['setting']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(path: Path, scan: Path, report: dict, models: dict[str, str], sampling: Sampling) -> None:
    """The first offset: target, each classical method as chosen on simulated files, and each network."""
    offset = masks(read_volume(scan), sampling)[:1]
    shown = {}
    for r in report["rows"]:
        if r["setting"].startswith("chosen"):
            words = dict(r["words"])
            crop, name = words.pop("crop"), words.pop("method")
            shown[r["method"]] = next(images(setting(name, crop=crop, **words), offset))
    for name, where in models.items():
        trained = load(Path(where))
        shown[name] = next(images(Setting(network(trained, torch.device("cpu")), trained.calibration), offset))
    target = next(iter(shown.values()))[2][0]
    comparison(path, target, {name: view[1][0] for name, view in shown.items()}, target_name="full sampling (RSS)")


if __name__ == "__main__":
    sys.exit(main())
