"""The centre of an image, by fastMRI's rule."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Image = TypeVar("Image", np.ndarray, Tensor)


def center_crop(image: Image, shape: tuple[int, int]) -> Image:
    """The middle (h, w) of the last two axes, from (N - n) // 2; an axis that is already smaller stays whole."""
    top, left = (max((n - m) // 2, 0) for n, m in zip(image.shape[-2:], shape, strict=True))
    return image[..., top : top + shape[0], left : left + shape[1]]
