"""Reading fastMRI files: what a volume is, and its k-space one slice at a time.

Multi-coil ``kspace`` is (slices, coils, H, W); single-coil (slices, H, W) reads as one coil. Only the slice asked for
is read, into memory of the caller, so that neither a long volume nor a long training run grows the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import torch

from mrirecon.cropping import center_crop
from mrirecon.data.attributes import number, text
from mrirecon.data.handles import open_file, opened
from mrirecon.data.header import Geometry, parse_header
from mrirecon.errors import InputError

_LAYOUT = "expected a fastMRI file: complex 'kspace' (slices, coils, H, W), or (slices, H, W) for single coil"


@dataclass(frozen=True)
class Volume:
    """One file: everything but the samples.

    shape: (H, W) of its k-space. peak: the volume maximum, for PSNR and SSIM; 0 without a target.
    mask: 0/1 (H or 1, W) of an undersampled file, else None; ``n_low`` (centre lines) and ``acceleration`` are what
    such a file says of it, if it does. target: name of the dataset that is the target, of slices ``target_shape``.
    """

    path: Path
    n_slices: int
    n_coils: int
    shape: tuple[int, int]
    geometry: Geometry
    acquisition: str
    patient: str
    peak: float
    target: str | None
    target_shape: tuple[int, int] | None
    mask: np.ndarray | None = field(default=None, compare=False, repr=False)
    n_low: int | None = None
    acceleration: float | None = None

    @property
    def crop(self) -> tuple[int, int]:
        """The (h, w) in the middle of the image that is scored."""
        return self.geometry.crop(self.shape, self.target_shape)


def list_volumes(path: str | Path) -> list[Path]:
    """The file itself, or the ``*.h5`` files of a folder by name. Raises InputError where there are none."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path} does not exist; expected an .h5 file or a folder of them")
    files = sorted(file for file in path.glob("*.h5") if not file.name.startswith("."))
    if not files:
        raise InputError(f"{path} holds no .h5 file; expected a folder of fastMRI volumes")
    return files


def read_volume(path: str | Path, with_target: bool = True) -> Volume:
    """Describe a file without reading its samples. Raises InputError naming the file and what is wrong with it.

    with_target: False leaves a target out, but for its size: who reconstructs does not need it to be usable.
    """
    path = Path(path)
    with open_file(path) as file:
        kspace = _dataset(file, path, "kspace")
        if kspace.ndim not in (3, 4) or kspace.dtype.kind != "c" or 0 in kspace.shape:
            raise InputError(f"{path}: kspace is {kspace.dtype} of shape {kspace.shape}; {_LAYOUT}")
        shape = (int(kspace.shape[-2]), int(kspace.shape[-1]))
        target, target_shape, peak = None, None, 0.0
        name = _target_name(file, single_coil=kspace.ndim == 3)
        if name is not None:
            if with_target:
                target, peak = name, _peak(file, path, _dataset(file, path, name), int(kspace.shape[0]))
            if _is_target(file.get(name), int(kspace.shape[0])):
                target_shape = (int(file[name].shape[1]), int(file[name].shape[2]))
        low = number(file, path, "num_low_frequency")
        return Volume(
            path=path,
            n_slices=int(kspace.shape[0]),
            n_coils=int(kspace.shape[1]) if kspace.ndim == 4 else 1,
            shape=shape,
            geometry=_geometry(file, path, shape, target_shape),
            acquisition=text(file, "acquisition"),
            patient=text(file, "patient_id"),
            peak=peak,
            target=target,
            target_shape=target_shape,
            mask=_stored_mask(file, path, shape),
            n_low=None if low is None else int(low),
            acceleration=number(file, path, "acceleration"),
        )


def fingerprint(volume: Volume) -> str:
    """A hash of the first coil of the first slice: tells measured files apart that share name and size."""
    with _reading(volume, 0):
        kspace = opened(volume.path)["kspace"]
        first = np.ascontiguousarray(kspace[0, 0] if kspace.ndim == 4 else kspace[0])
    return hashlib.blake2b(first.tobytes(), digest_size=20).hexdigest()


