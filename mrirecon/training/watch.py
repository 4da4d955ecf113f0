"""Ends a process that would otherwise wait for ever for another one that has died or hangs."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mrirecon.errors import ProcessLost

PARENT = "MRIRECON_PARENT"  # in the environment of processes that `mrirecon fit` starts: who must be alive


class Watch:
    """Knows where this process is, and says so, on standard error, if it stays there for too long.

    who: this process in words, with its rank.
    seconds: without any progress, after which the process ends itself.
    before_end: called first; ends the processes that this one has started.
    """

    def __init__(self, who: str, seconds: float) -> None:
        self.who, self.seconds = who, seconds
        self.place, self._since, self._started = "before the first batch", time.monotonic(), False
        self.before_end: Callable[[], None] = lambda: None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")
        self._thread.start()

    def at(self, place: str) -> None:
        """Progress: the process has come to ``place``, such as 'in epoch 3, batch 17'. Time counts from the first."""
        self.place, self._since, self._started = place, time.monotonic(), True

    @contextmanager
    def waiting(self, whom: str) -> Iterator[None]:
        """Wait for another process; raises ProcessLost if the connection to it breaks."""
        place = self.place
        self.place = f"{place}, waiting for {whom}"
        try:
            yield
        except RuntimeError as error:
            self.place = place
            # gloo hides the reason between its own source line, addresses and advice
            reason = re.search(r"connection \w+ by peer|timed? ?out", str(error), re.IGNORECASE)
            words = reason[0].lower() if reason else str(error).strip().split("\n")[0]
            raise ProcessLost(f"{self.who}: lost {whom}, {place} ({words})") from error
        self.place, self._since = place, time.monotonic()

    def stop(self) -> None:
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.5):
            if self._started and time.monotonic() - self._since > self.seconds:
                self._end(f"nothing has happened for {self.seconds:g} s")

    def _end(self, reason: str) -> None:
        sys.stderr.write(f"mrirecon: {self.who}: {reason}, {self.place}; training ends here\n")
        sys.stderr.flush()
        self.before_end()
        os._exit(1)  # the main thread may hang in a call that no exception reaches


def end_with_parent() -> None:
    """End this process soon after the one that started it, whatever this one is doing then."""
    parent, rank = int(os.environ[PARENT]), os.environ.get("LOCAL_RANK")

    def run() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        sys.stderr.write(f"mrirecon: rank {rank} on this machine: the process that started it has died\n")
        os._exit(1)

    threading.Thread(target=run, daemon=True, name="parent").start()
