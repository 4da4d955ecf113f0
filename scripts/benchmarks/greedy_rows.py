"""Lines of the greedy benchmark's tables: what a training step takes in each regime."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from statistics import median, quantiles

from benchmarks.greedy_memory import bytes_of, growth, moments, saved_bytes
from benchmarks.greedy_training import Case, Training
from benchmarks.measure import in_turn

Row = dict[str, str | float]


def compared(table: str, case: Case, regimes: Sequence[str], repeats: int) -> dict[str, Row]:
    """Time and memory of each regime on the same network."""
    say(f"{table}: {case}")
    trainings = {regime: Training.of(case, regime) for regime in regimes}
    saved = {regime: saved_bytes(training) for regime, training in trainings.items()}
    grown = {regime: growth(case, regime) for regime in regimes}
    taken = in_turn({regime: training.step for regime, training in trainings.items()}, repeats, warm_up=1)
    rows = {}
    for regime, training in trainings.items():
        low, middle, high = quartiles([t.cpu for t in taken[regime]])
        weights = training.weights
        rows[regime] = {
            "table": table,
            **described(case),
            "regime": regime,
            "cpu_s": middle,
            "cpu_s_25%": low,
            "cpu_s_75%": high,
            "wall_s": median(t.wall for t in taken[regime]),
            "saved_MB": 1e-6 * saved[regime],
            "grown_MB": 1e-6 * grown[regime],
            "parameters_MB": 1e-6 * bytes_of(weights),
            "gradients_MB": 1e-6 * bytes_of(p.grad for p in weights if p.grad is not None),
            "adam_MB": 1e-6 * bytes_of(moments(training)),
        }
    return rows


def described(case: Case) -> Row:
    return {
        "network": case.network,
        "unrolls": case.n_steps,
        "channels": case.channels,
        "coils": case.n_coils,
        "size": f"{case.size}x{case.size}",
        "device": case.device,
    }


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def number(row: Row, column: str) -> float:
    return float(row[column])


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)
