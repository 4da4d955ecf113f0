"""The common form of all benchmarks: sides that alternate, medians, tables, one JSON file.

A benchmark is a module of this folder with ``measure() -> Report``.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from random import Random
from statistics import median
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Side = Callable[[], object]


class Goal(NamedTuple):
    """A figure of the report and what it should be: at most (lower) or at least (higher) the bound."""

    value: float
    bound: float
    better: Literal["lower", "higher"]

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.better == "lower" else self.value >= self.bound


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    rows: one mapping of column to value per line; consecutive ones with the same columns are one table.
    goals: figures with a bound; one that could not be measured is left out.
    missing: sides that were not measured, with the reason: not installed, a wrong result, a refusal.
    packages: distributions whose versions belong to the figures.
    versions: of what is installed elsewhere.
    """

    rows: Sequence[Mapping[str, str | float]]
    goals: Mapping[str, Goal]
    packages: Sequence[str]
    missing: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


class Taken(NamedTuple):
    """What one call took, in seconds: by the clock, and of the processor in all threads of this process."""

    wall: float
    cpu: float


def alternate(sides: Mapping[str, Side], repeats: int = 15, warm_up: int = 2) -> dict[str, float]:
    """Seconds per call of each side, the median of ``repeats``."""
    return {name: median(t.wall for t in taken) for name, taken in in_turn(sides, repeats, warm_up).items()}


def in_turn(sides: Mapping[str, Side], repeats: int = 15, warm_up: int = 2) -> dict[str, list[Taken]]:
    """What each of ``repeats`` calls took, for each side.

    The sides take turns, so that a busy moment of the machine falls on all of them alike, and in an order drawn anew
    for each round, since a side meets the caches and the memory as the one before it has left them.
    """
    for side in sides.values():
        for _ in range(warm_up):
            side()
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    order, rng = list(sides), Random(0)
    for _ in range(repeats):
        rng.shuffle(order)
        for name in order:
            wall, cpu = time.perf_counter(), time.process_time()
            sides[name]()
            taken[name].append(Taken(time.perf_counter() - wall, time.process_time() - cpu))
    return taken


def kept_bytes(forward: Callable[[], object], apart: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of what ``forward`` returns, each storage once.

    apart: tensors that are there anyway, such as weights and data, and do not count.
    """
    known = {t.untyped_storage().data_ptr() for t in apart}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is given out again

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = forward()
    assert result is not None
    return sum(storage.nbytes() for place, storage in kept.items() if place not in known)


def show(report: Report) -> None:
    """The tables, the goals, and who was missing."""
    for columns, rows in groupby(report.rows, key=list):
        lines = [columns, *([written(value) for value in row.values()] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
        print()
    for name, goal in report.goals.items():
        sign = "<=" if goal.better == "lower" else ">="
        print(f"{name:36s} {goal.value:7.2f}  goal {sign} {goal.bound:g}  {'met' if goal.met else 'NOT MET'}")
    for name, reason in report.missing.items():
        print(f"missing: {name} ({reason})")


def write_json(report: Report, path: Path) -> None:
    """The report as JSON, under a temporary name until it is whole."""
    content = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: installed(name) for name in report.packages}
        | dict(report.versions),
        "rows": [dict(row) for row in report.rows],
        "goals": {name: goal._asdict() for name, goal in report.goals.items()},
        "missing": dict(report.missing),
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def machine() -> dict[str, str | int]:
    names = [line.split(":", 1)[1].strip() for line in cpu_lines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
    }


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")  # Linux only; elsewhere the platform's own name must do
    return path.read_text().splitlines() if path.exists() else []


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
