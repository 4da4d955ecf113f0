"""What the studies share: results as lines of JSON, trainings in processes of their own, scores, paired differences."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import h5py
import numpy as np
import scipy.stats
import torch
from benchmarks.measure import installed, machine
from matplotlib.figure import Figure

from mrirecon.atomic import replacing
from mrirecon.data.header import ismrmrd_header
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slice
from mrirecon.data.writing import write_volume
from mrirecon.imaging import magnitude, pose, sense_target
from mrirecon.metrics import body_mask, psnr_inside, ssim_inside
from mrirecon.unrolled import Unrolled

UNITS, DIGITS = {"psnr": "PSNR in dB", "ssim": "SSIM"}, {"psnr": 2, "ssim": 3}


class Lines:
    """Results by name, each a line of JSON in a file as soon as it is there; those of an earlier start are known.

    Args:
        path: the file. A last line that a killed start has left unfinished is taken away.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            with replacing(path) as temporary:
                temporary.write_text(whole)
        self.done: dict[str, Any] = {entry["key"]: entry["scores"] for entry in map(json.loads, whole.splitlines())}

    def keep(self, key: str, value: Any) -> Any:
        self.done[key] = value
        with self.path.open("ab", buffering=0) as file:  # in one piece, as other processes add lines too
            file.write((json.dumps({"key": key, "scores": value}) + "\n").encode())
        return value


def command(*words: str) -> None:
    """Run a command of mrirecon in a process of its own with one thread."""
    subprocess.run([sys.executable, "-m", "mrirecon", *words], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def head(*packages: str) -> dict[str, Any]:
    """Date, machine and versions, with which a report begins."""
    versions = {name: installed(name) for name in ("mrirecon", *packages)}
    return {"date": datetime.date.today().isoformat(), "machine": machine(), "versions": versions}


def cropped(scan: Path, path: Path, shape: tuple[int, int]) -> Path:
    """The first slice of a scan with its k-space cut to a shape: the same field of view in larger pixels."""
    with h5py.File(scan) as file:
        whole = file["kspace"][0]
    top, left = (n // 2 - m // 2 for n, m in zip(whole.shape[-2:], shape, strict=True))  # zero frequency is at n // 2
    kspace = whole[None, :, top : top + shape[0], left : left + shape[1]]
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, (-2, -1)), norm="ortho"), (-2, -1))
    rss = np.sqrt((np.abs(images) ** 2).sum(1)).astype(np.float32)
    header = ismrmrd_header(shape, shape)
    write_volume(path, kspace, reconstruction_rss=rss, header=header, attrs={"acquisition": "AXT2"})
    return path


def score(net: Unrolled, bare: Slice) -> list[float]:
    """PSNR and SSIM of the magnitude inside the body, against the SENSE image of the full k-space."""
    batch = MapCache(None).attach(bare)
    problem, scale = pose(batch)
    with torch.inference_mode():
        image = magnitude(net(problem) * scale, batch.crop).numpy()
    reference = magnitude(sense_target(batch), batch.crop).numpy()
    body = body_mask(reference[0])[None]
    return [psnr_inside(reference, image, body), ssim_inside(reference, image, body)]


def paired(differences: np.ndarray) -> dict[str, Any]:
    """Mean of differences (seed, item), its 95 % interval over items, the spread over seeds, and a verdict.

    The interval is of Student's t over items, each averaged over the seeds; where it holds zero, or the mean is less
    than the range of the seeds' means, the verdict is 'undecided'.
    """
    by_item, by_seed = differences.mean(0), differences.mean(1)
    mean, n = float(by_item.mean()), len(by_item)
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * stdev(by_item.tolist()) / n**0.5
    spread = float(np.ptp(by_seed))
    clear = abs(mean) > max(half, spread)
    verdict = ("better" if mean > 0 else "worse") if clear else "undecided"
    return {"mean": mean, "interval": [mean - half, mean + half], "seed_range": spread, "verdict": verdict}


def against(difference: dict[str, Any] | None, score: str = "psnr") -> str:
    """A difference that :func:`paired` gives, with its interval and verdict; empty for none."""
    if difference is None:
        return ""
    mean, low, high = (f"{x:+.{DIGITS[score]}f}" for x in (difference["mean"], *difference["interval"]))
    return f"{mean} [{low}, {high}] {difference['verdict']}"


def spread(score: dict[str, Any], digits: int) -> str:
    """The mean and, of several seeds, their standard deviation."""
    parts = [score["mean"]] + ([] if score["std"] is None else [score["std"]])
    return " ± ".join(f"{part:.{digits}f}" for part in parts)


def by_volume(scores: Sequence[Sequence[float]], slices: int) -> np.ndarray:
    """Scores (seed, slice) as (seed, volume): slices of one volume are not independent."""
    values = np.array(scores)
    return values.reshape(len(values), -1, slices).mean(2)


Curve = Sequence[tuple[float, float]]


def draw(path: Path, panels: Mapping[str, Mapping[str, Sequence[Curve]]], y_label: str) -> None:
    """Panels side by side, by the labels of their x axes: named curves, those of one name (seeds) in one colour."""
    figure = Figure(figsize=(4.6 * len(panels), 3.6), facecolor="white", layout="constrained")
    for number, (x_label, named) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), number + 1, sharey=figure.axes[0] if number else None)
        for i, (name, curves) in enumerate(named.items()):
            for j, points in enumerate(curves):
                x, y = zip(*points, strict=True)
                axes.plot(x, y, color=f"C{i}", linewidth=1.2, alpha=0.85, label=None if j else name)
                axes.plot(x[-1], y[-1], "o", color=f"C{i}", markersize=4)
        axes.set(xlabel=x_label, ylabel="" if number else y_label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[-1].legend(frameon=False, fontsize=8, loc="lower right")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=160)
