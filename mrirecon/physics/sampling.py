"""Sampling patterns: which k-space points an accelerated scan measures.

fastMRI's five kinds choose columns (lines.py), ``poisson`` points of the whole grid (poisson.py), and a pattern can
be read from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from mrirecon.errors import InputError
from mrirecon.physics.lines import LineType, check_budget, check_pairs, draw_lines
from mrirecon.physics.poisson import poisson_disc

MaskType = Literal[LineType, "poisson"]


class Pattern(NamedTuple):
    """The points of one draw.

    mask: 0 or 1, float32, (1, W) for columns or (H, W).
    n_low: the fully sampled centre: columns, or the side of a square where ``mask`` is (H, W).
    acceleration: the achieved one, points of the grid per point kept.
    asked: the acceleration it was drawn for; of a mask from a file, the achieved one.
    """

    mask: np.ndarray
    n_low: int
    acceleration: float
    asked: float


@dataclass(frozen=True)
class Sampling:
    """How to undersample; draws one pattern per slice.

    Args:
        mask_type: kind of pattern, by fastMRI's names, or ``poisson``.
        accelerations: k-space points (columns) per point kept, each >= 1. Of several, each draw takes one at random,
            with the center fraction at the same place.
        center_fractions: fully sampled share of the columns, above 0 to 1; for ``poisson`` the side of a square, as a
            share of the shorter side of the grid. As many as accelerations.
        mask_file: a ``.npy`` file with one fixed pattern of 0 and 1, (W,) or (H, W); replaces the three above.

    Raises:
        InputError: a value out of range, lists of different length, an unreadable mask file.
    """

    mask_type: MaskType = "equispaced_fraction"
    accelerations: tuple[float, ...] = (4,)
    center_fractions: tuple[float, ...] = (0.08,)
    mask_file: str | None = None

    def __post_init__(self) -> None:
        for name in ("accelerations", "center_fractions"):  # 4 and 4.0, lists and tuples are one setting
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        check_pairs(self.mask_type, self.accelerations, self.center_fractions, get_args(MaskType))
        if self.mask_file is not None:
            _read_mask(self.mask_file)

    def draw(self, shape: tuple[int, int], seed: Sequence[int]) -> Pattern:
        """The pattern for a grid (H, W); the same for the same seed, in any process.

        seed: ``file_seed(name)`` in validation and test, ``sample_seed(seed, epoch, sample)`` in training.

        Raises:
            InputError: the grid is too small, the centre alone exceeds what an acceleration keeps (for any of several,
                whichever is drawn), or the mask file has another shape.
        """
        if self.mask_file is not None:
            mask = _read_mask(self.mask_file)
            if mask.shape not in ((1, shape[1]), tuple(shape)):
                raise InputError(
                    f"mask file {self.mask_file} of shape {mask.shape} for k-space {shape[0]}x{shape[1]}; expected "
                    f"({shape[1]},) or {shape}; use a mask made for this size"
                )
            n_low, asked = center_run(mask), float(mask.size / mask.sum())
        else:
            mask, n_low, asked = self._draw_by_rule(shape, seed)
        return Pattern(mask.astype(np.float32), n_low, float(mask.size / mask.sum()), asked)

    def _draw_by_rule(self, shape: tuple[int, int], seed: Sequence[int]) -> tuple[np.ndarray, int, float]:
        rng = np.random.RandomState(seed)
        if self.mask_type == "poisson":
            sides = [round(min(shape) * center_fraction) for center_fraction in self.center_fractions]
            for side, acceleration in zip(sides, self.accelerations, strict=True):
                check_budget(side * side, shape[0] * shape[1], acceleration)
            choice = rng.randint(len(sides))
            n_low, asked = sides[choice], float(self.accelerations[choice])
            return poisson_disc(shape, asked, (n_low, n_low), seed), n_low, asked
        for center_fraction, acceleration in zip(self.center_fractions, self.accelerations, strict=True):
            check_budget(round(shape[1] * center_fraction), shape[1], acceleration)
        lines, n_low, asked = draw_lines(self.mask_type, shape[1], self.accelerations, self.center_fractions, rng)
        return lines[None], n_low, asked


def file_seed(file_name: str) -> tuple[int, ...]:
    """fastMRI's seed for every slice of a validation or test file: the characters of its name, without the folder."""
    return tuple(map(ord, file_name))


def sample_seed(seed: int, epoch: int, sample: int) -> tuple[int, ...]:
    """The seed for one sample of one epoch in training; neighbouring ones give unrelated masks. All are >= 0."""
    return tuple(int(word) for word in np.random.SeedSequence((seed, epoch, sample)).generate_state(4))


def fastmri_mask(
    kind: LineType,
    width: int,
    acceleration: float | Sequence[float],
    center_fraction: float | Sequence[float],
    file_name: str,
) -> np.ndarray:
    """fastMRI's mask for a file: (W,) float32, 0 or 1.

    Acceleration and center fraction may be lists of equal length, of which the file name chooses one pair.

    Raises:
        InputError: values out of range, or for which fastMRI's rule is not defined (there it crashes).
    """
    accelerations, center_fractions = np.atleast_1d(acceleration).tolist(), np.atleast_1d(center_fraction).tolist()
    check_pairs(kind, accelerations, center_fractions, get_args(LineType))
    rng = np.random.RandomState(file_seed(file_name))
    return draw_lines(kind, width, accelerations, center_fractions, rng).mask.astype(np.float32)


def center_run(mask: np.ndarray) -> int:
    """Width of the fully sampled run of columns about the centre column, W // 2; it begins at ``(W - run + 1) // 2``.

    fastMRI's rule (in VarNet) for masks that come without a count: an even number, as many to the left as to the right.
    It counts also lines that merely touch the centre, so prefer the count of the rule or of the file. A centre column
    without neighbours gives 1; not sampled, 0. For a mask (H, W) the run is the side of a square.
    """
    sampled = np.atleast_2d(mask).astype(bool)
    # Columns in pairs about the middle of the run, at 0.5, 1.5, ... from it. At odd widths an even run reaches further
    # right, as fastMRI places it; VarNet counts there as at even widths and may end one column beyond the sampled ones.
    y, x = (np.abs(np.arange(n) - (n + 1) // 2 + 0.5) for n in sampled.shape)
    distance = np.maximum(y[:, None], x)
    side = min(n for n in sampled.shape if n > 1) if sampled.size > 1 else 1
    if sampled.all():
        return side
    centre = sampled[sampled.shape[0] // 2, sampled.shape[1] // 2]
    return max(min(int(2 * distance[~sampled].min()) - 1, side), int(centre))


def _read_mask(path: str) -> np.ndarray:
    """(1, W) or (H, W) bool."""
    expected = "expected a .npy file with a (W,) or (H, W) array of 0 and 1, some of them 1; save it with numpy.save"
    try:
        with open(path, "rb") as file:
            mask = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"mask file {path} cannot be read ({error}); {expected}") from error
    if mask.dtype.kind not in "biuf" or mask.ndim not in (1, 2) or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise InputError(f"mask file {path} holds {mask.dtype} of shape {mask.shape}; {expected}")
    return np.atleast_2d(mask).astype(bool)
