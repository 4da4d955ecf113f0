"""Convolutions of padded images that keep the image for the backward pass, and not its padded copies.

Autograd would keep a copy for every scale, each larger than the image; a blur, which is linear and has no weights,
needs nothing at all. Derivatives are for the backward pass, of any order; forward mode there is none.

Near a border that is not periodic a blurred convolution is not the one with the functions of the basis: its result goes
on beyond the border by itself, as ``padding`` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from mrirecon.denoisers.convolution import CONVOLVE
from mrirecon.denoisers.scales.padding import Padding, folded, pad

# Taps along an axis. With more, the weight's gradient is put together of parts: oneDNN 3.x takes 400 times as long.
_WIDEST = 13


def padded_convolution(x: Tensor, wide: Tensor, weight: Tensor, bias: Tensor, step: int, padding: Padding) -> Tensor:
    """The convolution of x with taps ``step`` pixels apart, of the size of x.

    wide: x.detach(), padded along every axis as far as the taps reach, or alike farther; the result may then be a view.
    """
    found: Tensor = _Convolution.apply(x, wide, weight, bias, step, padding)
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
    kind = x.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        for axis in reversed(range(ndim)):
            shape = [1] * ndim
            shape[axis] = len(blur)
            kernel = blur.to(y.dtype).view(1, 1, *shape).expand(channels, 1, *shape)
            y = CONVOLVE[ndim](y, kernel, groups=channels)
    return y.to(x.dtype)


def _cropped(x: Tensor, margin: int, axes: Iterable[int]) -> Tensor:
    for axis in axes if margin else ():
        x = x.narrow(axis, margin, x.shape[axis] - 2 * margin)
    return x


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, steps: list[int], groups: int, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Of a convolution without padding, by x, weight and bias."""
    ones, zeros = [1] * len(steps), [0] * len(steps)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], ones, zeros, steps, False, zeros, groups, wanted
    )
    return found


def _of_weight(grad: Tensor, x: Tensor, weight: Tensor, step: int) -> Tensor:
    """The weight's gradient of a convolution without padding.

    Along a row, taps join only pixels whose distance is a multiple of the step. With channels last, those that are
    joined are a group of channels, and nothing has to be copied: oneDNN takes a third longer for taps apart along rows
    than for such groups with taps side by side.
    """
    ndim = x.ndim - 2
    for axis in range(2, x.ndim):
        if x.device.type == "cpu" and (n := weight.shape[axis]) > _WIDEST:
            parts = []
            for first, taps in ((0, n // 2), (n // 2, n - n // 2)):
                near = x.narrow(axis, first * step, grad.shape[axis] + (taps - 1) * step)
                parts.append(_of_weight(grad, near, weight.narrow(axis, first, taps), step))
            return torch.cat(parts, axis)
    # In single precision: oneDNN 3.x crashes for such groups in bfloat16.
    grouped = x.device.type == "cpu" and x.dtype == torch.float32 and ndim == 2 and step > 1
    if not (grouped and all(t.shape[-1] % step == 0 and t.movedim(1, -1).is_contiguous() for t in (x, grad))):
        return _gradients(grad, x, weight, [step] * ndim, 1, (False, True, False))[1]
    x, grad = (t.movedim(1, -1).unflatten(2, (-1, step)).flatten(3).movedim(-1, 1) for t in (x, grad))
    repeated = weight.repeat(step, 1, 1, 1)
    found = _gradients(grad, x, repeated, [step, 1], step, (False, True, False))[1]
    return found.unflatten(0, (step, -1)).sum(0)


class _Convolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, wide: Tensor, weight: Tensor, bias: Tensor, step: int, padding: Padding) -> Tensor:
        ndim, (first, *others) = x.ndim - 2, range(2, x.ndim)
        margin = (wide.shape[-1] - x.shape[-1]) // 2 - step * (weight.shape[-1] // 2)
        wide = _cropped(wide, margin, [first])
        # Without columns cut off, a single image with channels last need not be copied: they are cut from the result.
        after = others if ndim == 2 and wide.movedim(1, -1).is_contiguous() else []
        wide = _cropped(wide, margin, [axis for axis in others if axis not in after])
        return _cropped(CONVOLVE[ndim](wide, weight, bias, dilation=step), margin, after)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, _, weight, _, ctx.step, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = (saved.to(grad.dtype) for saved in ctx.saved_tensors)
        ndim, width = x.ndim - 2, ctx.step * (weight.shape[-1] // 2)
        padded = pad(x, width, ndim, ctx.padding)
        of_x, of_weight = None, None
        if ctx.needs_input_grad[0]:
            of_x = _gradients(grad, padded, weight, [ctx.step] * ndim, 1, (True, False, False))[0]
            of_x = folded(of_x, width, ndim, ctx.padding)
        if ctx.needs_input_grad[2]:
            of_weight = _of_weight(grad, padded, weight, ctx.step)
        of_bias = grad.sum((0, *range(2, grad.ndim))) if ctx.needs_input_grad[3] else None
        return of_x, None, of_weight, of_bias, None, None


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
