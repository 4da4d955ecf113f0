"""Reading whole volumes of images to score: targets, and reconstructions in the layout fastMRI's leaderboard takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from mrirecon.data.attributes import number, text
from mrirecon.data.handles import open_file
from mrirecon.errors import InputError


@dataclass(frozen=True)
class Images:
    """A volume of magnitude images (slices, h, w), in the number type of its file, and what the file says of it."""

    path: Path
    images: np.ndarray = field(repr=False)
    acquisition: str
    acceleration: float | None


def read_targets(path: str | Path) -> Images:
    """The target of a fastMRI file: ``reconstruction_esc`` of a single-coil file, else ``reconstruction_rss``.

    K-space and header may be missing. Raises InputError naming the file and what is wrong with it.
    """
    with open_file(Path(path)) as file:
        multi_coil = getattr(file.get("kspace"), "ndim", 3) == 4
        single_coil_target = not multi_coil and "reconstruction_esc" in file
        return _images(file, Path(path), "reconstruction_esc" if single_coil_target else "reconstruction_rss")


def read_reconstruction(path: str | Path) -> Images:
    """The dataset ``reconstruction`` of a file. Raises InputError naming the file and what is wrong with it."""
    with open_file(Path(path)) as file:
        return _images(file, Path(path), "reconstruction")


def read_acquisition(path: str | Path) -> str:
    """The attribute ``acquisition`` of a file, without reading its images; empty where there is none."""
    with open_file(Path(path)) as file:
        return text(file, "acquisition")


def read_attributes(path: str | Path) -> dict[str, object]:
    """The attributes of a file, as plain values."""
    with open_file(Path(path)) as file:
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}


def _images(file: h5py.File, path: Path, name: str) -> Images:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path} has no dataset {name!r}; it holds {', '.join(sorted(file)) or 'nothing'}")
    if dataset.ndim != 3 or dataset.dtype.kind != "f" or 0 in dataset.shape:
        raise InputError(f"{path}: {name} is {dataset.dtype} of shape {dataset.shape}; expected real (slices, h, w)")
    try:
        images = np.asarray(dataset[()])
    except OSError as error:  # what h5py raises for a damaged chunk
        raise InputError(f"{path}: {name} cannot be read ({error}); the file is damaged, copy it again") from error
    if not np.isfinite(images).all():
        raise InputError(f"{path}: {name} holds NaN or infinity; expected finite images, so reconstruct it again")
    return Images(path, images, text(file, "acquisition"), number(file, path, "acceleration"))
