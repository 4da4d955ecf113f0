"""The state of every generator that a network may draw from, in plain values that a checkpoint may hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from mrirecon.errors import InputError


def rng_state() -> dict[str, Any]:
    """torch (CPU and every GPU), numpy's and Python's own. Masks, order and strips draw from none of them."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "python": random.getstate(),
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Go on from where :func:`rng_state` was taken; GPUs only if there are as many.

    Raises InputError for a state that is none.
    """
    try:
        torch.set_rng_state(state["torch"])
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        name, keys, *rest = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
        random.setstate(state["python"])
    except (TypeError, KeyError, IndexError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(
            f"the checkpoint's random state cannot be used ({error}); start anew from its weights"
        ) from None
