"""The attributes of a fastMRI file, which anybody may have written."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

import h5py

from mrirecon.errors import InputError


def number(file: h5py.File, path: Path, name: str) -> float | None:
    """A finite number of at least 0, or None where the attribute is missing. Raises InputError for anything else."""
    value = file.attrs.get(name)
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = -1.0
    if not isfinite(found) or found < 0:
        raise InputError(f"{path}: attribute {name!r} is {value!r}; expected a number of at least 0")
    return found


def text(file: h5py.File, name: str) -> str:
    """A text, empty where the attribute is missing."""
    value = file.attrs.get(name, "")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
