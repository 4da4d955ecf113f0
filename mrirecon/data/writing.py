"""Writing fastMRI's two layouts: measured volumes, and reconstructions as fastMRI's leaderboard takes them.

A file appears under its name only when it is whole: it is written beside it under a temporary name, then renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from shutil import disk_usage

import h5py
import numpy as np

from mrirecon.atomic import replacing
from mrirecon.errors import InputError

Attribute = str | int | float | bool


@contextmanager
def whole_file(path: Path) -> Iterator[h5py.File]:
    """An open HDF5 file that becomes ``path`` at the end, or leaves nothing behind if the body raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, h5py.File(temporary, "x") as file:
        yield file


def write_volume(
    path: str | Path,
    kspace: np.ndarray,
    *,
    reconstruction_rss: np.ndarray | None = None,
    header: str | None = None,
    attrs: Mapping[str, Attribute] | None = None,
    datasets: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write one measured volume.

    kspace: (slices, coils, H, W), or (slices, H, W) for single coil, complex64.
    reconstruction_rss: (slices, h, w), the magnitude target; ``max`` and ``norm`` are taken from it unless given.
    header: ISMRMRD XML, see :func:`mrirecon.data.header.ismrmrd_header`.
    attrs: ``acquisition``, ``patient_id``, and for undersampled files ``acceleration``, ``num_low_frequency``.
    datasets: anything else, such as ``mask`` (W,) of an undersampled file, or ``reconstruction_esc``.
    """
    path = Path(path)
    if kspace.ndim not in (3, 4):
        raise InputError(f"k-space of shape {kspace.shape}; expected (slices, coils, H, W) or (slices, H, W)")
    with whole_file(path) as file:
        # Contiguous and uncompressed: compression makes reading several times slower and saves little on noise.
        file.create_dataset("kspace", data=np.asarray(kspace, np.complex64))
        if header is not None:
            file.create_dataset("ismrmrd_header", data=header.encode())
        for name, values in (datasets or {}).items():
            file.create_dataset(name, data=values)
        if reconstruction_rss is not None:
            target = np.asarray(reconstruction_rss, np.float32)
            file.create_dataset("reconstruction_rss", data=target)
            file.attrs["max"] = float(target.max())
            file.attrs["norm"] = float(np.linalg.norm(target))
        for name, value in (attrs or {}).items():
            file.attrs[name] = value
    return path


@contextmanager
def reconstruction_file(
    path: str | Path, shape: tuple[int, int, int], attrs: Mapping[str, Attribute]
) -> Iterator[h5py.Dataset]:
    """The dataset ``reconstruction`` (slices, h, w) of a new file, to be filled slice by slice: ``dataset[i] = image``.

    The file appears when the block ends without an error; ``attrs`` are written then, so they may grow meanwhile.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # HDF5 crashes the process when it closes a file for which the disk has no room.
    needed, free = 4 * prod(shape) + 2**16, disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"{path} needs {needed} bytes, and {free} are free on its disk")
    with whole_file(path) as file:
        yield file.create_dataset("reconstruction", shape, np.float32)
        for name, value in attrs.items():
            file.attrs[name] = value


def write_reconstruction(
    path: str | Path,
    slices: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    attrs: Mapping[str, Attribute],
) -> Path:
    """Write a reconstruction of ``shape`` (slices, h, w) from its slices (h, w), one at a time, float32.

    slices: an array of that shape, or any iterable in slice order; nothing is kept, so memory stays bounded.
    """
    with reconstruction_file(path, shape, attrs) as dataset:
        n = 0
        for image in slices:
            if n >= shape[0] or image.shape != shape[1:]:
                raise InputError(f"slice {n} of shape {image.shape} does not fit a reconstruction of {shape}")
            dataset[n] = image
            n += 1
        if n != shape[0]:
            raise InputError(f"{n} slices for {Path(path).name}; expected {shape[0]}")
    return Path(path)
