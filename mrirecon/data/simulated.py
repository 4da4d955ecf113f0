"""Files of simulated volumes, in fastMRI layout: for `mrirecon simulate`, and for data cards that need no download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mrirecon.data.header import ismrmrd_header
from mrirecon.data.writing import write_volume
from mrirecon.errors import InputError
from mrirecon.simulation.phantoms import Anatomy
from mrirecon.simulation.volumes import check_settings, simulate_volume

Split = Literal["train", "val", "test"]
# A volume's random numbers come from (seed, split, volume), so that splits never share one.
SPLITS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_VERSION = 1  # of the simulation; to be raised whenever the same settings give other files


@dataclass(frozen=True)
class Simulation:
    """What is simulated; the same settings give the same files, however many are made.

    Args:
        slices: slices of a volume, neighbouring cuts through one object.
        coils: receive coils, 1 to 32; or [least, most], from which every volume draws.
        shapes: rows (readout) and columns (phase encoding) of the target images; volumes take them in turn.
        readout_oversampling: 2 doubles the rows of k-space, as scanners do; the header says so.
        snr: mean signal in the body over the noise; or [least, most], from which every volume draws log-uniformly.
        anatomy: what to draw; every volume draws one if null.
        scale: size of the object relative to its usual one; all else is drawn alike, noise and intensities stay.
        coil_scale: size of the coil array, likewise: ``scale`` alone is a larger patient, both together smaller pixels.
        seed: seed of all random numbers.
        train: volumes to train on, where a data card simulates its files.
        val: volumes to validate on, likewise.
        test: volumes to test on, likewise.
    """

    slices: int = 4
    coils: int | tuple[int, int] = 8
    shapes: tuple[tuple[int, int], ...] = ((256, 256),)
    readout_oversampling: int = 1
    snr: float | tuple[float, float] = (20.0, 200.0)
    anatomy: Anatomy | None = None
    scale: float = 1.0
    coil_scale: float = 1.0
    seed: int = 0
    train: int = 8
    val: int = 4
    test: int = 4

    def __post_init__(self) -> None:
        if min(self.train, self.val, self.test) < 1:
            raise InputError(f"simulation of {self.train}, {self.val}, {self.test} volumes; expected at least 1 each")
        if self.seed < 0 or not self.shapes:
            raise InputError(f"simulation with seed {self.seed}, shapes {self.shapes}; expected 0 or more, and a shape")
        for shape in self.shapes:
            check_settings(
                self.slices, self.coils, shape, self.readout_oversampling, self.snr, self.scale, self.coil_scale
            )

    @property
    def digest(self) -> str:
        """Names a folder of files made with these settings."""
        settings = (
            _VERSION,
            self.slices,
            self.coils,
            self.shapes,
            self.readout_oversampling,
            self.snr,
            self.anatomy,
            self.seed,
            # Folders made before there were scales keep their names.
            *(() if self.scale == self.coil_scale == 1 else (self.scale, self.coil_scale)),
        )
        return hashlib.blake2b(repr(settings).encode(), digest_size=5).hexdigest()

    def names(self, split: Split, volumes: int) -> list[str]:
        return [f"sim_{split}_s{self.seed}_{i:04d}.h5" for i in range(volumes)]

    def paths(self, folder: Path, split: Split) -> list[Path]:
        """The files of a split in its folder, as many as the settings say, whatever else lies there."""
        return [folder / name for name in self.names(split, getattr(self, split))]

    def write(self, path: Path, split: Split, i: int, truth: bool = True) -> None:
        """Simulate volume ``i`` of a split and write its file.

        truth: also store what really was there: ``truth`` (slices, H, W), the noise-free complex image;
            ``sensitivity_maps`` (slices, coils, H, W), with kspace = F(maps * truth) + noise; ``noise_covariance``.
        """
        volume = simulate_volume(
            (self.seed, SPLITS[split], i),
            self.slices,
            self.coils,
            self.shapes[i % len(self.shapes)],
            readout_oversampling=self.readout_oversampling,
            snr=self.snr,
            anatomy=self.anatomy,
            scale=self.scale,
            coil_scale=self.coil_scale,
        )
        known = {
            "truth": volume.truth,
            "sensitivity_maps": volume.maps,
            "noise_covariance": volume.covariance.astype("complex64"),
        }
        height, width = volume.kspace.shape[-2:]
        write_volume(
            path,
            volume.kspace,
            reconstruction_rss=volume.reconstruction_rss,
            header=ismrmrd_header((height, width), volume.recon_shape),
            attrs={"acquisition": volume.acquisition, "patient_id": path.stem, "snr": volume.snr},
            datasets=known if truth else {},
        )

    def fill(self, paths: Sequence[Path], split: Split, advance: Callable[[int], object]) -> None:
        """Write those files of a split that are not there yet; ``advance`` is called after each."""
        for i, path in enumerate(paths):
            if not path.exists():
                self.write(path, split, i, truth=False)
            advance(1)
