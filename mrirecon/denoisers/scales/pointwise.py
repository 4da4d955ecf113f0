"""Layers that treat every pixel and scale by itself, and so commute with any change of scale: exactly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrirecon.denoisers.scales.layers import Scales


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
        size = (x.square().mean(1, keepdim=True) + 1e-6).rsqrt()
        return x * size * self.gain.view(-1, *[1] * (x.ndim - 2))
