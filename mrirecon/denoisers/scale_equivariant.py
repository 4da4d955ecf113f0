"""A residual CNN that commutes with changes of scale, as far as pixels and a finite scale axis can.

D(x) = x + C( mean over scales of relu( R_n( ... R_1( L x ) ) ) ),  R(z) = z + S(relu(S(relu(z))))

L lifts the image to features at several scales, S are convolutions over position and scale, C is 1x1, as a wider one
would see only one scale. The proximal operator of Gunel et al., Scale-Equivariant Unrolled Neural Networks for Data-
Efficient Accelerated MRI Reconstruction, MICCAI 2022, arXiv:2204.10436, of which no code is public.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrirecon.denoisers.convolution import check_image, convolution
from mrirecon.denoisers.denoiser import Denoiser, to_channels, to_complex
from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.layers import ChannelNorm, Projection, ScaleConv, Scales, lift, project
from mrirecon.denoisers.scales.padding import PADDINGS, Padding
from mrirecon.denoisers.scales.zoomed import Zoomed
from mrirecon.errors import InputError


class ScaleEquivariant(Denoiser):
    """Scale-equivariant residual CNN.

    Its features take n_scales times the memory of as many ordinary channels: ``channels: 16`` at 4 scales is the peer
    of a ResNet of 64. Its last convolution starts at zero, so an untrained network is the identity.

    Args:
        channels: features of every convolution, at each scale.
        n_blocks: residual blocks of two convolutions.
        n_maps: map sets of the image (1 for SENSE, 2 for soft SENSE).
        ndim: 2 for slices, 3 for volumes and 2D + time.
        basis: functions and scales of the kernels; ``mrirecon.denoisers.scales.Zoomed()`` unless given.
        extent: number of scales that a convolution of features sees, see ``mrirecon.denoisers.scales.ScaleConv``.
        projection: how the scale axis is left: ``mean``, or ``max``, which favours one sign.
        normalize: divide features by their root mean square over the channels before every block.
        padding: beyond the border, see ``mrirecon.denoisers.scales.padding``.
    """

    def __init__(
        self,
        channels: int = 16,
        n_blocks: int = 2,
        n_maps: int = 1,
        ndim: int = 2,
        basis: Basis | None = None,
        extent: int = 1,
        projection: Projection = "mean",
        normalize: bool = False,
        padding: Padding = "circular",
    ) -> None:
        super().__init__()
        if channels < 1 or n_blocks < 0 or n_maps < 1:
            raise InputError(f"channels={channels}, n_blocks={n_blocks}, n_maps={n_maps}; expected at least 1, 0 and 1")
        if projection not in ("mean", "max") or padding not in PADDINGS:
            raise InputError(
                f"projection={projection}, padding={padding}; expected mean or max, and one of {', '.join(PADDINGS)}"
            )
        self.basis = basis or Zoomed()
        self.n_maps, self.ndim, self.projection = n_maps, ndim, projection

        def block() -> nn.Sequential:
            convolutions = [
                ScaleConv(channels, channels, self.basis, ndim, extent, rectify=True, padding=padding) for _ in range(2)
            ]
            return nn.Sequential(*([ChannelNorm(channels)] if normalize else []), *convolutions)

        self.first = ScaleConv(2 * n_maps, channels, self.basis, ndim, padding=padding)
        self.blocks = nn.ModuleList(block() for _ in range(n_blocks))
        self.last = convolution(channels, 2 * n_maps, ndim, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        check_image(x, self.n_maps, self.ndim)
        return x + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the image; the part whose equivariance says something, as the identity's is perfect."""
        channels = to_channels(x)
        if self.ndim == 2:
            channels = channels.contiguous(memory_format=torch.channels_last)
        z: Scales = self.first(lift(channels, self.basis.n_scales))
        for block in self.blocks:
            z = tuple(a + b for a, b in zip(z, block(z), strict=True))
        return to_complex(self.last(project(tuple(torch.relu(a) for a in z), self.projection)))
