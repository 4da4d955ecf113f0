"""The folder of a run of `mrirecon convex-fit`: what is written there, when, and what a run is gone on from."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import Namespace

from mrirecon import checkpoint
from mrirecon.atomic import replacing
from mrirecon.convex.certificate import Certificate
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
# What may differ where a run goes on: where files lie, how they are read, and how exactly stages are solved.
PLACES = tuple(f"data.{name}" for name in ("path", "train", "val", "test", "predict", "maps"))
ASKED = tuple(f"convex.{name}" for name in ("tolerance", "precision", "cg_tolerance"))
FREE = (*PLACES, *ASKED, "data.num_workers", "data.batch_size", "trainer", "config", "ckpt_path", "weights_only")
MODEL = ("optimizer", "activations", "stagewise", "scheduler", "rows", "accumulate", "clip", "ema", "init_from")
LIMITS = ("limit_train_batches", "limit_val_batches", "fast_dev_run", "precision", "devices", "num_nodes")
TRAINER = ("max_epochs", "max_steps", "max_time", "accumulate_grad_batches", "gradient_clip_val", *LIMITS)
# Settings of gradient descent.
UNUSED = (*(f"model.{name}" for name in MODEL), *(f"trainer.{name}" for name in TRAINER))


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

    def finish(self) -> None:
        """Write certificates and scores, as numbers and as a curve."""
        stages = self.progress.stages
        told = {"says": SAYS, "loss": type(self.model.loss).__name__, "stages": stages}
        with replacing(self.path / "certificates.json") as path:
            path.write_text(json.dumps(told, indent=1) + "\n")
        psnr = [stages[0]["psnr_in"], *(stage["psnr"] for stage in stages)]
        worst = max(stage["gap"] for stage in stages)
        label = (
            f"stages, each optimal to a gap of {worst:.0e} for its gates, given its inputs;\n"
            "nothing is said of other gates, of the ReLU network, or of the stages jointly"
        )
        curve(self.path / "stages.png", {"validation": psnr}, label, "PSNR (dB)")


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


def resumed(path: Path) -> Progress:
    """The progress of an earlier run; InputError for another kind of checkpoint."""
    state = checkpoint.read(path).get("convex")
    if not isinstance(state, dict) or set(state) != set(vars(Progress())):
        raise InputError(
            f"{path} is not of `mrirecon convex-fit`; go on with `mrirecon fit --resume`, or name another run"
        )
    kept = [*Certificate.__dataclass_fields__, "value", "step", "psnr", "ssim", "psnr_in"]
    if any(key not in stage for stage in state["stages"] for key in kept):
        raise InputError(f"{path} is of another version of `mrirecon convex-fit`; begin anew in another run")
    return Progress(**state)


def refuse_changes(run: Path, config: str, progress: Progress) -> None:
    """Raises InputError for settings that are not those the run began with: its certificates would be of two kinds.

    The iterations of MoDL's steps may change before anything is solved, as a stage that needs more of them says.
    """
    begun = bool(progress.stages or progress.tried)
    before, now = (_leaves(yaml.safe_load(text)) for text in ((run / "config.yaml").read_text(), config))
    changed = [
        f"{key}: {before.get(key)} became {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and (begun or not key.endswith("net.init_args.iterations"))
        and not any(key == free or key.startswith(f"{free}.") for free in FREE)
    ]
    if changed:
        raise InputError(
            f"{run} goes on with the settings it began with, but {'; '.join(changed)}; leave that out, or name another "
            "run with --run"
        )


def refuse_unused(settings: Namespace, plain: Namespace) -> None:
    """Raises InputError for settings of gradient descent, which a program that is solved has no use for.

    plain: the settings where nothing was asked.
    """
    unused = [key for key in UNUSED if _text(settings.get(key)) not in (_text(plain.get(key)), _text(None))]
    if unused:
        raise InputError(
            f"{', '.join(unused)}: convex-fit solves programs and has no epochs, batches or gradients; leave that out, "
            "or use `mrirecon fit`"
        )


def _text(value: Any) -> str:
    """The same for tuples and lists."""
    return json.dumps(value.as_dict() if isinstance(value, Namespace) else value, default=str)


def _leaves(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
