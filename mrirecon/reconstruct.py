"""Reconstruct h5 files: undersampled k-space in, fastMRI's submission layout out, with a record of how it was made.

Slices stream from file to file, so memory does not grow with the volume. A file appears under its name only when it is
whole; one that this very run would make again is left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mrirecon import __version__
from mrirecon.checkpoint import Trained
from mrirecon.classical import cg_sense, check_wavelet, l1_wavelet, zero_filled
from mrirecon.data.batches import Batches
from mrirecon.data.fastmri import Volume, fingerprint
from mrirecon.data.maps import MapCache
from mrirecon.data.reconstructions import read_attributes
from mrirecon.data.slices import Slices
from mrirecon.data.writing import Attribute, reconstruction_file
from mrirecon.errors import InputError
from mrirecon.imaging import magnitude, pose
from mrirecon.physics import Problem
from mrirecon.physics.sampling import Sampling

Classical = Literal["zero-filled", "cg-sense", "l1-wavelet"]


@dataclass(frozen=True)
class Method:
    """How an image is made from a scaled problem, and what its file says of that."""

    solve: Callable[[Problem], Tensor]
    record: Mapping[str, Attribute] = field(default_factory=dict)


def classical(name: Classical, strength: float | None = None, wavelet: str = "db4") -> Method:
    """A method without training; ``strength`` is its regularisation, for data whose 95th percentile of |A^H y| is 1."""
    if name == "zero-filled":
        if strength is not None:
            raise InputError(f"zero-filled has no strength, but {strength} was given; leave --strength out")
        return Method(zero_filled, {"method": name})
    if strength is None:
        raise InputError(f"{name} needs --strength; 0.01 is a start, and `mrirecon tune` finds the best for your scans")
    if not 0 <= strength <= 1e6:
        raise InputError(f"--strength {strength}; expected a number from 0 to 1000000, usually below 0.1")
    if name == "cg-sense":
        return Method(partial(cg_sense, strength=strength), {"method": name, "strength": strength})
    check_wavelet(wavelet)
    solve = partial(l1_wavelet, strength=strength, wavelet=wavelet)
    return Method(solve, {"method": name, "strength": strength, "wavelet": wavelet})


def network(trained: Trained, device: torch.device) -> Method:
    """A trained network."""
    record = {"method": "network", "model": str(trained.path), "model_hash": trained.digest}
    return Method(trained.net.to(device), record)


def is_finished(output: Path, record: Mapping[str, Attribute]) -> bool:
    """Whether a file was made by this very run: same version, method, model, mask, seed, calibration and source.

    The folder of the model does not count, its hash does.
    """
    try:
        found = read_attributes(output)
    except InputError:  # no HDF5 file, or cut short
        return False
    return all(found.get(key) == value for key, value in record.items() if key != "model")


@dataclass(frozen=True)
class Reconstructor:
    """All that decides how files are reconstructed.

    sampling: how fully sampled files are undersampled, with one mask for a file, seeded by its name.
    """

    method: Method
    sampling: Sampling | None
    cache: MapCache
    device: torch.device
    batch_size: int = 1

    def record(self, volume: Volume) -> dict[str, Attribute]:
        """What decides the result, beside the samples: written as attributes of the output."""
        mask: dict[str, Attribute]
        sampling = self.sampling
        if volume.mask is not None or sampling is None:
            mask = {"mask_type": "stored in the file"}
        elif sampling.mask_file is not None:
            mask = {"mask_type": "file", "mask_hash": hashlib.sha256(Path(sampling.mask_file).read_bytes()).hexdigest()}
        else:
            # Plain text, since HDF5 attributes have no lists of lists; `repr` of numbers is exact.
            mask = {"mask_type": sampling.mask_type, "mask_seed": "file name"}
            mask |= {key: repr(getattr(sampling, key)) for key in ("accelerations", "center_fractions")}
        return {
            "mrirecon_version": __version__,
            **self.method.record,
            **mask,
            "calibration": repr(asdict(self.cache.calibration)),
            "source": volume.path.name,
            "source_hash": fingerprint(volume),
        }

    def write(self, volume: Volume, path: Path, advance: Callable[[int], object] = lambda n: None) -> float:
        """Reconstruct one volume into a file, and give the acceleration of its mask.

        advance: called with the number of slices done, after each batch.

        Raises InputError for unusable input, and where the result is not finite.
        """
        slices = Slices([volume], self.sampling)
        record = self.record(volume)
        with reconstruction_file(path, (volume.n_slices, *volume.crop), record) as dataset, torch.inference_mode():
            for keys in Batches([slices.shape_of(i) for i in range(len(slices))], self.batch_size):
                batch = self.cache.attach(slices[keys].to(self.device))
                problem, scale = pose(batch)
                images = magnitude(self.method.solve(problem) * scale, batch.crop)
                if not bool(torch.isfinite(images).all()):
                    raise InputError(f"{volume.path}: the reconstruction of slices {batch.index} is not finite")
                for index, image in zip(batch.index, images.cpu().numpy(), strict=True):
                    dataset[index] = image
                # What the mask turned out to be is known only now; attributes are written when the file is whole.
                record["acceleration"] = batch.asked[0]
                record["achieved_acceleration"] = batch.acceleration[0]
                record["num_low_frequency"] = batch.n_low[0]
                record["acquisition"] = volume.acquisition
                advance(len(keys))
        return float(record["achieved_acceleration"])
