"""Sensitivity maps of a slice, estimated once and kept in a cache folder.

The key of a map is a hash of all it depends on: the calibration samples themselves, the image's size, the parameters.
Renamed, copied or changed files, other masks and other seeds therefore never meet a wrong map, and nothing has to
be cleared. A map takes as much disk space as the k-space of its slice; the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mrirecon.atomic import replacing
from mrirecon.data.aligned import aligned
from mrirecon.data.slices import Slice
from mrirecon.errors import InputError
from mrirecon.physics.calibration import Calibration, calibration_square, espirit

VERSION = 2  # of the maps; to be raised whenever `espirit` gives other numbers for the same input
_FOLDER = ".mrirecon_maps"


def cache_folder() -> Path:
    """The user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mrirecon"


class MapCache:
    """Maps by content.

    folder: where they are kept; None: ``.mrirecon_maps`` beside each data file, or the user's cache folder where that
        cannot be written. Processes may share a folder.
    computed: how many maps this object had to estimate.
    """

    def __init__(self, folder: str | Path | None = None, calibration: Calibration | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; name a folder for the estimated maps, which is made if need be")
        self.calibration = calibration or Calibration()
        self.computed = 0
        self._warned = False

    def attach(self, batch: Slice) -> Slice:
        """The batch with its maps."""
        return batch._replace(maps=self.maps_of(batch))

    def maps_of(self, batch: Slice) -> Tensor:
        """Maps (batch, map, coil, H, W), complex64, on the batch's device. Raises InputError without centre lines."""
        shape = (batch.kspace.shape[-2], batch.kspace.shape[-1])
        maps = aligned((len(batch.kspace), 1, *batch.kspace.shape[1:]), np.complex64)
        for i, (kspace, n_low, path) in enumerate(zip(batch.kspace, batch.n_low, batch.volume, strict=True)):
            rows, columns = calibration_square(shape, n_low, self.calibration.width)
            lines = kspace[:, rows, columns].cpu().numpy()  # only these leave the device, not the k-space
            maps[i] = self.maps(lines, shape, Path(path))
        return torch.from_numpy(maps).to(batch.kspace.device)

    def maps(self, lines: np.ndarray, shape: tuple[int, int], beside: Path) -> np.ndarray:
        """Maps (map, coil, H, W) for calibration lines (coil, n, n) of the data file ``beside``."""
        if lines.shape[0] == 1:
            return espirit(lines, shape, self.calibration)
        name = self._key(lines, shape)
        places = [folder / name[:2] / f"{name}.npy" for folder in self._folders(beside)]
        for place in places:
            maps = _load(place, (1, lines.shape[0], *shape))
            if maps is not None:
                return maps
        maps = espirit(lines, shape, self.calibration)
        self.computed += 1
        if lines.any() and not maps.any():
            raise InputError(
                f"{beside}: no pixel has an eigenvalue above calibration crop={self.calibration.crop}; lower it, "
                "to 0.8 for example"
            )
        self._keep(places, maps)
        return maps

    def _key(self, lines: np.ndarray, shape: tuple[int, int]) -> str:
        key = hashlib.blake2b(np.ascontiguousarray(lines, np.complex64).tobytes(), digest_size=20)
        key.update(repr((VERSION, lines.shape, shape, astuple(self.calibration))).encode())
        return key.hexdigest()

    def _folders(self, beside: Path) -> list[Path]:
        return [beside.parent / _FOLDER, cache_folder() / "maps"] if self.folder is None else [self.folder]

    def _keep(self, places: list[Path], maps: np.ndarray) -> None:
        errors = []
        for place in places:
            try:
                _save(place, maps)
                return
            except OSError as error:
                errors.append(str(error))
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"estimated maps cannot be kept and will be estimated again next time ({'; '.join(errors)}); "
                "name a folder that can be written to, with --maps_folder or --data.maps",
                stacklevel=2,
            )


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """A kept map, or None where there is none that is whole."""
    try:
        maps = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or cut short by a full disk: to be estimated anew
        return None
    return maps if maps.shape == shape and maps.dtype == np.complex64 else None


def _save(path: Path, maps: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("xb") as file:
        np.save(file, maps)
