"""What the runs of the convex study say, for its JSON: a row for every method, with means and spreads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from convex_data import SLICES
from convex_unrolled import ONE_SHOT, SEARCHED, UNROLLED
from study import by_volume, head, paired

Line = dict[str, Any]
REFERENCE = "constrained, grown gates"
FIRST = ("zero-filled", ONE_SHOT, UNROLLED, SEARCHED)  # rows, whichever was finished first


def report(done: Mapping[str, Any], seeds: int) -> Line:
    accelerations = sorted({key.split(" | ")[1] for key in done if key.startswith("one shot | ")}, key=float)
    return {
        **head("torch", "numpy", "scipy", "sigpy"),
        "protocol": done["settings"],
        "cpu_hours": sum(line["cpu_seconds"] for line in done.values() if "cpu_seconds" in line) / 3600,
        "one_shot": {name: one_shot(done, f"one shot | {name} | ", seeds) for name in accelerations},
        "unrolled": unrolled(done, seeds),
        "tuning": {key: line for key, line in done.items() if "| tuning |" in key and "validation" in line},
    }


def one_shot(done: Mapping[str, Any], prefix: str, seeds: int) -> list[Line]:
    """Rows of one acceleration. Objectives relative to the constrained program's behind grown gates, their mean."""
    grown = [done[f"{prefix}grown gates | {seed}"] for seed in range(seeds)]
    base = np.mean([line["constrained"]["primal"] for line in grown])
    rows = [{"method": "zero-filled", **summary([done[f"{prefix}zero-filled"]], "objective", base)}]
    kinds = list(dict.fromkeys(key[len(prefix) :].rpartition(" | ")[0] for key in done if key.startswith(prefix)))
    for kind in [*(k for k in kinds if k.endswith("random gates")), "grown gates"]:
        lines = [done[f"{prefix}{kind} | {seed}"] for seed in range(seeds)]
        for way in ("gated", "constrained"):
            found = [line[way] for line in lines]
            rows.append({"method": f"{way}, {kind}", **summary(found, "primal", base), **proof(found)})
    mapped = [line["mapped"] for line in grown]
    neurons = [line["neurons"] for line in mapped]
    rows.append({"method": "mapped ReLU network", **summary(mapped, "objective", base), "active": neurons})
    adams = [line for key, line in done.items() if key.startswith(f"{prefix}Adam | ")]
    best = min(adams, key=lambda line: line["objective"])
    same = [line for line in adams if line["rate"] == best["rate"]]
    rows.append(
        {
            "method": "ReLU network, Adam",
            **summary(same, "objective", base),
            "best": best["objective"],
            "best_relative": best["objective"] / base - 1,
            "active": [best["neurons"]],
            "rate": best["rate"],
            "rates": {line["rate"]: line["objective"] for line in adams if line not in same[1:]},
        }
    )
    for row in rows:
        row["price"] = [line["growth"]["price"] for line in grown] if row["method"] == REFERENCE else None
    return rows


def summary(lines: Sequence[Line], key: str, base: float) -> Line:
    """Objective and scores, with their spread over seeds."""
    values = np.array([line[key] for line in lines])
    scores = {name: scored([line["scores"][name] for line in lines]) for name in lines[0]["scores"]}
    return {
        "objective": float(values.mean()),
        "relative": float(values.mean() / base - 1),
        "relative_range": [float(values.min() / base - 1), float(values.max() / base - 1)],
        "scores": scores,
        "seeds": len(lines),
    }


def scored(values: Sequence[Sequence[Sequence[float]]]) -> Line:
    """Of scores (seed, slice, score): mean over slices, and the standard deviation over seeds of that."""
    found = np.array(values)
    by_seed = found.mean(1)
    several = len(by_seed) > 1
    return {
        name: {"mean": float(one.mean()), "std": float(one.std(ddof=1)) if several else None}
        for name, one in zip(("psnr", "ssim"), by_seed.T, strict=True)
    }


def proof(found: Sequence[Line]) -> Line:
    return {
        "gap": max(abs(line["gap"]) for line in found),
        "violation": max(line["violation"] for line in found),
        "active": [line["active"] for line in found],
        "groups": [line["groups"] for line in found],
    }


def unrolled(done: Mapping[str, Any], seeds: int) -> list[Line]:
    """Rows of the unrolled part; differences to the last convex one, paired by slice and seed."""
    known = dict.fromkeys(key.split(" | ")[1] for key in done if key.startswith("unrolled | "))
    kinds = [*(kind for kind in FIRST if kind in known), *(kind for kind in known if kind not in FIRST)]
    kinds = [kind for kind in kinds if kind == "zero-filled" or f"unrolled | {kind} | 0" in done]
    ours = [done[f"unrolled | {SEARCHED} | {seed}"] for seed in range(seeds)]
    rows = []
    for kind in kinds:
        keys = ["unrolled | zero-filled"] * seeds
        if kind != "zero-filled":
            keys = [f"unrolled | {kind} | {seed}" for seed in range(seeds)]
        lines = [done[key] for key in keys]
        row: Line = {"method": kind, "weights": [line.get("weights", 0) for line in lines], "scores": {}}
        for test in lines[0]["scores"]:
            row["scores"][test] = scored(
                [line["scores"][test] for line in (lines if "weights" in lines[0] else lines[:1])]
            )
            if kind != SEARCHED:
                row["scores"][test]["ours_minus"] = difference(ours, lines, test)
        if "stages" in lines[0]:
            row["stages"] = [line["stages"] for line in lines]
            row["strength"] = lines[0]["strength"]
        if "rate" in lines[0]:
            row |= {key: [line[key] for line in lines] for key in ("rate", "best", "trained")}
        rows.append(row)
    return rows


def difference(ours: Sequence[Line], others: Sequence[Line], test: str) -> Line:
    """Of PSNR, over volumes where slices are of volumes, else over masks of the one slice."""
    slices = SLICES if test == "simulated" else 1
    a, b = ([[one[0] for one in line["scores"][test]] for line in lines] for lines in (ours, others))
    return paired(by_volume(a, slices) - by_volume(b, slices))
