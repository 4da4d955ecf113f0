"""Starts the other processes of a training on this machine, and does not outlive them, nor they it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.plugins.environments import ClusterEnvironment
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from mrirecon.training.watch import PARENT

GRACE = 5.0  # seconds in which a process that failed may say why, and others may fail for the same reason


class Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher for the command line, with three differences.

    The processes run the words of ``mrirecon fit``, whoever called it. One that fails ends the others, after a moment
    in which it can say why. This process ends after all others, and if it cannot, they end by themselves
    (:func:`mrirecon.training.watch.end_with_parent`).
    """

    def __init__(self, environment: ClusterEnvironment, processes: int, nodes: int) -> None:
        super().__init__(environment, processes, nodes)
        self.words: list[str] | None = None  # of the command line; None runs this process's script again
        self._over = threading.Event()

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        if self.words is None or self.cluster_environment.creates_processes_externally:
            return super().launch(function, *args, trainer=trainer, **kwargs)
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.procs:
            self._start(self.words)
        result = function(*args, **kwargs)
        self.end(60)  # all is done and saved, however they end
        return result

    def _start(self, words: list[str]) -> None:
        environment = self.cluster_environment
        if "OMP_NUM_THREADS" not in os.environ:  # the same number in all processes, for the same digits
            threads = max(1, (os.cpu_count() or 1) // self.num_processes)
            torch.set_num_threads(threads)
            os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ |= {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        inherited = os.environ | {PARENT: str(os.getpid()), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-P", "-m", "mrirecon", *words]
        for rank in range(1, self.num_processes):
            self.procs.append(subprocess.Popen(command, env=inherited | {"LOCAL_RANK": str(rank)}))
        threading.Thread(target=self._observe, daemon=True, name="observer").start()

    def _observe(self) -> None:
        while not self._over.wait(0.2):
            failed = [(rank, p.returncode) for rank, p in enumerate(self.procs, 1) if p.poll()]
            if failed and not self._over.wait(GRACE):
                self.end(0)
                code = failed[0][1]
                os._exit(code if code > 0 else 1)  # the main thread may hang in a call that no exception reaches

    def end(self, patience: float) -> None:
        """Wait so many seconds for the processes to end, then kill those that have not."""
        self._over.set()
        until = time.monotonic() + patience
        for rank, process in enumerate(self.procs, 1):
            try:
                code = process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            else:
                if code < 0:  # others, which ended because of it, have said so themselves
                    sys.stderr.write(f"mrirecon: the process of rank {rank} was killed by signal {-code}\n")
        self.procs = []
