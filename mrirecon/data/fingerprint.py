"""What tells some files from others, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

SEEN = 2**16  # bytes of a file


def fingerprint(paths: Iterable[Path]) -> str:
    """Of the files' names, sizes and some bytes in their middles, in their order: files of any size take no time."""
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - SEEN) // 2)
            digest.update(f"{path.name} {size} ".encode() + file.read(SEEN))
    return digest.hexdigest()
