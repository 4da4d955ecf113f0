"""The tables of the convex study, for the docs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from study import DIGITS, against, spread

Line = dict[str, Any]


def convex_study(report: Line) -> str:
    """Objectives and scores of one-shot denoisers, then the unrolled networks, then their stages."""
    lines: list[str] = []
    for acceleration, rows in report["one_shot"].items():
        lines += [*one_shot(acceleration, rows), ""]
    return "\n".join([*lines, *unrolled(report["unrolled"]), "", *stages(report["unrolled"])])


def one_shot(acceleration: str, rows: Sequence[Line]) -> list[str]:
    tests = list(rows[0]["scores"])
    columns = ["1000 x objective", "over the constrained, grown", "gap", "active", *(f"{t}: PSNR (dB)" for t in tests)]
    lines = [f"| {acceleration}x | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        relative = several([100 * x for x in row["relative_range"]], "+.2f", " %")
        if "best_relative" in row:
            relative = f"{100 * row['best_relative']:+.2f} % at best of {row['seeds']}; {relative}"
        cells = [f"{1000 * row['objective']:.3f}", relative, f"{row['gap']:.0e}" if "gap" in row else ""]
        cells.append(several(row["active"], "d") if "active" in row else "")
        cells += [spread(row["scores"][test]["psnr"], DIGITS["psnr"]) for test in tests]
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    prices = next(row["price"] for row in rows if row["price"])
    return [*lines, "", f"Highest price of a direction that the search did not take: {several(prices, '.4f')}."]


def unrolled(rows: Sequence[Line]) -> list[str]:
    tests = list(rows[0]["scores"])
    columns = ["weights", *(f"{t}: PSNR (dB), SSIM | ours minus this (dB)" for t in tests)]
    lines = [f"| 4x | {' | '.join(columns)} |", "|---" * (2 + 2 * len(tests)) + "|"]
    for row in rows:
        cells = [several(row["weights"], ",d")]
        for test in tests:
            scores = row["scores"][test]
            cells.append(", ".join(spread(scores[name], digits) for name, digits in DIGITS.items()))
            cells.append(against(scores.get("ours_minus")))
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    return lines


def stages(rows: Sequence[Line]) -> list[str]:
    """What is certified of every stage, the widest of all seeds, and how the image gets better."""
    titles = ("network", "stage", "t found", "relative duality gap", "active groups", "validation PSNR (dB)")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        for number, seeds in enumerate(zip(*row.get("stages", []), strict=True), 1):
            active = several([one["active"] for one in seeds], "d") + f" of {seeds[0]['groups']}"
            psnr = several([one["psnr"] for one in seeds], ".2f")
            t = several([one["value"] for one in seeds], ".3g") if seeds[0]["value"] else ""
            gap = max(one["gap"] for one in seeds)
            lines.append(f"| {row['method']} | {number} | {t} | {gap:.1e} | {active} | {psnr} |")
    return lines


def several(values: Sequence[float], form: str, unit: str = "") -> str:
    """One number, or the least and the largest."""
    low, high = (f"{x:{form}}" for x in (min(values), max(values)))
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
