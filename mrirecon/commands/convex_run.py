"""The folder of a run of `mrirecon convex-fit`: what is written there, and when."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytorch_lightning as pl
import torch

from mrirecon import checkpoint
from mrirecon.atomic import replacing
from mrirecon.errors import InputError
from mrirecon.figures import curve
from mrirecon.training.convex import Progress
from mrirecon.training.module import Reconstruction

SECONDS = 60  # between two savings inside a stage
SAYS = (
    "Filters of a stage are globally optimal, to the relative duality gap, for this stage's gated program with these "
    "gates, given the images that the stage gets. Nothing is said of other gates, of the ReLU network, or of the "
    "stages jointly."
)


class RunFolder:
    """Nothing is written before the first program is there, so that settings it refuses leave no trace.

    config: the settings, as YAML text.
    """

    def __init__(self, path: Path, model: Reconstruction, progress: Progress, config: str) -> None:
        self.path, self.model, self.progress, self.config = path, model, progress, config
        self.last = path / "checkpoints" / checkpoint.LAST
        self.saved, self.begun = time.monotonic(), False
        self.locked: int | None = None

    def save(self) -> None:
        """The network and how far it is."""
        if not self.begun:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            self.locked = lock(self.last.parent)
            with replacing(self.path / "config.yaml") as path:
                path.write_text(self.config)
            self.begun = True
        state = {
            "state_dict": self.model.state_dict(),
            "mrirecon": self.model.record,
            "pytorch-lightning_version": pl.__version__,
            "convex": vars(self.progress),
        }
        with replacing(self.last) as path:
            torch.save(state, path)
        self.saved = time.monotonic()

    def save_now_and_then(self) -> None:
        """At the first call, and then so often that little is lost with the process."""
        if not self.begun or time.monotonic() - self.saved > SECONDS:
            self.save()

    def close(self) -> None:
        """Let others write into the folder."""
        if self.locked is not None:
            os.close(self.locked)
        self.locked = None

    def certify(self) -> None:
        """Write certificates and scores of the stages that are done, if any."""
        if not self.progress.stages:
            return
        told = {"says": SAYS, "loss": type(self.model.loss).__name__, "stages": self.progress.stages}
        with replacing(self.path / "certificates.json") as path:
            path.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")

    def finish(self) -> None:
        """Write certificates and scores, as numbers and as a curve."""
        self.certify()
        stages = self.progress.stages
        psnr = [stages[0]["psnr_in"], *(stage["psnr"] for stage in stages)]
        worst = max(stage["gap"] for stage in stages)
        note = (
            f"Each stage is globally optimal to a gap of {worst:.1e} with its gates, given the images it gets.\n"
            "Nothing is said of other gates, of the ReLU network, or of the stages jointly."
        )
        curve(
            self.path / "stages.png",
            {"validation": psnr},
            "stages applied (0: zero-filled)",
            "PSNR of validation in dB",
            note,
        )


def lock(folder: Path) -> int | None:
    """Raises InputError where another process has locked the folder; else what to close to give it free."""
    try:
        import fcntl  # where there is none, on Windows, runs are not locked
    except ImportError:
        return None
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        raise InputError(f"another process writes into {folder.parent}; name another run with --run") from None
    except OSError:  # a file system without locks
        os.close(number)
        return None
    return number
