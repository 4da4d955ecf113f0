"""What tells some files from others, wherever they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

SEEN, PLACES = 2**15, 5  # bytes, and where: at even distances from the first to the last


def fingerprint(paths: Iterable[Path]) -> str:
    """Of the files' names, sizes and samples of their bytes, in their order: files of any size take no time.

    Raises OSError where one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for place in range(PLACES):
                file.seek(max(0, size - SEEN) * place // (PLACES - 1))
                digest.update(file.read(SEEN))
    return digest.hexdigest()
