"""Layers that treat every pixel and scale by itself, and so commute with any change of scale: exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mrirecon.denoisers.scales.layers import Projection, Scales, project


class AtEachScale(nn.Module):
    """A module for images, such as a 1x1 convolution or a ReLU, applied to each scale alike."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Scales) -> Scales:
        return tuple(self.module(x) for x in z)


class ChannelNorm(nn.Module):
    """Features divided by their root mean square over the channels, at every pixel by itself; then gained.

    Statistics over pixels would depend on how much of the field of view an object fills, and so on its scale.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # a square of 300 is too large for float16
        size = (wide.square().mean(1, keepdim=True) + 1e-6).rsqrt()
        return x * size.to(x.dtype) * self.gain.view(-1, *[1] * (x.ndim - 2))


def project_rectified(z: Scales, projection: Projection) -> Tensor:
    """``project`` of the ReLU of features; the mean keeps a byte of each for the backward pass, and not four."""
    if projection == "max":
        return torch.relu(project(z, projection))
    if len(z) == 1:
        return torch.relu(z[0])
    if not torch.is_grad_enabled():
        return _mean_of_relu(z)
    found: Tensor = _MeanOfReLU.apply(*z)[0]
    return found


def _mean_of_relu(z: Scales) -> Tensor:
    mean = torch.relu(z[0])
    for x in z[1:]:
        mean.add_(torch.relu(x))
    return mean.div_(len(z))


class _MeanOfReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*z: Tensor) -> tuple[Tensor, ...]:
        # As bytes, since torch multiplies by these three times as fast as by booleans.
        return _mean_of_relu(z), *((x > 0).view(torch.uint8) for x in z)

    @staticmethod
    def setup_context(ctx: Any, inputs: Scales, output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, ...]:
        positive = ctx.saved_tensors
        share = grad / len(positive)
        return tuple(share * byte for byte in positive)
