"""What a run of `mrirecon convex-fit` is gone on from, and what may not have changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from mrirecon import checkpoint
from mrirecon.convex.certificate import Certificate
from mrirecon.data.fingerprint import fingerprint
from mrirecon.data.module import FastMRIData
from mrirecon.errors import InputError
from mrirecon.training.convex import Progress
from mrirecon.training.convex_stage import convex_denoiser
from mrirecon.training.module import Reconstruction

# What may differ where a run goes on: where files lie, how they are read, and how exactly stages are solved.
PLACES = tuple(f"data.{name}" for name in ("path", "train", "val", "test", "predict", "maps"))
ASKED = tuple(f"convex.{name}" for name in ("tolerance", "precision", "cg_tolerance"))
FREE = (*PLACES, *ASKED, "data.num_workers", "data.batch_size", "trainer", "config", "ckpt_path", "weights_only")


def resumed(path: Path) -> Progress:
    """The progress of an earlier run; InputError for another kind of checkpoint."""
    state = checkpoint.read(path).get("convex")
    if not isinstance(state, dict) or not {"stages", "tried"} <= set(state):
        raise InputError(
            f"{path} is not of `mrirecon convex-fit`; go on with `mrirecon fit --resume`, or name another run"
        )
    kept = [*Certificate.__dataclass_fields__, "value", "step", "psnr", "ssim", "psnr_in"]
    if set(state) != set(vars(Progress())) or any(key not in stage for stage in state["stages"] for key in kept):
        raise InputError(f"{path} is of another version of `mrirecon convex-fit`; begin anew in another run")
    return Progress(**state)


def refuse_damage(path: Path, model: Reconstruction, progress: Progress) -> None:
    """Raises InputError for filters in a checkpoint that cannot be those of such a model."""
    shape = convex_denoiser(model.net.steps[0]).gates.shape
    found = [tried.get(name) for tried in progress.tried for name in ("gates", "filters")]
    found += [] if progress.filters is None else [progress.filters]
    for filters in found:
        if not (
            isinstance(filters, Tensor)
            and (filters.numel(), len(filters)) == (shape.numel(), shape[0])
            and bool(filters.isfinite().all())
        ):
            raise InputError(
                f"{path} holds filters or gates that are not {' x '.join(map(str, shape))}, or NaN: the file is "
                "damaged; begin anew in another run"
            )


def same_files(progress: Progress, data: FastMRIData) -> None:
    """Raises InputError where a run would go on with other files than it began with."""
    found = fingerprint([*data.used("train"), *data.used("val")])
    if progress.files not in ("", found):
        raise InputError(
            "the training or validation files are not those that the run began with, so that its stages would be of "
            "different programs; give those, wherever they lie, or name another run with --run"
        )
    progress.files = found


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


def _leaves(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
