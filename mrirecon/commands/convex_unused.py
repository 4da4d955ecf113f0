"""Settings of gradient descent, which `mrirecon convex-fit` refuses, as it would not heed them."""

from __future__ import annotations

import json
from typing import Any

from jsonargparse import Namespace

from mrirecon.errors import InputError

MODEL = ("optimizer", "activations", "stagewise", "scheduler", "rows", "accumulate", "clip", "ema", "init_from")
LIMITS = ("limit_train_batches", "limit_val_batches", "fast_dev_run", "precision", "devices", "num_nodes")
TRAINER = ("max_epochs", "max_steps", "max_time", "accumulate_grad_batches", "gradient_clip_val", *LIMITS)
UNUSED = (*(f"model.{name}" for name in MODEL), *(f"trainer.{name}" for name in TRAINER))


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
