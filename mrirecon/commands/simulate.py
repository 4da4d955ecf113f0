"""Write simulated multi-coil volumes in fastMRI layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def simulate(
    output: Path,
    volumes: int = 8,
    slices: int = 4,
    coils: int | tuple[int, int] = 8,
    shape: tuple[int, int] = (256, 256),
    readout_oversampling: int = 1,
    snr: float | tuple[float, float] = (20.0, 200.0),
    anatomy: Literal["head", "body", "limb", "mosaic", "vial"] | None = None,
    scale: float = 1.0,
    coil_scale: float = 1.0,
    split: Literal["train", "val", "test"] = "train",
    seed: int = 0,
    truth: bool = True,
    overwrite: bool = False,
) -> int:
    """Simulate multi-coil volumes with known truth, and write one fastMRI file each into a folder.

    A file holds fully sampled k-space with noise, the header, the root-sum-of-squares target, and what really was
    there: `truth` (slices, H, W), the noise-free complex image; `sensitivity_maps` (slices, coils, H, W), of unit sum
    of squares over the coils, so that kspace = F(maps * truth) + noise; `noise_covariance` (coils, coils). The same
    seed gives the same files, however many are made.

    Args:
        output: Folder for the files; made if need be.
        volumes: How many files.
        slices: Slices of each, neighbouring cuts through one object.
        coils: Receive coils, 1 to 32; or [least, most], from which every volume draws.
        shape: Rows (readout) and columns (phase encoding) of the target image, such as [256,256].
        readout_oversampling: 2 doubles the rows of k-space, as scanners do; the header says so.
        snr: Mean signal in the body over the noise; or [least, most], from which every volume draws log-uniformly.
        anatomy: What to draw; every volume draws one if not given.
        scale: Size of the objects relative to their usual one, 0.1 to 4; the same seed gives the same objects, with the
            same intensities and noise.
        coil_scale: Size of the coil array, likewise: a larger scale alone is a larger patient, both together are
            smaller pixels.
        split: Another split has other random numbers and other file names.
        seed: Seed of all random numbers.
        truth: Whether to store the truth, the maps and the noise covariance, which take as much room as the k-space.
        overwrite: Whether to replace files that exist.
    """
    from mrirecon.data.simulated import Simulation
    from mrirecon.errors import InputError
    from mrirecon.progress import bar

    if volumes < 1:
        raise InputError(f"--volumes {volumes}; expected at least 1")
    settings = Simulation(slices, coils, (shape,), readout_oversampling, snr, anatomy, scale, coil_scale, seed)
    names = settings.names(split, volumes)
    taken = [name for name in names if (output / name).exists()]
    if taken and not overwrite:
        raise InputError(
            f"{output / taken[0]} exists ({len(taken)} of {volumes} files do); "
            "choose another folder or seed, or replace them with --overwrite"
        )
    with bar(f"simulating {split}", volumes) as advance:
        for i, name in enumerate(names):
            settings.write(output / name, split, i, truth)
            advance(1)
    print(f"{volumes} volumes of {slices} slices in {output}")
    return 0
