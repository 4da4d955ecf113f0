"""How an image goes on beyond its border, where a convolution needs to know.

``circular``: as the discrete Fourier transform has it; keeps translations, exactly.
``reflect``: mirrored at the border pixel; keeps mirrorings, and no edge appears at the border.
``zeros``: an edge appears wherever the border is not air; keeps translations and scales in the interior only.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mrirecon.errors import InputError

Padding = Literal["circular", "reflect", "zeros"]
PADDINGS: tuple[Padding, ...] = get_args(Padding)


def pad(x: Tensor, width: int, ndim: int, padding: Padding) -> Tensor:
    """The last ``ndim`` axes with ``width`` pixels more at either end."""
    if width == 0:
        return x
    if padding == "zeros":
        return nn.functional.pad(x, [width] * 2 * ndim)
    least = min(x.shape[-ndim:])
    if width >= least + (padding == "circular"):
        raise InputError(
            f"image of {' x '.join(map(str, x.shape[-ndim:]))} pixels for a kernel of {2 * width + 1}; expected "
            f"{width + (padding == 'reflect')} or more along each axis: use fewer scales or padding: zeros"
        )
    if padding == "reflect":
        return nn.functional.pad(x, [width] * 2 * ndim, mode="reflect")
    for axis in range(-ndim, 0):
        # Unlike torch's own circular padding this keeps channels last.
        x = torch.cat([x.narrow(axis, x.shape[axis] - width, width), x, x.narrow(axis, 0, width)], axis)
    return x
