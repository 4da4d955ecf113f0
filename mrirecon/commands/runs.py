"""The folder of a training run: what is read from it, and what training writes there."""

from __future__ import annotations

from pathlib import Path

import yaml
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from mrirecon import checkpoint
from mrirecon.cards import locate
from mrirecon.errors import InputError
from mrirecon.training.latest import Latest

FIT_ONLY = ("logger", "callbacks", "enable_checkpointing", "strategy", "devices", "num_nodes")


def checkpoints(run: Path) -> list[Checkpoint]:
    """The best epoch by volume SSIM, and the latest state, to resume from."""
    folder = run / "checkpoints"
    best = ModelCheckpoint(folder, "best", monitor="val_ssim", mode="max", enable_version_counter=False)
    return [best, Latest(folder)]


def read_card(card: str) -> str:
    """The text of a card, by path or by name; InputError where it is not YAML with keys."""
    path = locate(card)
    try:
        text = path.read_text(encoding="utf-8")
        if isinstance(yaml.safe_load(text), dict):
            return text
        problem = "it holds no keys"
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
    raise InputError(f"the card {path} cannot be used: {problem}; expected YAML such as `mrirecon cards` lists")


def default_run(cards: list[str]) -> Path:
    return Path("runs") / ("-".join(Path(card).stem for card in cards) or "run")


def resume_from(run: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from, if that is wanted; a folder with an earlier run is not written over.

    resume: ``yes``; or ``auto``, if there is a state to go on from, and a run that was killed before is begun anew.
    """
    last = run / "checkpoints" / checkpoint.LAST
    if resume and last.is_file():
        return last
    if resume == "yes":
        raise InputError(f"{run} has no checkpoints/{checkpoint.LAST} to go on from; --resume auto begins anew then")
    if not resume and (run / "checkpoints").is_dir() and any((run / "checkpoints").glob("*.ckpt")):
        raise InputError(f"{run} already holds a training run; add --resume to go on, or name another with --run")
    return None


def saved_config(run: Path, for_use: bool = False) -> str:
    """The settings of a run, as YAML text.

    Without those that only `fit` knows, and the logger, which belongs to where the run is now; for use without training
    also without the callbacks, and on one device.
    """
    config = run / "config.yaml"
    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        for key in FIT_ONLY if for_use else ("logger",):
            settings["trainer"].pop(key, None)
        keys = ["seed_everything", "trainer", "model", "data"]
        if "convex" in settings and not for_use:
            keys.append("convex")
        return yaml.safe_dump({key: settings[key] for key in keys})
    except FileNotFoundError:
        raise InputError(f"{run} has no config.yaml; expected a run folder of `mrirecon fit`") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{config} cannot be used ({error}); expected what `mrirecon fit` or `convex-fit` wrote"
        ) from None
