"""A residual CNN, the usual denoiser of unrolled networks.

D(x) = x + C_out( R_n( ... R_1( C_in(x) ) ) ),  R(z) = z + C(relu(C(relu(z))))

After Sandino et al., IEEE Signal Processing Magazine 37(1), 2020, and GLEAM (Ozturkler et al. 2022, arXiv:2207.08393),
with one change: a convolution stands before the first activation, so that the sign of the real and the imaginary part,
which is a matter of phase, decides nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrirecon.denoisers.convolution import Conv, check_image, convolution
from mrirecon.denoisers.denoiser import Denoiser, to_channels, to_complex
from mrirecon.errors import InputError


class ResNet(Denoiser):
    """Residual CNN without normalisation layers.

    Its last convolution starts at zero, so an untrained network is the identity and an untrained unrolled network is
    the plain gradient method.

    Args:
        channels: features of every convolution.
        n_blocks: residual blocks of two convolutions.
        n_maps: map sets of the image (1 for SENSE, 2 for soft SENSE).
        ndim: 2 for slices, 3 for volumes and 2D + time.
        kernel_size: odd width of every convolution.
    """

    def __init__(
        self, channels: int = 64, n_blocks: int = 2, n_maps: int = 1, ndim: int = 2, kernel_size: int = 3
    ) -> None:
        super().__init__()
        if channels < 1 or n_blocks < 0 or n_maps < 1:
            raise InputError(f"channels={channels}, n_blocks={n_blocks}, n_maps={n_maps}; expected at least 1, 0 and 1")

        self.n_maps, self.ndim = n_maps, ndim

        def conv(n_in: int, n_out: int) -> Conv:
            return convolution(n_in, n_out, ndim, kernel_size)

        self.first = conv(2 * n_maps, channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), conv(channels, channels), nn.ReLU(), conv(channels, channels))
            for _ in range(n_blocks)
        )
        self.last = conv(channels, 2 * n_maps)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        # 1.2 times faster on CPUs, 2.3 times with bfloat16.
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        check_image(x, self.n_maps, self.ndim)
        return x + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the image."""
        z = self.first(to_channels(x))
        for block in self.blocks:
            z = z + block(z)
        return to_complex(self.last(torch.relu(z)))
