"""HDF5 files kept open for reading: one handle per file and process.

Opening costs as much as reading a small slice, so a handle is kept; a handle that crossed a fork shares its file
position and its HDF5 state with the parent, so it is never used by a child.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import h5py

from mrirecon.errors import InputError

_MOST = 8  # open files per process; batches of shuffled slices reopen beyond that, at 0.5 ms each

# A cache of the process, not state of the program: what it returns depends on the file alone.
_files: OrderedDict[tuple[Path, int, int, int], h5py.File] = OrderedDict()
_owner = os.getpid()


def open_file(path: Path) -> h5py.File:
    """A new handle for reading, to be closed by the caller. Raises InputError for what is not a whole HDF5 file."""
    try:
        # Slices are read once each, so the chunk cache of compressed files would only hold memory.
        return h5py.File(path, "r", rdcc_nbytes=0, locking="best-effort")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except OSError as error:
        raise InputError(
            f"{path} is not a readable HDF5 file, or is cut short ({error}); copy or download it again"
        ) from error


def opened(path: Path) -> h5py.File:
    """The handle this process keeps for a file; opened anew if the file was replaced meanwhile."""
    global _owner
    if os.getpid() != _owner:
        _files.clear()
        _owner = os.getpid()
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    key = (path, status.st_ino, status.st_mtime_ns, status.st_size)
    if key not in _files:
        _files[key] = open_file(path)
        while len(_files) > _MOST:
            _files.popitem(last=False)[1].close()
    _files.move_to_end(key)
    return _files[key]
