"""Arrays whose memory begins where torch's own does.

MKL's transforms choose their arithmetic by the alignment of their input. Where numpy happens to put an array would thus
decide the last digit, and with it, after some epochs, all digits: the same seed must give the same weights.
"""

from __future__ import annotations

from math import prod

import numpy as np

ALIGNMENT = 64  # bytes, as torch allocates on a CPU


def aligned(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """An array that is not filled. By numpy, which asks for huge pages, so that the first writing is faster."""
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
