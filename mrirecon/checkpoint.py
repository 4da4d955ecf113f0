"""Checkpoints: a network and what is needed to use it, read back without running code that a file brings along.

A checkpoint is Lightning's, with one entry more. ``checkpoint["mrirecon"]`` is the record::

    {"format": 1, "version": ..., "net": {"class_path": ..., "init_args": ...}, "calibration": {...}}

It says, in plain values, how to make the network again and how its coil maps were estimated in training.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from mrirecon import __version__
from mrirecon.errors import InputError
from mrirecon.physics.calibration import Calibration
from mrirecon.unrolled import Unrolled

FORMAT = 1
# What Lightning needs to go on with training, beside the weights.
TRAINING = ("pytorch-lightning_version", "epoch", "global_step", "loops", "optimizer_states", "lr_schedulers")
AVERAGE = "average.net."  # in front of the names of averaged weights, which are then the ones to use
BEST, LAST = "best.ckpt", "last.ckpt"


@dataclass(frozen=True)
class Trained:
    """A network read from a checkpoint: in evaluation mode, with the calibration it was trained with."""

    net: Unrolled
    calibration: Calibration
    path: Path
    digest: str  # sha256 of the checkpoint file


def record(net: dict[str, Any], calibration: dict[str, Any]) -> dict[str, Any]:
    """The entry that makes a checkpoint readable by :func:`load`; ``net`` is a card's ``model.net`` in plain values."""
    return {"format": FORMAT, "version": __version__, "net": net, "calibration": calibration}


def load(path: Path) -> Trained:
    """Read a checkpoint, or the best one of a run folder.

    Raises InputError for a missing, broken or foreign file, and for a network that cannot be made again.
    """
    path = locate(path)
    checkpoint = read(path)
    entry = checkpoint.get("mrirecon")
    if not isinstance(entry, dict) or not isinstance(entry.get("net"), dict):
        raise InputError(
            f"{path} does not say which network it holds; expected a checkpoint written by `mrirecon fit`. "
            "For a network made in Python, use mrirecon.checkpoint.load_weights"
        )
    if entry.get("format") != FORMAT:
        raise InputError(f"{path} has checkpoint format {entry.get('format')}; this version reads format {FORMAT}")
    net = build(entry["net"], path)
    _fill(net, checkpoint, path)
    try:
        calibration = Calibration(**entry.get("calibration", {}))
    except TypeError as error:
        raise InputError(f"{path} records a calibration that this version does not know: {error}") from None
    return Trained(net.eval(), calibration, path, _sha256(path))


def load_weights(net: nn.Module, path: Path) -> None:
    """Fill a network with the weights of a checkpoint or run folder; InputError if they do not fit."""
    path = locate(path)
    _fill(net, read(path), path)


def check_resumable(path: Path) -> None:
    """Raises InputError for a checkpoint that training cannot go on from, since it holds no more than weights."""
    found = read(path)
    if "convex" in found:
        raise InputError(f"{path} is of `mrirecon convex-fit`; go on with `mrirecon convex-fit --resume`")
    missing = [key for key in TRAINING if key not in found]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)}, so training cannot go on from it; expected a checkpoint of "
            "`mrirecon fit`, or start anew from its weights with --model.init_from"
        )


def locate(path: Path) -> Path:
    """The checkpoint file meant by a path: itself, or in a run folder the best, else the last."""
    if path.is_file():
        return path
    if not path.exists():
        raise InputError(f"{path} does not exist; give a checkpoint (.ckpt) or a run folder of `mrirecon fit`")
    for name in (BEST, LAST):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    raise InputError(f"{path} holds no checkpoints/{BEST} or {LAST}; is it the run folder of `mrirecon fit`?")


def build(net: dict[str, Any], source: Path) -> Unrolled:
    """Make the network that a card or a record describes; its classes must be an `Unrolled` and `nn.Module`s."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=Unrolled)
    try:
        return parser.instantiate(parser.parse_object({"net": net})).net
    except (ArgumentError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise InputError(f"{source}: the network {net.get('class_path')} cannot be made: {error}") from None


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's plain values and tensors; InputError for a file that is none, or that holds code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's thoughts on pickles that it then refuses
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's own words end in the advice to let the file run its code.
        raise InputError(
            f"{path} is no checkpoint, or holds more than plain values; expected one of `mrirecon fit`"
        ) from None
    except (RuntimeError, EOFError, BadZipFile, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint ({_first_line(error)}); it may be truncated") from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(f"{path} is not a Lightning checkpoint: it has no state_dict")
    return checkpoint


def _fill(net: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    found = checkpoint["state_dict"]
    prefix = AVERAGE if any(name.startswith(AVERAGE) for name in found) else "net."
    weights = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    try:
        net.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"the weights of {path} do not fit this network: {error}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
