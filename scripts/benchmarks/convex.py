"""Our solver of gated denoisers' programs beside pyscnn, Clarabel and Adam: time to within 1e-4 of the minimum.

All have the same patches of simulated heads with noise, gates and scale of the penalty, and none normalises columns.
A side runs in a process of its own with two threads, 10 minutes by its clock and 16 GiB of resident memory, and is
first warmed up on a small problem. Its clock starts with data and gates in memory, and takes in gate patterns, matrices
and compilation. It stands still while an iterate is judged, which is done for all by one function in double precision,
against a reference of our solver in double precision with a certificate of 1e-8; the least objective of Clarabel's runs
stands beside it as a check.

*Solvers* has the fastest variant of each side. One that takes twice as long, or is not among the four fastest, is not
tried on the next problem of that strength; on the smallest problem of the ladder all are tried again, and of Adam all
every time. A side that has failed is not tried on larger ones. ``reached`` is the least distance from the reference,
relative, and ``after_s`` when the last iterate was judged. Ours also has ``certified_s``, the time to its own proof of
1e-4; its iterations are rounds, and ``passes`` counts K and its transpose over all patches and gates. Variants are: of
pyscnn single and double precision, numpy or torch behind it, and its momentum with the package's restarts or without
any; of Clarabel the program as it stands or a quadratic with the Gram matrix, four tolerances and two ways to factor;
of Adam, which gets 20 seconds, the rate, which falls along a cosine. The ReLU network of as many neurons with weight
decay is another program, which is not convex; ``reached`` is the distance of its own objective from the same reference.
As it also learns where it opens, that may be negative.

*Growth* is the cost of what our solver repeats, beyond the sizes that peers finish: K, its transpose, and the Gram
matrix of a working set, with the exponents of patches and gates.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import peers
from benchmarks.convex_growth import growth
from benchmarks.convex_plan import CLARABEL, OURS, PYSCNN, REFERENCE, Plan
from benchmarks.convex_problems import Size, draw
from benchmarks.convex_process import NEVER, Outcome, Side
from benchmarks.convex_runs import Runs
from benchmarks.measure import Goal, Report

WITHIN = 1e-4  # of the reference, relative
PROVED = 1e-8  # gap of the reference
GOALS = {"pyscnn_time_vs_ours_small": 1.0, "pyscnn_time_vs_ours_large": 5.0, "clarabel_time_vs_ours_large": 5.0}
LOG = peers.ROOT / "benchmarks" / "convex.jsonl"  # what is finished, until all is
AXES = ("patches", "kernel", "gates", "fraction")
Row = dict[str, str | float]


def measure(plan: Plan | None = None, log: Path = LOG) -> Report:
    plan = plan or Plan()
    torch.set_num_threads(plan.limits.threads)
    sides = {side.name: side for side in plan.sides if side.python.exists()}
    missing = {side.name: "not installed; use --setup-peers" for side in plan.sides if side.name not in sides}
    problems: list[Row] = []
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder) / "problem.npz", log, plan.limits, plan.repeats)
        for size in (*plan.small, *plan.ladder, *plan.beyond):
            if size == plan.ladder[0]:
                runs.choose_again()
            draw(size).save(runs.problem)
            running = [side for side in sides.values() if side.most is None or size.patches <= side.most]
            if [side.name for side in running] == [OURS]:  # then its own certificate must do
                rows.append(solver_row(size, OURS, *certified(runs, size, sides[OURS]), NEVER))
                continue
            reference = runs.once(size, REFERENCE, "to 1e-8", NEVER)
            check_reference(size, reference)
            least = float("inf")
            for side in running:
                outcomes = runs.fastest(size, side, (1 + WITHIN) * reference.best)
                variant, outcome = next(iter(outcomes.items()))
                rows.append(solver_row(size, side.name, variant, outcome, reference.best))
                if outcome.seconds is None and side.most is None and side.name != OURS:
                    del sides[side.name]
                if side.name == CLARABEL:
                    least = min(outcome.best for outcome in outcomes.values())
            problems.append(problem_row(size, reference, least))
    grown = growth(plan.passes, plan.groups)
    log.unlink(missing_ok=True)
    packages = ("torch", "numpy", "mrirecon", "cvxpy", "clarabel")
    return Report([*problems, *rows, *grown], goals(rows, plan), packages, missing, peer_versions())


def check_reference(size: Size, reference: Outcome) -> None:
    """Raises RuntimeError where it is none, as no side could be judged by it."""
    gap = reference.told.get("gap", float("inf"))
    if abs(gap) > PROVED:
        raise RuntimeError(f"the reference of {size} has a gap of {gap:.1e}, not {PROVED:.0e}; {reference.reason}")


def certified(runs: Runs, size: Size, side: Side) -> tuple[str, Outcome]:
    """The variant that was the fastest before, or another where that one gives no certificate, but for want of time."""
    for variant in (*runs.left.get((side.name, size.fraction), ()), *side.variants):
        outcome = runs.once(size, side, variant, NEVER)
        if "certified" in outcome.told or outcome.reason in ("time", "memory"):
            break
    return variant, outcome


def problem_row(size: Size, reference: Outcome, least: float) -> Row:
    """``gap``: that of the reference's certificate. ``Clarabel``: relative distance of its least objective from it."""
    return {
        "table": "problems",
        **asdict(size),
        "active": reference.told.get("active", ""),
        "objective": reference.best,
        "gap": reference.told.get("gap", ""),
        "Clarabel": least / reference.best - 1 if least < float("inf") else "",
    }


