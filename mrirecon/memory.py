"""Freed memory that stays with the process.

Every step of a training takes and frees the same large tensors. glibc gives each of more than 32 MB back to the system,
and smaller ones where they lie last; the system then has to hand out and to clear their pages again, step by step. For
slices of 640 x 368 and 64 channels that is a quarter of a training step, and almost half of a reconstruction, on CPUs.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h
_CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, for what it takes next; all commands of mrirecon begin with this.

    The process then needs its largest size to the end, and some of it may lie idle. False where nothing was changed:
    without glibc, and where the environment sets one of glibc's own variables, such as ``MALLOC_MMAP_MAX_``.
    """
    if any(name in os.environ for name in _CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # macOS, Windows, musl
        return False
    return bool(mallopt(_TRIM_THRESHOLD, -1) and mallopt(_MMAP_MAX, 0))
