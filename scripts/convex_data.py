"""The data of the convex study: simulated training, validation and test volumes, and a measured slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measured_scan import masks
from study import command, cropped

from mrirecon.data.fastmri import list_volumes, read_volume
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slice, Slices
from mrirecon.imaging import pose, sense_target
from mrirecon.physics.sampling import Sampling
from mrirecon.training.convex_stage import Sample

SLICES = 2  # of a volume


@dataclass(frozen=True)
class Scans:
    """Simulated heads, bodies and limbs.

    size: side of the images. train, val, test: volumes, of two slices each.
    """

    size: int
    train: int
    val: int
    test: int


class Data:
    """The files of a part of the study in a folder, made if need be.

    measured: fully sampled files of fastMRI layout. The middle of the k-space of each one's first slice is a measured
        slice, the same field of view in larger pixels.
    """

    def __init__(self, scans: Scans, folder: Path, measured: Sequence[Path]) -> None:
        self.scans, self.folder = scans, folder
        folder.mkdir(parents=True, exist_ok=True)
        for split, n in (("train", scans.train), ("val", scans.val), ("test", scans.test)):
            place = self.place(split)
            if len(list(place.glob("[!.]*.h5"))) < n:
                shape = f"[{scans.size},{scans.size}]"
                words = (
                    f"simulate {place} --split {split} --volumes {n} --slices {SLICES} --shape {shape} --coils [4,8]"
                )
                command(*words.split(), "--truth", "false", "--overwrite")
        square = scans.size, scans.size
        self.measured = {scan.stem: cropped(scan, folder / scan.name, square) for scan in measured}

    def place(self, split: str) -> Path:
        return self.folder / f"multicoil_{split}"

    def simulated(self, split: str, sampling: Sampling) -> list[Slice]:
        """The slices of a split, each with a mask of its own in training, else with that of its file's name."""
        volumes = [read_volume(path) for path in list_volumes(self.place(split))]
        slices = Slices(volumes, sampling, seed=0 if split == "train" else None, keep_full=True)
        return [slices[[(0, i)]] for i in range(len(slices))]

    def scanned(self, sampling: Sampling, draws: int) -> dict[str, list[Slice]]:
        """The measured slices: with every offset of an equispaced mask, else with ``draws`` masks drawn at random."""
        found = {}
        for name, path in self.measured.items():
            volume = read_volume(path)
            if sampling.mask_type.startswith("equispaced"):
                found[name] = [offset[0] for offset in masks(volume, sampling)]
            else:
                slices = Slices([volume], sampling, seed=0, keep_full=True)
                found[name] = [slices[[(epoch, 0)]] for epoch in range(draws)]
        return found


def samples(slices: list[Slice]) -> list[Sample]:
    """What a one-shot denoiser is trained on."""
    found = []
    for bare in slices:
        batch = MapCache(None).attach(bare)
        problem, scale = pose(batch)
        found.append(Sample(problem.AHy, problem, sense_target(batch) / scale))
    return found
