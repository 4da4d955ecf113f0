"""Scores of many volumes in few numbers: by acquisition and acceleration, as a table and as JSON.

The spread is that of fastMRI's ``evaluate.py``, mean +- 2 standard deviations over volumes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table

from mrirecon import __version__
from mrirecon.errors import InputError
from mrirecon.metrics import Scores


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
