"""One solver on one problem in a process of its own: python -m benchmarks.convex_child REQUEST, a JSON string.

Standard output gets a line of JSON for every iterate that was judged, and one with the peak of resident memory. The
solver first runs on a small problem, so that what it loads late is there when the clock starts.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.convex_clock import Clock, Over
from benchmarks.convex_problems import Problem
from mrirecon.memory import keep_freed_memory


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    keep_freed_memory()  # as the commands do, for every side
    side: Callable[..., None] = getattr(importlib.import_module(f"benchmarks.{request['module']}"), request["side"])
    problem = Problem.load(Path(request["problem"]))
    with os.fdopen(os.dup(1), "w") as out, open(os.devnull, "w") as nowhere:
        os.dup2(2, 1)  # what solvers print is not for the record
        for clock, posed in (
            (Clock(0.0, 1.0, nowhere), small()),
            (Clock(request["target"], request["limit"], out), problem),
        ):
            clock.note(started=0.0)
            clock.start()
            with contextlib.suppress(Over):
                side(posed, clock, **request["settings"])
        clock.note(peak_GB=1024e-9 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def small() -> Problem:
    """Noise."""
    generator = torch.Generator().manual_seed(0)
    Y, b, u = (torch.randn(shape, generator=generator) for shape in ((200, 9), (200,), (10, 9)))
    return Problem(Y, b, u, beta=2.0)


if __name__ == "__main__":
    main()
