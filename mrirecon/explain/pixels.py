"""Pixels as they are named by a user, and as they lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrirecon.errors import InputError


def pixel_numbers(pixels: Sequence[Sequence[int]], space: Sequence[int]) -> np.ndarray:
    """(pixel,), counted in the order of memory; raises InputError for a pixel outside the image."""
    for pixel in pixels:
        if len(pixel) != len(space) or not all(0 <= i < n for i, n in zip(pixel, space, strict=True)):
            raise InputError(
                f"pixel {','.join(map(str, pixel))} is not in the image of {' x '.join(map(str, space))}; expected "
                f"{len(space)} numbers from 0 to {','.join(str(n - 1) for n in space)}"
            )
    places = np.array(pixels, np.int64).reshape(-1, len(space))
    return np.asarray(np.ravel_multi_index(tuple(places.T), tuple(space)))
