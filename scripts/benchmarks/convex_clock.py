"""A clock that stands still while an iterate is judged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TextIO


class Over(Exception):
    """Raised to leave a solver: its iterate is near enough, or its time is up."""


class Clock:
    """Runs from ``start`` on, but for the time that judging iterates takes.

    target: objective at which a solver is near enough. limit: seconds. out: gets a line of JSON for every iterate that
    was judged. Iterates are judged where the clock has advanced by a part ``step`` since the last time, which is how
    exact times are.
    """

    def __init__(self, target: float, limit: float, out: TextIO, step: float = 0.02) -> None:
        self.target, self.limit, self.out, self.step = target, limit, out, step
        self.start()

    def start(self) -> None:
        self.iterations, self.judged, self._passed, self._since = 0, 0.0, 0.0, time.perf_counter()

    @property
    def now(self) -> float:
        return self._passed + time.perf_counter() - self._since

    def look(self, objective: Callable[[], float], last: bool = False, go_on: bool = False) -> None:
        """Judge an iterate. Raises Over where it is near enough, unless told to ``go_on``, and where time is up.

        objective: computes it. last: judge this iterate in any case.
        """
        self._passed = self.now
        self.iterations += 1
        if last or self._passed >= (1 + self.step) * self.judged:
            self.judged, value = self._passed, objective()
            self.note(s=self._passed, objective=value, iterations=self.iterations)
            if (value <= self.target and not go_on) or self._passed > self.limit:
                raise Over
        self._since = time.perf_counter()

    def note(self, **what: float | str) -> None:
        self.out.write(json.dumps(what) + "\n")
        self.out.flush()
