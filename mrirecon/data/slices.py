"""Slices of measured volumes, undersampled: what training and reconstruction start from.

A mask is drawn for a sample and an epoch from an explicit seed, so that workers, processes and resumed runs agree on
it; files that were undersampled at the scanner keep the mask they bring.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mrirecon.cropping import center_crop
from mrirecon.data.aligned import aligned
from mrirecon.data.fastmri import Volume, read_kspace, read_target
from mrirecon.data.scaling import drawn_scale, root_sum_of_squares, scaled
from mrirecon.errors import InputError
from mrirecon.physics.sampling import Pattern, Sampling, center_run, file_seed, sample_seed


class Slice(NamedTuple):
    """A batch of slices of equal shape; a single slice is a batch of one.

    kspace: (batch, coil, H, W), complex64, zero where not sampled.
    mask: (batch, 1, 1 or H, W), float32, 0 or 1.
    target: (batch, h, w), float32, the file's magnitude image; (batch, 0, 0) where the file has none.
    full: (batch, coil, H, W), complex64, the k-space before undersampling; None unless asked for.
    peak: (batch,), float32, the volume's maximum; 0 without a target.
    crop: the (h, w) in the middle of an image (H, W) that is scored; the target's size where there is one.
    n_low: fully sampled lines in the middle of k-space, by the rule of the mask. One per slice, as all that follow.
    acceleration: samples of the grid, without its padding, per sample kept. asked: what the mask was drawn for.
    number: of the slice in its data set. volume: path of the file. index: slice in the volume. n_slices: of the volume.
    acquisition: fastMRI's name.
    maps: (batch, map, coil, H, W), complex64, once ``MapCache.attach`` has added them.
    """

    kspace: Tensor
    mask: Tensor
    target: Tensor
    full: Tensor | None
    peak: Tensor
    crop: tuple[int, int]
    n_low: tuple[int, ...]
    acceleration: tuple[float, ...]
    asked: tuple[float, ...]
    number: tuple[int, ...]
    volume: tuple[str, ...]
    index: tuple[int, ...]  # type: ignore[assignment]  # the tuple's own search is not missed
    n_slices: tuple[int, ...]
    acquisition: tuple[str, ...]
    maps: Tensor | None = None

    def to(self, device: torch.device) -> Slice:
        """The batch with its tensors on a device."""
        return Slice._make(value.to(device) if isinstance(value, Tensor) else value for value in self)


class Slices(Dataset[Slice]):
    """The slices of some volumes, in order; ``slices[[(epoch, number), ...]]`` is a :class:`Slice`.

    The epoch is part of the key, not a state of the data set, which every worker would hold a stale copy of.

    volumes: what to read.
    sampling: how fully sampled files are undersampled; None if all files bring their own mask.
    seed: masks of slice and epoch are drawn from (seed, epoch, number); None draws one mask per volume, from its
        file name, as fastMRI does for validation.
    keep_full: also give the k-space before undersampling.
    scales: every slice and epoch draws one of these, from (seed, epoch, number), and the object is enlarged by it; none
        leaves it as it was measured. Needs a seed and fully sampled files.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        sampling: Sampling | None = None,
        seed: int | None = None,
        keep_full: bool = False,
        scales: Sequence[float] = (),
    ) -> None:
        for volume in volumes:
            if volume.mask is None and sampling is None:
                raise InputError(f"{volume.path} is fully sampled; name a mask to undersample it with")
            if volume.mask is not None and keep_full:
                raise InputError(
                    f"{volume.path} holds undersampled k-space, so there is no complex target; "
                    "use fully sampled files, or a loss of the magnitude target 'rss', such as SSIM"
                )
            if volume.mask is not None and scales:
                raise InputError(
                    f"{volume.path} holds undersampled k-space, which cannot be scaled; use fully sampled files, or "
                    "leave data.scales out"
                )
        if scales and seed is None:
            raise InputError("scales are drawn for training, which needs a seed; without one they must be left out")
        self.volumes = list(volumes)
        self.sampling = sampling
        self.seed = seed
        self.keep_full = keep_full
        self.scales = tuple(scales)
        self._ends = np.cumsum([volume.n_slices for volume in volumes], dtype=np.int64)
        self._last: tuple[Volume, Pattern] | None = None

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, number: int) -> tuple[Volume, int]:
        """The volume a slice belongs to, and its index therein."""
        place = int(np.searchsorted(self._ends, number, side="right"))
        volume = self.volumes[place]
        return volume, number - int(self._ends[place]) + volume.n_slices

    def shape_of(self, number: int) -> Hashable:
        """What slices of one batch have in common."""
        volume, _ = self.locate(number)
        return volume.n_coils, volume.shape, volume.crop, volume.target is not None

    def __getitem__(self, keys: Sequence[tuple[int, int]]) -> Slice:
        """The slices of keys (epoch, number), which must be of one ``shape_of``."""
        volumes, indices = zip(*(self.locate(number) for _, number in keys), strict=True)
        patterns = [self._pattern(epoch, number) for epoch, number in keys]
        first, n = volumes[0], len(keys)
        kspace = aligned((n, first.n_coils, *first.shape), np.complex64)
        target = aligned((n, *(first.crop if first.target else (0, 0))), np.float32)
        rows = max(pattern.mask.shape[0] for pattern in patterns)
        mask = aligned((n, 1, rows, first.shape[1]), np.float32)
        for i, (volume, index, pattern) in enumerate(zip(volumes, indices, patterns, strict=True)):
            mask[i, 0] = pattern.mask
            # Lines outside the padding were never measured; fastMRI's masks leave them out too.
            mask[i, ..., : volume.geometry.padding_left] = 0
            mask[i, ..., volume.geometry.padding_right :] = 0
            scale = drawn_scale(self.scales, self.seed, *keys[i]) if self.scales and self.seed is not None else 1.0
            whole = self.keep_full or scale != 1
            read_kspace(volume, index, kspace[i], None if whole else mask[i, 0])
            if volume.target:
                read_target(volume, index, target[i])
            if scale != 1:
                samples = scaled(torch.from_numpy(kspace[i]), scale)
                # Made smaller, an image would fill the lines that the file has no samples for, and no mask shows.
                samples[..., : volume.geometry.padding_left] = 0
                samples[..., volume.geometry.padding_right :] = 0
                if volume.target:
                    target[i] = center_crop(root_sum_of_squares(samples), volume.crop).numpy()
                kspace[i] = (
                    samples.numpy() if self.keep_full else (samples * torch.from_numpy(mask[i, 0])).add_(0.0).numpy()
                )
        measured = torch.from_numpy(kspace)
        sampled = torch.from_numpy(mask)
        return Slice(
            kspace=(measured * sampled).add_(0.0) if self.keep_full else measured,  # the sum turns -0 into 0
            mask=sampled,
            target=torch.from_numpy(target),
            full=measured if self.keep_full else None,
            peak=torch.tensor([volume.peak for volume in volumes], dtype=torch.float32),
            crop=first.crop,
            n_low=tuple(pattern.n_low for pattern in patterns),
            acceleration=tuple(_acceleration(v, m) for v, m in zip(volumes, mask, strict=True)),
            asked=tuple(pattern.asked for pattern in patterns),
            number=tuple(number for _, number in keys),
            volume=tuple(str(volume.path) for volume in volumes),
            index=indices,
            n_slices=tuple(volume.n_slices for volume in volumes),
            acquisition=tuple(volume.acquisition for volume in volumes),
        )

    def _pattern(self, epoch: int, number: int) -> Pattern:
        volume, _ = self.locate(number)
        if volume.mask is None and self.seed is not None and self.sampling is not None:
            return self.sampling.draw(volume.shape, sample_seed(self.seed, epoch, number))
        # One pattern serves a whole volume, and volumes are read in order: keeping one is enough.
        if self._last is None or self._last[0] is not volume:
            if volume.mask is not None:
                pattern = stored_pattern(volume)
            else:
                assert self.sampling is not None  # checked for each volume by the constructor
                pattern = self.sampling.draw(volume.shape, file_seed(volume.path.name))
            self._last = volume, pattern
        return self._last[1]


def _acceleration(volume: Volume, mask: np.ndarray) -> float:
    """Of the columns that were measured, padding left out, how many there are for each one kept."""
    rows = mask.shape[-2]
    return rows * (volume.geometry.padding_right - volume.geometry.padding_left) / max(float(mask.sum()), 1.0)


def stored_pattern(volume: Volume) -> Pattern:
    """The mask that an undersampled file brings, with its centre lines and its acceleration.

    The centre lines are those the file names, if the mask has them; else the symmetric run about the middle, which may
    include lines that only happen to touch it.
    """
    mask = volume.mask
    assert mask is not None
    n_low = volume.n_low
    if n_low is None or not 2 <= n_low <= mask.shape[1] or not _center(mask, n_low).all():
        n_low = center_run(mask)
    achieved = float(mask.size / mask.sum())
    return Pattern(mask, n_low, achieved, volume.acceleration or achieved)


def _center(mask: np.ndarray, n: int) -> np.ndarray:
    rows, columns = ((size - n + 1) // 2 if size > 1 else 0 for size in mask.shape)
    return mask[rows : rows + n, columns : columns + n]
