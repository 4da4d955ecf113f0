"""Solvers in processes of their own, watched from outside: what they may take, and what became of them.

Memory is that which is resident; a limit of addresses would count what torch and BLAS only reserve.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks import peers

SCRIPTS = Path(__file__).resolve().parents[1]
NEVER = 0.0  # a target below all objectives
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Limits:
    """Of one run: seconds by its clock, bytes of resident memory, threads."""

    seconds: float = 600.0
    memory: float = 16 * 2.0**30
    threads: int = 2


@dataclass(frozen=True)
class Side:
    """A function ``function`` of a module of this folder that solves a problem.

    variants: settings to choose from, by name; the fastest counts. patience: times the limit after which the process is
    ended from outside; above 1 for those who show the clock their iterates and end by themselves, as judging takes time
    too. seconds: a limit of its own. most: patches up to which the side is run, even where it fails; others are until
    they fail. other: it solves another program, and is run until its time is up.
    """

    name: str
    module: str
    function: str
    variants: Mapping[str, Mapping[str, Any]]
    patience: float = 3.0
    seconds: float = float("inf")
    most: int | None = None
    other: bool = False
    python: Path = Path(sys.executable)


@dataclass(frozen=True)
class Outcome:
    """seconds: until the first iterate within the target, or None, with the ``reason``. best: least objective.

    told: the last value of what the process told, such as ``iterations``, and ``s``, when it was last judged.
    """

    seconds: float | None
    reason: str
    best: float
    told: dict[str, float]


def run(side: Side, variant: str, problem: Path, target: float, limits: Limits) -> Outcome:
    seconds = min(side.seconds, limits.seconds)
    target = NEVER if side.other else target
    request = {
        "module": side.module,
        "side": side.function,
        "settings": dict(side.variants[variant]),
        "problem": str(problem),
        "target": target,
        "limit": seconds,
        "threads": limits.threads,
    }
    command = [str(side.python), "-W", "ignore", "-m", "benchmarks.convex_child", json.dumps(request)]
    threads = {f"{name}_NUM_THREADS": str(limits.threads) for name in ("OMP", "MKL", "OPENBLAS", "RAYON")}
    environment = os.environ | threads | {"PYTHONPATH": f"{SCRIPTS}{os.pathsep}{peers.ROOT}"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=errors)
        try:
            ended = watch(process, out, side.patience * seconds, limits.memory)
        finally:
            process.kill()
            process.wait()
        lines = lines_of(out)
        errors.seek(0)
        said = errors.read().strip().splitlines()
    return outcome(lines, target, seconds, ended or (said[-1] if process.returncode and said else ""))


def outcome(lines: list[dict[str, float]], target: float, seconds: float, ended: str) -> Outcome:
    """What the lines of a process say, which were told before it ended for the reason ``ended``, if there was one."""
    judged = [line for line in lines if "objective" in line]
    told = {key: value for line in lines for key, value in line.items()}
    best = min((line["objective"] for line in judged), default=float("inf"))
    for line in judged:
        if line["objective"] <= target and line["s"] <= seconds:
            return Outcome(line["s"], "", best, told)
    ended = ended or ("time" if told.get("s", 0.0) > seconds else "ended by itself")
    return Outcome(None, ended, best, told)


def watch(process: subprocess.Popen[bytes], out: IO[str], seconds: float, memory: float) -> str:
    """Wait for the end of a process; or end it, and say what it took too much of."""
    began = None
    while True:
        try:
            process.wait(0.1)
            return ""
        except subprocess.TimeoutExpired:
            pass
        if began is None and os.fstat(out.fileno()).st_size:  # it has said that its clock runs
            began = time.monotonic()
        if resident(process.pid) > memory:
            return "memory"
        if began is not None and time.monotonic() - began > seconds:
            return "time"


def resident(pid: int) -> int:
    """Bytes, Linux only; 0 where the process has just ended."""
    try:
        return PAGE * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def lines_of(out: IO[str]) -> list[dict[str, float]]:
    """All whole lines that a process has written."""
    out.seek(0)
    text = out.read()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
