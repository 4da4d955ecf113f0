"""Reading slices beside fastmri's SliceDataset and VarNetDataTransform, in units of one bare read of the same slice.

Both sides give masked k-space, mask, target and geometry of a slice of 15 x 640 x 368, in one process, without loader
workers, from a file in the page cache, undersampled 4-fold by the file-name rule. The full path, with cached maps,
A^H y and its scale, stands beside them without a goal.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.measure import Goal, Report, alternate
from mrirecon.data import ismrmrd_header, read_volume, write_volume
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slices
from mrirecon.physics import Problem, sense
from mrirecon.physics.calibration import Calibration
from mrirecon.physics.sampling import Sampling

SHAPE = (6, 15, 640, 368)  # slices, coils, H, W; 170 MB
RECON = (320, 320)
LINES = 332  # measured columns; the rest is padding, as in fastMRI's files
ACCELERATION, CENTER_FRACTION = 4, 0.08
FASTEST_PEER = 3.0  # our slices per second over fastmri's, at least
# Cheap to estimate, and as large on disk as good ones: reading them is what is measured.
CHEAP = Calibration(width=8, kernel=2, iterations=1)


def measure() -> Report:
    torch.set_num_threads(2)
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = write_noise(Path(folder) / "multicoil_val" / "file1000000.h5")
        slices = Slices([read_volume(path)], Sampling("equispaced_fraction", (ACCELERATION,), (CENTER_FRACTION,)))
        cache = MapCache(Path(folder) / "maps", CHEAP)
        sides = {
            "bare read (read_direct)": bare_read(path),
            "mrirecon": lambda number: slices[[(0, number)]],
        }
        try:
            sides["fastmri"] = fastmri_reader(path.parent, slices)
        except (ModuleNotFoundError, ValueError) as error:
            missing["fastmri"] = str(error)
        # The sides take turns file by file, as one reads in earnest: slice by slice, each would find the processor's
        # caches and the allocator as the other left them.
        passes = {name: whole_file(side) for name, side in sides.items()}
        passes["mrirecon, full path"] = whole_file(lambda number: posed(slices, cache, number))
        seconds = {name: t / SHAPE[0] for name, t in alternate(passes).items()}
    bare = seconds["bare read (read_direct)"]
    rows: list[dict[str, str | float]] = [
        {"side": name, "slices_per_s": 1 / t, "bare_reads": t / bare} for name, t in seconds.items()
    ]
    goals = {}
    if "fastmri" in seconds:
        goals["loader_vs_fastmri"] = Goal(seconds["fastmri"] / seconds["mrirecon"], FASTEST_PEER, "higher")
    return Report(rows, goals, ("torch", "numpy", "h5py", "mrirecon", "fastmri"), missing)


def write_noise(path: Path) -> Path:
    rng = np.random.default_rng(1)
    kspace = rng.standard_normal((*SHAPE, 2), np.float32).view(np.complex64)[..., 0]
    target = rng.random((SHAPE[0], *RECON), np.float32)
    header = ismrmrd_header((SHAPE[2], SHAPE[3]), RECON, LINES)
    attrs = {"acquisition": "CORPD_FBK", "patient_id": "noise"}
    return write_volume(path, kspace, reconstruction_rss=target, header=header, attrs=attrs)


def whole_file(side: Callable[[int], object]) -> Callable[[], object]:
    def read() -> None:
        for number in range(SHAPE[0]):
            side(number)

    return read


def bare_read(path: Path) -> Callable[[int], object]:
    dataset = h5py.File(path, "r")["kspace"]  # open for the life of the process
    out = np.empty(SHAPE[1:], np.complex64)
    return lambda number: dataset.read_direct(out, (number,))


def posed(slices: Slices, cache: MapCache, number: int) -> tuple[torch.Tensor, float]:
    batch = slices[[(0, number)]]
    image = Problem.pose(sense(cache.maps_of(batch), batch.mask), batch.kspace).AHy
    return image, float(image.abs().amax())


def fastmri_reader(folder: Path, ours: Slices) -> Callable[[int], object]:
    """fastmri's own reader with its own mask. Raises ValueError where it gives another slice than ours."""
    data = importlib.import_module("fastmri.data")
    masks = importlib.import_module("fastmri.data.subsample")
    transforms = importlib.import_module("fastmri.data.transforms")
    mask = masks.EquispacedMaskFractionFunc([CENTER_FRACTION], [ACCELERATION])
    peer = data.SliceDataset(folder, "multicoil", transforms.VarNetDataTransform(mask, use_seed=True))
    theirs, mine = peer[1], ours[[(0, 1)]]
    same = torch.equal(torch.view_as_complex(theirs.masked_kspace), mine.kspace[0])
    if not same or not torch.equal(theirs.target, mine.target[0]) or theirs.crop_size != mine.crop:
        raise ValueError("its slice differs from ours")
    return peer.__getitem__
