"""Lines of k-space: fastMRI's five kinds of masks, bit for bit.

They choose columns (the phase axis) exactly as fastMRI's ``subsample.py`` does; that fixes every rounding (Python's
``round``: half to even) and every call to the generator, even those that look superfluous.

    random               every column outside the centre with one probability
    equispaced           every R-th column, so that with the centre more than 1/R is kept
    equispaced_fraction  a step adjusted (not whole) so that with the centre 1/R is kept
    magic                every R-th column, the two halves offset to use conjugate symmetry: Defazio, arXiv:1912.01101
    magic_fraction       the same with a whole step adjusted for the centre
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from mrirecon.errors import InputError

LineType = Literal["random", "equispaced", "equispaced_fraction", "magic", "magic_fraction"]


class Lines(NamedTuple):
    """Columns of one draw.

    mask: (W,) bool. n_low: the centre lines that the rule itself put there. asked: the acceleration it was drawn for.
    """

    mask: np.ndarray
    n_low: int
    asked: float


def draw_lines(
    kind: LineType,
    width: int,
    accelerations: Sequence[float],
    center_fractions: Sequence[float],
    rng: np.random.RandomState,
) -> Lines:
    """Draw columns by fastMRI's rules; the values are in range and whole where they must be (``Sampling`` checks).

    Raises:
        InputError: the centre lines leave nothing to the rest, where fastMRI divides by zero (its issue #344 among
            them) or asks the generator for a negative number. Where fastMRI gives a mask, so do we, even if the centre
            exceeds the budget; ``Sampling.draw`` is stricter.
    """
    choice = rng.randint(len(accelerations))  # one pair: consumes nothing; several: one draw
    acceleration, center_fraction = accelerations[choice], center_fractions[choice]
    n_low = round(width * center_fraction)
    lines = np.zeros(width, dtype=bool)

    if kind == "random":
        if n_low == width:
            raise _budget_error(n_low, width, acceleration)
        probability = (width / acceleration - n_low) / (width - n_low)
        lines |= rng.uniform(size=width) < probability
    elif kind == "equispaced":
        lines[rng.randint(0, round(acceleration)) :: int(acceleration)] = True
    elif kind == "equispaced_fraction":
        if n_low * acceleration >= width:
            raise _budget_error(n_low, width, acceleration)
        step = (acceleration * (n_low - width)) / (n_low * acceleration - width)
        columns = np.arange(rng.randint(0, round(step)), width - 1, step)
        lines[np.around(columns).astype(int)] = True
    elif kind == "magic":
        lines = _magic_lines(width, int(acceleration), rng)
    else:
        n_kept = round(width / acceleration)
        if n_kept <= max(n_low, 1):
            raise _budget_error(n_low, width, acceleration)
        n_low = max(n_low, 1)
        lines = _magic_lines(width, round(width / (n_kept - n_low)), rng)

    left = (width - n_low + 1) // 2
    lines[left : left + n_low] = True
    return Lines(lines, n_low, float(acceleration))


def _magic_lines(width: int, step: int, rng: np.random.RandomState) -> np.ndarray:
    offset = rng.randint(0, step)
    first_right, first_left = (offset + 1, offset + 2) if offset % 2 == 0 else (offset + 2, offset - 1)
    right, left = np.zeros((width + 1) // 2, dtype=bool), np.zeros(width // 2, dtype=bool)
    right[first_right::step] = True
    left[first_left::step] = True
    return np.fft.fftshift(np.concatenate((right, left[::-1])))


def check_budget(n_centre: int, n_all: int, acceleration: float) -> None:
    """Raises InputError where the centre alone is empty, or as much as the acceleration keeps in all."""
    if not 1 <= n_centre < round(n_all / acceleration):
        raise _budget_error(n_centre, n_all, acceleration)


def _budget_error(n_centre: int, n_all: int, acceleration: float) -> InputError:
    return InputError(
        f"the center fraction gives {n_centre} of {n_all} columns or points to the center; expected at least 1 and "
        f"fewer than the {round(n_all / acceleration)} that acceleration {acceleration:g} keeps in all; change the "
        f"center fraction or lower the acceleration"
    )


def check_pairs(
    kind: str, accelerations: Sequence[float], center_fractions: Sequence[float], kinds: tuple[str, ...]
) -> None:
    """Raises InputError for an unknown kind, values out of range, and lists of different length."""
    if kind not in kinds:
        raise InputError(f"mask type {kind!r}; expected one of {', '.join(kinds)}")
    if not 0 < len(accelerations) == len(center_fractions):
        raise InputError(
            f"accelerations [{_listed(accelerations)}] with center fractions [{_listed(center_fractions)}]; expected "
            "as many of one as of the other, at least 1; give one center fraction per acceleration"
        )
    for acceleration in accelerations:
        if not 1 <= acceleration < np.inf:
            raise InputError(f"acceleration {acceleration:g}; expected a number from 1 up; give for example 4")
        if kind in ("equispaced", "magic") and acceleration != int(acceleration):
            raise InputError(
                f"acceleration {acceleration:g} with mask type {kind}; expected a whole number, the step between "
                f"lines; round it or use {kind}_fraction"
            )
    for center_fraction in center_fractions:
        if not 0 < center_fraction <= 1:
            raise InputError(
                f"center fraction {center_fraction:g}; expected above 0 and at most 1; give for example 0.08 at 4x"
            )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
