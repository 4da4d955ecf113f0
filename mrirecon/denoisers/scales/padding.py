"""How an image goes on beyond its border, where a convolution needs to know.

``circular``: as the discrete Fourier transform has it; keeps translations, exactly.
``reflect``: mirrored at the border pixel; keeps mirrorings, and no edge appears at the border.
``zeros``: an edge appears wherever the border is not air; keeps translations and scales in the interior only.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

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
    # A compiler finds the short backward pass by itself.
    padded: Tensor = _around(x, width, ndim) if torch.compiler.is_compiling() else _Circular.apply(x, width, ndim)
    return padded


def _around(x: Tensor, width: int, ndim: int) -> Tensor:
    for axis in range(-ndim, 0):
        x = torch.cat([x.narrow(axis, x.shape[axis] - width, width), x, x.narrow(axis, 0, width)], axis)
    return x


class _Circular(torch.autograd.Function):
    """Circular padding that keeps channels last, unlike torch's own, and whose backward pass is one copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int, ndim: int) -> Tensor:
        ctx.width, ctx.ndim = width, ndim
        return _around(x, width, ndim)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        width, grad = ctx.width, grad.clone()
        for axis in range(-ctx.ndim, 0):
            n = grad.shape[axis] - 2 * width
            grad.narrow(axis, n, width).add_(grad.narrow(axis, 0, width))
            grad.narrow(axis, width, width).add_(grad.narrow(axis, width + n, width))
            grad = grad.narrow(axis, width, n)
        return grad, None, None
