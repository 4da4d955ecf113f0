"""Sides and their variants, run one after the other; what is finished is written down and not done again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.convex_problems import Size
from benchmarks.convex_process import Limits, Outcome, Side, run

SLOWER = 2.0  # a variant that takes so many times as long as the fastest is not tried on the next problem
KEPT = 4  # variants that are, at most; where none got there all are
SHORT = 10.0  # seconds; what takes less is repeated


class Runs:
    """problem: where the current problem is. log: results of an interrupted run, which are taken from there."""

    def __init__(self, problem: Path, log: Path, limits: Limits, repeats: int) -> None:
        self.problem, self.log, self.limits, self.repeats = problem, log, limits, repeats
        self.left: dict[tuple[str, float], list[str]] = {}  # variants still tried for a strength, the fastest first
        lines = log.read_text().splitlines() if log.exists() else []
        self.known: dict[str, dict] = dict(json.loads(line) for line in lines)

    def fastest(self, size: Size, side: Side, target: float) -> dict[str, Outcome]:
        """What became of the variants that are still tried, the fastest first, with its median time.

        After one that ran out of time or memory, slower ones are not tried, unless all are tried for the first time.
        """
        key, found, limits = (side.name, size.fraction), {}, self.limits
        if side.most is not None:  # few and short: all of them every time
            self.left.pop(key, None)
        for variant in self.left.get(key, side.variants):
            found[variant] = self.once(size, side, variant, target, limits)
            seconds = found[variant].seconds
            if seconds is not None:
                limits = replace(limits, seconds=min(limits.seconds, max(SHORT, SLOWER * seconds)))
            elif key in self.left and found[variant].reason in ("time", "memory"):
                break
        order = sorted(found, key=lambda name: (found[name].seconds or float("inf"), found[name].best))
        best = found[order[0]]
        within = [name for name in order if (found[name].seconds or float("inf")) <= SLOWER * (best.seconds or 0)]
        self.left[key] = within[:KEPT] or order
        if best.seconds is not None and best.seconds < SHORT:
            more = [self.once(size, side, order[0], target, limits, i) for i in range(1, self.repeats)]
            runs = sorted((o for o in (best, *more) if o.seconds is not None), key=lambda o: o.seconds or 0.0)
            found[order[0]] = runs[len(runs) // 2]
        return {name: found[name] for name in order}

    def choose_again(self) -> None:
        """Let all variants of all sides be tried on the next problem, which is of another kind than those before."""
        self.left.clear()

    def once(
        self, size: Size, side: Side, variant: str, target: float, limits: Limits | None = None, repeat: int = 0
    ) -> Outcome:
        key = f"{size}; {side.name}; {variant}; {repeat}"
        if key not in self.known:
            result = run(side, variant, self.problem, target, limits or self.limits)
            self.known[key] = asdict(result)
            with self.log.open("a") as file:
                file.write(json.dumps([key, self.known[key]]) + "\n")
        result = Outcome(**self.known[key])
        shown = f"{result.seconds:.3g} s" if result.seconds is not None else result.reason
        print(f"{key}: {shown}, least objective {result.best:.8g}", flush=True)
        return result