def read_kspace(volume: Volume, index: int, out: np.ndarray, mask: np.ndarray | None = None) -> None:
    """Read one slice into ``out``, (coil, H, W) complex64 and C-contiguous, times ``mask`` (1 or H, W) if given.

    Raises InputError where the file cannot be read or holds NaN or infinity, sampled or not: a transform would spread
    one such sample over the whole image.
    """
    with _reading(volume, index):
        kspace = opened(volume.path)["kspace"]
        kspace.read_direct(out if kspace.ndim == 4 else out[0], (index,))
    samples = torch.from_numpy(out)  # whose loops run on all threads; numpy's would take longer than the reading
    # One pass: a sum is finite only if all its terms are, but may overflow for huge finite ones.
    if not samples.sum().isfinite() and not samples.isfinite().all():
        raise InputError(
            f"{volume.path}: slice {index} of kspace holds NaN or infinity; expected finite samples, "
            "so export the file again or leave it out"
        )
    if mask is not None:
        # As bits, all or none: faster than a product, and what is not sampled becomes 0 and never -0, whose sign would
        # tell of the sample that was there (as it did in fastMRI's test files of June 2019).
        keep = torch.from_numpy(np.where(mask > 0, np.int64(-1), np.int64(0)))
        samples.view(torch.int64).bitwise_and_(keep)


def read_target(volume: Volume, index: int, out: np.ndarray) -> None:
    """Read one slice of the magnitude target, centre-cropped to ``volume.crop``, into ``out`` (h, w) float32."""
    with _reading(volume, index):
        out[...] = center_crop(opened(volume.path)[volume.target][index], volume.crop)
    if not np.isfinite(out).all():
        raise InputError(f"{volume.path}: slice {index} of {volume.target} holds NaN or infinity; make it anew")


@contextmanager
def _reading(volume: Volume, index: int) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError) as error:  # what h5py raises for damaged or replaced data
        raise InputError(
            f"{volume.path}: slice {index} cannot be read ({error}); the file is damaged or was replaced, copy it again"
        ) from error


def _is_target(images: object, n_slices: int) -> bool:
    if not isinstance(images, h5py.Dataset) or images.ndim != 3 or images.dtype.kind != "f":
        return False
    return images.shape[0] == n_slices and 0 not in images.shape


def _peak(file: h5py.File, path: Path, images: h5py.Dataset, n_slices: int) -> float:
    """The maximum of a volume's target. Raises InputError for what is no target."""
    name = images.name[1:]
    if not _is_target(images, n_slices):
        raise InputError(
            f"{path}: {name} is {images.dtype} of shape {images.shape}; expected real ({n_slices}, h, w), "
            "a slice for each of kspace"
        )
    # fastMRI writes the maximum; a file of another source may not, or a zero, and then it is worth one pass.
    stored = number(file, path, "max")
    if stored:
        return stored
    try:
        return float(np.max(images[()]))
    except OSError as error:
        raise InputError(f"{path}: {name} cannot be read ({error}); the file is damaged, copy it again") from None


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        found = ", ".join(sorted(file)) or "nothing"
        problem = f"a {name!r} that is a group or a broken link" if name in set(file) else f"no dataset {name!r}"
        raise InputError(f"{path} has {problem} (it holds {found}); {_LAYOUT}")
    return dataset


def _target_name(file: h5py.File, single_coil: bool) -> str | None:
    names = ["reconstruction_esc"] if single_coil else []
    return next((name for name in [*names, "reconstruction_rss"] if name in file), None)


def _geometry(file: h5py.File, path: Path, shape: tuple[int, int], target: tuple[int, int] | None) -> Geometry:
    if "ismrmrd_header" not in file:
        return Geometry(encoded=shape, recon=target or shape, padding_left=0, padding_right=shape[1])
    try:
        return parse_header(_dataset(file, path, "ismrmrd_header")[()], shape[1])
    except InputError as error:
        remedy = "correct the header, or remove it if k-space is neither padded nor oversampled"
        raise InputError(f"{path}: {error}; {remedy}") from error


def _values(mask: np.ndarray) -> str:
    found = np.unique(mask)
    return f"values {found.tolist()}" if len(found) < 4 else f"{len(found)} values from {found[0]} to {found[-1]}"


def _stored_mask(file: h5py.File, path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    if "mask" not in file:
        return None
    mask = np.asarray(_dataset(file, path, "mask")[()])
    if mask.dtype.kind not in "biuf":
        raise InputError(f"{path}: mask is {mask.dtype}; expected numbers 0 and 1, so write it anew")
    if mask.shape not in ((shape[1],), (1, shape[1]), shape) or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise InputError(
            f"{path}: mask of shape {mask.shape} with {_values(mask)}; expected 0 and 1, some of them 1, for the "
            f"{shape[1]} columns of kspace or for {shape}; correct it, or remove it from a fully sampled file"
        )
    return np.atleast_2d(mask).astype(np.float32)
