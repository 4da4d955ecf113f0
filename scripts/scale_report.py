"""What the runs of the scale study say: scores, paired differences between networks, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scale_networks import EQUIVARIANT, ONE_SCALE, ORDINARY
from scale_tests import ANATOMY, MEASURED, PIXELS, USUAL, Scans
from study import paired

from mrirecon.atomic import replacing

SCORES = ("psnr", "ssim")
DRAWN = (ORDINARY, EQUIVARIANT)
X_LABELS = {
    ANATOMY: "size of the object, same coils\n(1: as in training)",
    PIXELS: "size of object and coils\n(1: as in training)",
    MEASURED: "measured slice: part of its\nk-space along each axis",
}

Line = dict[str, Any]


class Setting(NamedTuple):
    """A training, but for its seed."""

    network: str
    augmented: bool
    volumes: int

    def key(self, seed: int) -> str:
        return f"{self.network} | {'augmented' if self.augmented else 'plain'} | {self.volumes} volumes | {seed}"


def volumes(scores: Sequence[Sequence[float]], slices: int) -> list[list[float]]:
    """PSNR and SSIM of every volume from those of its slices, as a line keeps them."""
    found: list[list[float]] = np.array(scores).reshape(-1, slices, len(SCORES)).mean(1).round(4).tolist()
    return found


@dataclass(frozen=True)
class Runs:
    """Results of every setting with every seed.

    done: lines by the key of a run. scans: the tests. seeds: how many.
    """

    done: Mapping[str, Any]
    scans: Scans
    seeds: int

    def of(self, setting: Setting) -> list[Line]:
        return [self.done[setting.key(seed)] for seed in range(self.seeds)]

    def values(self, setting: Setting, test: str, score: int) -> np.ndarray:
        """PSNR or SSIM, as (seed, volume), or (seed, offset of the mask)."""
        return np.array([[one[score] for one in run["scores"][test]] for run in self.of(setting)])

    def spread(self, setting: Setting, test: str) -> Line:
        """Mean, standard deviation over seeds, and the mean of every seed; of both scores."""
        found = {}
        for i, name in enumerate(SCORES):
            by_seed = self.values(setting, test, i).mean(1)
            std = float(by_seed.std(ddof=1)) if self.seeds > 1 else None
            found[name] = {"mean": float(by_seed.mean()), "std": std, "by_seed": by_seed.tolist()}
        return found

    def row(self, setting: Setting) -> Line:
        runs = self.of(setting)
        return {
            **setting._asdict(),
            "trained": [line["trained"] for line in runs],
            "best": [line["best"] for line in runs],
            "scores": {name: self.spread(setting, name) for name in self.scans.names},
        }

    def difference(self, one: Setting, other: Setting) -> Line:
        """Paired differences of both scores, of their means over groups of tests."""
        apart = {
            (test, name): self.values(one, test, i) - self.values(other, test, i)
            for test in self.scans.names
            for i, name in enumerate(SCORES)
        }
        groups = {
            group: {name: paired(np.mean([apart[test, name] for test in tests], axis=0)) for name in SCORES}
            for group, tests in self.scans.groups.items()
        }
        return {"volumes": one.volumes, "groups": groups}


def comparisons(runs: Runs, settings: Sequence[Setting]) -> Line:
    """Of the report: a row a setting, and the differences between networks, and with and without augmentation."""
    return {
        "rows": [runs.row(s) for s in settings],
        **{
            f"equivariant_minus_{other.replace(' ', '_')}": [
                {"augmented": s.augmented, **runs.difference(s, s._replace(network=other))}
                for s in settings
                if s.network == EQUIVARIANT
            ]
            for other in (ORDINARY, ONE_SCALE)
        },
        "augmented_minus_plain": [
            {"network": s.network, **runs.difference(s, s._replace(augmented=False))} for s in settings if s.augmented
        ],
    }


def changes(runs: Runs, settings: Sequence[Setting]) -> list[Line]:
    """Of the report: what networks with one thing changed have more than the scale-equivariant and the ordinary one."""
    return [
        {
            **runs.row(s),
            "minus_equivariant": runs.difference(s, s._replace(network=EQUIVARIANT)),
            "minus_ordinary": runs.difference(s, s._replace(network=ORDINARY)),
        }
        for s in settings
    ]


def draw(path: Path, rows: Sequence[Line], scans: Scans) -> None:
    """PSNR against scale, of the fewest training volumes above, of the most below; at the right against their number.

    A line is the mean over seeds, its band one standard deviation of these to either side; dashed with augmentation.
    The network of one scale is left to the tables.
    """
    kinds = [(network, augmented) for network in DRAWN for augmented in (False, True)]
    settings = [[row for row in rows if (row["network"], row["augmented"]) == kind] for kind in kinds]
    figure = Figure(figsize=(15.5, 7.4), facecolor="white", layout="constrained")
    panels = figure.subplots(2, len(X_LABELS) + 1)
    for upper, lower, (shift, x_label) in zip(*panels[:, :-1], X_LABELS.items(), strict=True):
        lower.sharey(upper)
        tests = scans.by(shift)
        for axes, n in ((upper, min(scans.volumes)), (lower, max(scans.volumes))):
            for row in (row for setting in settings for row in setting if row["volumes"] == n):
                band(axes, row, list(tests), [row["scores"][name]["psnr"] for name in tests.values()])
            axes.set(xlabel=x_label, ylabel="PSNR in dB", title=f"{shift}, {n} training volume{'s' * (n > 1)}")
            axes.set_xticks(list(tests), [f"{s:g}" for s in tests])
    whole = scans.by(MEASURED)[max(scans.crops)]
    for axes, test, title in zip(panels[:, -1], (USUAL, whole), (USUAL, "measured slice"), strict=True):
        for setting in settings:
            band(axes, setting[0], scans.volumes, [row["scores"][test]["psnr"] for row in setting])
        axes.set_xscale("log", base=2)
        axes.set_xticks(scans.volumes, [str(n) for n in scans.volumes])
        axes.set(xlabel="training volumes", ylabel="PSNR in dB", title=title)
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=120)


def band(axes: Axes, row: Line, x: Sequence[float], scores: Sequence[Line]) -> None:
    """A line of means with its band, in the colour and with the name of a row of the report."""
    y, half = np.array([[s["mean"], s["std"] or 0.0] for s in scores]).T
    color, dash = f"C{DRAWN.index(row['network'])}", "--" if row["augmented"] else "-"
    name = f"{row['network']}{', augmented' if row['augmented'] else ''}"
    axes.plot(x, y, dash, color=color, marker="o", markersize=3, linewidth=1.4, label=name)
    axes.fill_between(x, y - half, y + half, color=color, alpha=0.15, linewidth=0)
