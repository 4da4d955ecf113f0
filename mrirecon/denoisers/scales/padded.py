"""Convolutions of padded images that keep the image for the backward pass, and not its padded copies.

Autograd would keep a copy for every scale, each larger than the image; a blur, which is linear and has no weights,
needs nothing at all. Derivatives are for the backward pass, of any order; forward mode there is none.

Near a border that is not periodic a blurred convolution is not the one with the functions of the basis: its result goes
on beyond the border by itself, as ``padding`` says.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mrirecon.denoisers.convolution import CONVOLVE
from mrirecon.denoisers.scales.padding import Padding, folded, pad


def padded_convolution(x: Tensor, weight: Tensor, bias: Tensor, step: int, padding: Padding) -> Tensor:
    """The convolution of x with taps ``step`` pixels apart, of the size of x."""
    found: Tensor = _Convolution.apply(x, weight, bias, step, padding)
    return found


def blurred(x: Tensor, blur: Tensor, padding: Padding) -> Tensor:
    """Every channel of x filtered along every axis; ``blur`` is symmetric, of odd length."""
    found: Tensor = _Blur.apply(x, blur, padding)
    return found


def _blur(x: Tensor, blur: Tensor) -> Tensor:
    """Filtered along every axis, without what is nearer to the border than the filter reaches."""
    ndim, channels = x.ndim - 2, x.shape[1]
    # In single precision on CPUs: oneDNN 3.x never returns from such a convolution of few channels in bfloat16.
    y = x.float() if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16) else x
    with torch.autocast(x.device.type, enabled=False):
        for axis in reversed(range(ndim)):
            shape = [1] * ndim
            shape[axis] = len(blur)
            kernel = blur.to(y.dtype).view(1, 1, *shape).expand(channels, 1, *shape)
            y = CONVOLVE[ndim](y, kernel, groups=channels)
    return y.to(x.dtype)


class _Convolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, step: int, padding: Padding) -> Tensor:
        ndim, width = x.ndim - 2, step * (weight.shape[-1] // 2)
        return CONVOLVE[ndim](pad(x, width, ndim, padding), weight, bias, dilation=step)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.step, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = (saved.to(grad.dtype) for saved in ctx.saved_tensors)
        ndim, width = x.ndim - 2, ctx.step * (weight.shape[-1] // 2)
        ones, zeros, steps = [1] * ndim, [0] * ndim, [ctx.step] * ndim
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            *(grad, pad(x, width, ndim, ctx.padding), weight, [len(weight)], ones, zeros, steps, False, zeros, 1),
            (*ctx.needs_input_grad[:2], False),
        )
        if of_x is not None:
            of_x = folded(of_x, width, ndim, ctx.padding)
        of_bias = grad.sum((0, *range(2, grad.ndim))) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None, None


class _Blur(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, blur: Tensor, padding: Padding) -> Tensor:
        return _blur(pad(x, len(blur) // 2, x.ndim - 2, padding), blur)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, blur, ctx.padding = inputs
        ctx.save_for_backward(blur)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (blur,) = ctx.saved_tensors
        width, ndim = len(blur) // 2, grad.ndim - 2
        if ctx.padding != "reflect":  # the adjoint of a symmetric filter is the filter
            return _blur(pad(grad, width, ndim, ctx.padding), blur), None, None
        spread = _blur(pad(grad, 2 * width, ndim, "zeros"), blur)
        return folded(spread, width, ndim, ctx.padding), None, None
