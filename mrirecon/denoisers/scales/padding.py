"""How an image goes on beyond its border, where a convolution needs to know.

``circular``: as the discrete Fourier transform has it; keeps translations, exactly.
``reflect``: mirrored at the border pixel; keeps mirrorings, and no edge appears at the border.
``zeros``: an edge appears wherever the border is not air; keeps translations and scales in the interior only.
"""

from __future__ import annotations

from typing import Literal, get_args

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
            f"{width + (padding == 'reflect')} or more along each axis: use a smaller kernel, fewer scales or "
            "padding: zeros"
        )
    if padding == "reflect":
        return nn.functional.pad(x, [width] * 2 * ndim, mode="reflect")
    # With channels last where x has them, unlike torch's own.
    last, space = x.stride(1) == 1, [n + 2 * width for n in x.shape[2:]]
    padded = x.new_empty(len(x), *space, x.shape[1]).movedim(-1, 1) if last else x.new_empty(*x.shape[:2], *space)
    inside = padded
    for axis in range(-ndim, 0):
        inside = inside.narrow(axis, width, x.shape[axis])
    inside.copy_(x)
    for axis in range(-ndim, 0):
        n, rest = x.shape[axis], padded
        for later in range(axis + 1, 0):  # whose borders are still empty
            rest = rest.narrow(later, width, x.shape[later])
        rest.narrow(axis, 0, width).copy_(rest.narrow(axis, n, width))
        rest.narrow(axis, width + n, width).copy_(rest.narrow(axis, width, width))
    return padded


def folded(x: Tensor, width: int, ndim: int, padding: Padding) -> Tensor:
    """The adjoint of :func:`pad`: what is beyond the border is added where it came from. Overwrites ``x``."""
    for axis in range(-ndim, 0) if width else ():
        n = x.shape[axis] - 2 * width
        inside, before, after = (x.narrow(axis, *place) for place in ((width, n), (0, width), (width + n, width)))
        if padding == "circular":
            inside.narrow(axis, n - width, width).add_(before)
            inside.narrow(axis, 0, width).add_(after)
        elif padding == "reflect":
            inside.narrow(axis, 1, width).add_(before.flip(axis))
            inside.narrow(axis, n - 1 - width, width).add_(after.flip(axis))
        x = inside
    return x