def solver_row(size: Size, side: str, variant: str, outcome: Outcome, reference: float) -> Row:
    known = outcome.told.get
    return {
        "table": "solvers",
        **asdict(size),
        "side": side,
        "variant": variant,
        "seconds": "" if outcome.seconds is None else outcome.seconds,
        "reason": outcome.reason if reference else "no reference",
        "reached": outcome.best / reference - 1 if reference and outcome.best < float("inf") else "",
        "after_s": known("s", ""),
        "iterations": known("iterations", ""),
        "active": known("active", ""),
        "passes": known("passes", ""),
        "certified_s": known("certified", ""),
        "certified_gap": known("gap", ""),
        "peak_GB": known("peak_GB", ""),
    }


def goals(rows: Sequence[Row], plan: Plan) -> dict[str, Goal]:
    """The worst of the small problems; and the largest that a peer has finished. 0 where we have not finished it."""
    seconds = {(row["side"], *(row[key] for key in AXES)): row["seconds"] for row in rows if row["seconds"] != ""}

    def ratio(peer: str, size: Size) -> float | None:
        of_peer, of_ours = (seconds.get((side, *asdict(size).values())) for side in (peer, OURS))
        if not of_peer:
            return None
        return float(of_peer) / float(of_ours) if of_ours else 0.0

    small = [r for size in plan.small if (r := ratio(PYSCNN, size)) is not None]
    found = {"pyscnn_time_vs_ours_small": min(small, default=None)}
    for peer in (PYSCNN, CLARABEL):
        larger = [r for size in (*plan.small, *plan.ladder) if (r := ratio(peer, size)) is not None]
        found[f"{peer.lower()}_time_vs_ours_large"] = larger[-1] if larger else None
    return {name: Goal(value, GOALS[name], "higher") for name, value in found.items() if value is not None}


def peer_versions() -> dict[str, str]:
    """Of what stands in pyscnn's own environment."""
    if not peers.PYSCNN_PYTHON.exists():
        return {}
    asked = "import importlib.metadata as m, json; print(json.dumps({k: m.version(k) for k in ('pyscnn', 'numpy')}))"
    output = subprocess.run([peers.PYSCNN_PYTHON, "-c", asked], check=True, capture_output=True, text=True).stdout
    return {name if name == PYSCNN else f"{name} of pyscnn": value for name, value in json.loads(output).items()}
