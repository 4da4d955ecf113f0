"""Writing a file so that it is whole or not there: under a temporary name beside it, renamed at the end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The temporary name to write to; it becomes ``path`` when the block ends, or is removed if the block raises."""
    # Same folder, so that the rename is atomic; a name of its own, so that two processes do not share it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
