"""The data of the scale study: nested training sets, and tests whose objects are larger or smaller than in training.

Two shifts are told apart. *Anatomy*: the object is larger, the coils are not. *Pixel size*: object and coil array are
larger, as if pixels were smaller. Both are made in the simulation's continuous geometry, with the objects, intensities
and noise per sample of the unshifted set. A measured slice gets larger pixels by a crop of its k-space, from which its
maps are estimated anew: all of its samples are measured ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
from measured_scan import masks
from study import command, cropped

from mrirecon.data.fastmri import list_volumes, read_volume
from mrirecon.data.slices import Slice, Slices
from mrirecon.errors import InputError
from mrirecon.physics.sampling import Sampling

USUAL, ANATOMY, PIXELS, MEASURED = "in distribution", "anatomy", "pixel size", "measured"
VALIDATION = "validation"
SAMPLING = Sampling("equispaced_fraction", (4.0,), (0.08,))


@dataclass(frozen=True)
class Scans:
    """What is simulated and measured.

    size: side of the simulated images. slices: of a volume. coils, snr: least and most, of which a volume draws.
    base: size of the objects in training relative to their usual one, which fills the field of view.
    volumes: sizes of the training sets; each must divide the largest. val, test: volumes.
    shifts: sizes of the objects in the tests, relative to training.
    measured: side of the measured image. crops: parts of it that are kept.
    """

    size: int = 128
    slices: int = 2
    coils: tuple[int, int] = (4, 8)
    snr: tuple[float, float] = (20.0, 200.0)
    anatomy: str = "head"
    base: float = 0.7
    volumes: tuple[int, ...] = (1, 2, 4, 8, 16)
    val: int = 6
    test: int = 24
    shifts: tuple[float, ...] = (0.7, 0.8, 0.9, 1.1, 1.25, 1.4)
    measured: int = 256
    crops: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 1.0)

    @property
    def batches(self) -> int:
        """Slices of an epoch, the same for every training set: one of fewer volumes has each of them several times."""
        return self.slices * max(self.volumes)

    @property
    def simulated(self) -> dict[str, tuple[float, float]]:
        """The simulated tests: scale of the objects and of the coil array."""
        found = {USUAL: (self.base, 1.0)}
        found |= {named(ANATOMY, s): (self.base * s, 1.0) for s in self.shifts}
        return found | {named(PIXELS, s): (self.base * s, s) for s in self.shifts}

    @property
    def names(self) -> list[str]:
        """Of all tests."""
        return [*self.simulated, *(named(MEASURED, s) for s in self.crops)]

    def slices_of(self, name: str) -> int:
        """Slices of a test that are no tests of their own, as they are of one volume."""
        return 1 if name.startswith(MEASURED) else self.slices

    @property
    def groups(self) -> dict[str, list[str]]:
        """Tests that are told as one, with their names."""
        found = {USUAL: [USUAL]}
        for shift in (ANATOMY, PIXELS):
            found[f"{shift}, smaller"] = [named(shift, s) for s in self.shifts if s < 1]
            found[f"{shift}, larger"] = [named(shift, s) for s in self.shifts if s > 1]
        found[f"{MEASURED}, larger pixels"] = [named(MEASURED, s) for s in self.crops if s < max(self.crops)]
        found[MEASURED] = [named(MEASURED, max(self.crops))]
        return {name: tests for name, tests in found.items() if tests}

    def by(self, shift: str) -> dict[float, str]:
        """The tests of one shift, with that of no shift at 1, by the size of the objects relative to training."""
        if shift == MEASURED:
            return {s: named(MEASURED, s) for s in sorted(self.crops)}
        return dict(sorted({1.0: USUAL, **{s: named(shift, s) for s in self.shifts}}.items()))


def named(shift: str, s: float) -> str:
    return f"{shift} {s:g}"


class Data:
    """The files of a study in a folder, made if need be.

    Args:
        scans: what is simulated and measured.
        folder: where the files go.
        scan: fully sampled file of fastMRI layout; its first slice is used.
    """

    def __init__(self, scans: Scans, folder: Path, scan: Path) -> None:
        self.scans, self.folder = scans, folder
        with h5py.File(scan) as file:
            height, width = file["kspace"].shape[-2:]
        if min(height, width) < scans.measured:
            raise InputError(f"{scan} has k-space {height} x {width}; expected at least {scans.measured} of each")
        folder.mkdir(parents=True, exist_ok=True)
        most = max(scans.volumes)
        whole = self._simulate("multicoil_train", "train", most, scans.base, 1.0)
        validation = self._simulate("multicoil_val", "val", scans.val, scans.base, 1.0)
        for n in scans.volumes:
            self.training(n).mkdir(exist_ok=True)
            for i in range(most):
                link = self.training(n) / f"{i:02d}.h5"
                if not link.is_symlink():
                    link.symlink_to(Path("..") / whole.name / list_volumes(whole)[i % n].name)
        self._simulated = {VALIDATION: validation} | {
            name: self._simulate(name.replace(" ", "_"), "test", scans.test, *geometry)
            for name, geometry in scans.simulated.items()
        }
        self._measured = {}
        for s in scans.crops:
            n = round(scans.measured * s)
            path = cropped(scan, folder / f"measured_{n}.h5", (n, n))
            self._measured[named(MEASURED, s)] = [offset[0] for offset in masks(read_volume(path), SAMPLING)]

    def training(self, n: int) -> Path:
        """The folder of the first ``n`` training volumes, each so often that an epoch has as many slices for every n.

        So all trainings have the same updates, learning rates and validations, whatever they are trained on.
        """
        return self.folder / f"train_{n}"

    def words(self, n: int) -> list[str]:
        """Of `mrirecon fit`, for a training with ``n`` volumes."""
        return [
            *("--data.path", str(self.folder), "--data.train", str(self.training(n))),
            *("--data.maps", str(self.folder / "maps"), "--data.sampling.mask_type", "equispaced_fraction"),
            *("--data.sampling.accelerations", "[4]", "--data.sampling.center_fractions", "[0.08]"),
        ]

    def slices(self, name: str) -> Iterator[Slice]:
        """The slices of a test or of the validation, volume after volume, with the masks of their names.

        Those of a measured test are one slice, with the mask at each of its offsets.

        A volume has its name, and so its mask, in all tests.
        """
        if name in self._measured:
            yield from self._measured[name]
            return
        volumes = [read_volume(path) for path in list_volumes(self._simulated[name])]
        slices = Slices(volumes, SAMPLING, keep_full=True)
        yield from (slices[[(0, i)]] for i in range(len(slices)))

    def slices_of_tests(self) -> float:
        """How many slices of the simulated size have the pixels of all tests."""
        simulated = len(self.scans.simulated) * self.scans.test * self.scans.slices
        pixels = sum(one.kspace.shape[-1] ** 2 for offsets in self._measured.values() for one in offsets)
        return simulated + pixels / self.scans.size**2

    def _simulate(self, name: str, split: str, n: int, scale: float, coil_scale: float) -> Path:
        scans, place = self.scans, self.folder / name
        words = f"simulate {place} --split {split} --volumes {n} --slices {scans.slices} --anatomy {scans.anatomy}"
        words += f" --coils {list(scans.coils)} --snr {list(scans.snr)} --shape {[scans.size] * 2}".replace(", ", ",")
        words += f" --scale {scale:.6g} --coil_scale {coil_scale:.6g} --truth false --overwrite"
        if len(list(place.glob("[!.]*.h5"))) < n:
            command(*words.split())
        return place
