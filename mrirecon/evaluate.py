"""Scoring files: reconstructions against targets, volume by volume, and a summary by acquisition and acceleration.

What is scored and how is in :mod:`mrirecon.metrics`; the spread is printed as fastMRI's ``evaluate.py`` does, mean +- 2
standard deviations over volumes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from mrirecon import __version__
from mrirecon.atomic import replacing
from mrirecon.data.fastmri import list_volumes
from mrirecon.data.reconstructions import Images, read_acquisition, read_reconstruction, read_targets
from mrirecon.errors import InputError
from mrirecon.figures import comparison
from mrirecon.metrics import Scores, score, scored


@dataclass(frozen=True)
class Pair:
    """One target file and the files that reconstruct it, by label."""

    target: Path
    reconstructions: dict[str, Path]


@dataclass(frozen=True)
class VolumeScores:
    """The scores of one volume in one reconstruction."""

    volume: str
    reconstruction: str
    acquisition: str
    acceleration: float | None
    scores: Scores


@dataclass(frozen=True)
class Summary:
    """Scores over the volumes of one group (None: all of them) in one reconstruction.

    spread: 2 standard deviations over volumes, None for a single volume. difference: mean of (this reconstruction -
    the one compared against) over the same volumes; None for that one, and where it has other volumes in this group.
    """

    group: tuple[str, float | None] | None
    reconstruction: str
    volumes: int
    mean: Scores
    spread: Scores | None
    difference: Scores | None


def pairs(targets: Path, reconstructions: Sequence[Path], acquisition: str | None = None) -> list[Pair]:
    """Match files by name, each target with its reconstruction in every folder; a single target also with single files.

    acquisition: only targets of this kind. Raises InputError for targets without reconstruction, and for files in a
    folder of reconstructions that reconstruct none of the targets.
    """
    files = list_volumes(targets)
    chosen = [file for file in files if acquisition is None or read_acquisition(file) == acquisition]
    if not chosen:
        kinds = ", ".join(sorted({read_acquisition(file) for file in files}))
        raise InputError(f"{targets} holds no volume of acquisition {acquisition!r}; it holds {kinds}")
    found = {}
    for label, path in _labels(reconstructions).items():
        if path.is_file() and not targets.is_file():
            raise InputError(f"{path} is one file and {targets} a folder; give the one target file, or both as folders")
        here = {chosen[0].name: path} if path.is_file() else {file.name: file for file in list_volumes(path)}
        missing = [file.name for file in chosen if file.name not in here]
        if missing:
            raise InputError(
                f"{path} lacks {_some(missing)} of {targets}; reconstruct all, or score only what is there"
            )
        extra = sorted(here.keys() - {file.name for file in files})
        if extra and targets.is_dir():
            raise InputError(f"{path} holds {_some(extra)}, not in {targets}; is it the right folder of targets?")
        found[label] = here
    return [Pair(file, {label: here[file.name] for label, here in found.items()}) for file in chosen]


def score_pair(pair: Pair, acceleration: float | None = None) -> list[VolumeScores]:
    """Scores of one volume in every reconstruction that has this acceleration (None: any).

    The acceleration is what the reconstruction says, or else the target file.
    """
    target = read_targets(pair.target)
    results = []
    for label, path in pair.reconstructions.items():
        prediction = read_reconstruction(path)
        drawn = target.acceleration if prediction.acceleration is None else prediction.acceleration
        if acceleration is None or (drawn is not None and math.isclose(drawn, acceleration, rel_tol=1e-3)):
            scores = _score(target, prediction)
            results.append(VolumeScores(pair.target.name, label, target.acquisition, drawn, scores))
    return results


def summarise(results: Sequence[VolumeScores], against: str | None = None) -> list[Summary]:
    """Summaries by acquisition and acceleration, then over all volumes where there are several groups.

    against: label of the reconstruction that the others are compared with; the first unless given. Raises InputError
        for a label that is not there.
    """
    labels = list(dict.fromkeys(r.reconstruction for r in results))
    reference = labels[0] if against is None else against
    if reference not in labels:
        raise InputError(f"--against {against}: there is no such reconstruction; expected one of {', '.join(labels)}")
    groups = sorted({(r.acquisition, r.acceleration) for r in results}, key=lambda g: (g[0], g[1] or 0))
    whole: list[tuple[str, float | None] | None] = [*groups, None] if len(groups) > 1 else [*groups]
    summaries = []
    for group in whole:
        members = [r for r in results if group in (None, (r.acquisition, r.acceleration))]
        other = {r.volume: r.scores for r in members if r.reconstruction == reference}
        for label in labels:
            own = {r.volume: r.scores for r in members if r.reconstruction == label}
            if own:
                summaries.append(_summary(group, label, own, other if label != reference else {}))
    return summaries


def table(summaries: Sequence[Summary]) -> Table:
    """The summaries as a table for the terminal, reconstructions of a group below each other."""
    several = any(s.difference is not None for s in summaries)
    spread = "mean ± 2 standard deviations over volumes" if any(s.spread for s in summaries) else None
    view = Table(box=box.SIMPLE_HEAD, caption=spread, caption_justify="left")
    for header in ("acquisition", "acceleration", "reconstruction"):
        view.add_column(header, no_wrap=True)
    for header in ("volumes", "NMSE", "PSNR / dB", *(["Δ"] * several), "SSIM", *(["Δ"] * several)):
        view.add_column(header, justify="right", no_wrap=True)
    previous: object = ()
    for s in summaries:
        if s.group != previous and previous != ():
            view.add_section()
        acquisition, acceleration = ("all", None) if s.group is None else s.group
        where = [acquisition or "?", "" if s.group is None else "?" if acceleration is None else f"{acceleration:g}"]
        psnr, ssim = ([f"{d:+.{n}f}" if d is not None else ""] * several for d, n in _differences(s))
        view.add_row(
            *(where if s.group != previous else ["", ""]),
            s.reconstruction,
            str(s.volumes),
            _with_spread(s, 0, 4),
            _with_spread(s, 1, 2),
            *psnr,
            _with_spread(s, 2, 4),
            *ssim,
        )
        previous = s.group
    return view


def report(results: Sequence[VolumeScores], summaries: Sequence[Summary]) -> dict[str, object]:
    """Everything in plain values for JSON; the infinite PSNR of a perfect reconstruction becomes null."""

    def plain(scores: Scores | None) -> dict[str, float | None] | None:
        return scores and {name: v if math.isfinite(v) else None for name, v in scores._asdict().items()}

    return {
        "version": __version__,
        "volumes": [
            {
                "file": r.volume,
                "reconstruction": r.reconstruction,
                "acquisition": r.acquisition,
                "acceleration": r.acceleration,
                **(plain(r.scores) or {}),
            }
            for r in results
        ],
        "summary": [
            {
                "acquisition": s.group[0] if s.group else None,
                "acceleration": s.group[1] if s.group else None,
                "all": s.group is None,
                "reconstruction": s.reconstruction,
                "volumes": s.volumes,
                "mean": plain(s.mean),
                "two_std": plain(s.spread),
                "difference": plain(s.difference),
            }
            for s in summaries
        ],
    }


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write JSON, replacing the file; it is whole or not there."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def picture(path: Path, pair: Pair) -> Path:
    """Draw the middle slice of a volume in every reconstruction, with the slice's own scores for the volume's peak."""
    target = read_targets(pair.target).images
    images = {}
    for label, file in pair.reconstructions.items():
        shown, image = scored(target, read_reconstruction(file).images)
        images[label] = image[len(image) // 2]
    return comparison(path, shown[len(shown) // 2], images, peak=float(shown.max()))


def _score(target: Images, prediction: Images) -> Scores:
    try:
        return score(target.images, prediction.images)
    except InputError as error:
        raise InputError(f"{prediction.path} against {target.path}: {error}") from error


def _labels(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by the shortest ending of each that tells them apart, usually the folder's name."""
    whole = [path.resolve().parts for path in paths]
    if len(set(whole)) < len(whole):
        raise InputError(f"the same reconstruction is given twice: {', '.join(map(str, paths))}")
    for n in range(1, max(map(len, whole)) + 1):
        labels = ["/".join(parts[-n:]) for parts in whole]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, paths, strict=True))
    raise AssertionError("different paths have different endings")


def _some(names: Sequence[str], most: int = 5) -> str:
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def _summary(
    group: tuple[str, float | None] | None, label: str, own: dict[str, Scores], other: dict[str, Scores]
) -> Summary:
    values = np.array(list(own.values()))
    difference = spread = None
    with np.errstate(invalid="ignore"):  # the infinite PSNR of a perfect reconstruction
        if len(values) > 1:
            spread = Scores(*(2 * values.std(axis=0, ddof=1)).tolist())
        if own.keys() == other.keys():
            difference = Scores(*np.mean([np.subtract(own[v], other[v]) for v in own], axis=0).tolist())
        return Summary(group, label, len(values), Scores(*values.mean(axis=0).tolist()), spread, difference)


def _differences(s: Summary) -> list[tuple[float | None, int]]:
    return [(s.difference and s.difference.psnr, 2), (s.difference and s.difference.ssim, 4)]


def _with_spread(s: Summary, which: int, digits: int) -> str:
    mean = f"{s.mean[which]:.{digits}f}"
    return mean if s.spread is None else f"{mean} ± {s.spread[which]:.{digits}f}"
