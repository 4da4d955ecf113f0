"""A residual CNN that commutes with changes of scale, as far as pixels and a finite scale axis can.

D(x) = x + C_out( relu( R_n( ... R_1( C_in(x) ) ) ) )

R are residual blocks that look at their features at several scales (:mod:`mrirecon.denoisers.scales.block`); C are 1x1
convolutions, as wider ones would see a single scale. The proximal operator of scale-equivariant unrolled networks
(Gunel et al., MICCAI 2022, arXiv:2204.10436, of which no code is public), but for one change: features have a scale
axis only inside a block, so that at equal memory there are more of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mrirecon.denoisers.convolution import check_image, convolution
from mrirecon.denoisers.denoiser import Denoiser, to_channels, to_complex
from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.block import ScaleBlock
from mrirecon.denoisers.scales.dilated import Dilated
from mrirecon.denoisers.scales.layers import Projection
from mrirecon.denoisers.scales.padding import Padding
from mrirecon.errors import InputError


class ScaleEquivariant(Denoiser):
    """Scale-equivariant residual CNN.

    With its default sizes it keeps as much for the backward pass as a ResNet of 64 channels and 2 blocks: for every
    block ``channels`` and ``hidden`` features and, for each scale, a byte of each of the latter; and ``channels`` in
    the end. More is kept with ``second``, with an ``extent`` above 1 and with the projection ``max``. The last
    convolution starts at zero, so an untrained network is the identity.

    Args:
        channels: features between blocks.
        hidden: features inside a block, at each scale.
        n_blocks: residual blocks of two convolutions.
        n_maps: map sets of the image (1 for SENSE, 2 for soft SENSE).
        ndim: 2 for slices, 3 for volumes; all axes change scale together.
        basis: functions and scales of the kernels; ``mrirecon.denoisers.scales.Dilated()`` unless given.
        second: those of a second convolution over scales in each block, which is 1x1 and behind the projection unless
            this or ``extent`` is given.
        extent: number of scales that the second convolution of a block sees.
        projection: how the scale axis is left: ``mean``, or ``max``, which favours one sign.
        normalize: divide features by their root mean square over the channels before every block.
        padding: beyond the border, see ``mrirecon.denoisers.scales.padding``.
    """

    def __init__(
        self,
        channels: int = 64,
        hidden: int = 32,
        n_blocks: int = 2,
        n_maps: int = 1,
        ndim: int = 2,
        basis: Basis | None = None,
        second: Basis | None = None,
        extent: int = 1,
        projection: Projection = "mean",
        normalize: bool = False,
        padding: Padding = "circular",
    ) -> None:
        super().__init__()
        if min(channels, hidden, n_maps) < 1 or n_blocks < 0:
            found = f"channels={channels}, hidden={hidden}, n_maps={n_maps}, n_blocks={n_blocks}"
            raise InputError(f"{found}; expected at least 1, 1, 1 and 0")
        self.n_maps, self.ndim = n_maps, ndim
        self.first = convolution(2 * n_maps, channels, ndim, 1)
        axis = basis or Dilated()
        self.blocks = nn.Sequential(
            *(
                ScaleBlock(channels, hidden, axis, second, ndim, extent, projection, normalize, padding)
                for _ in range(n_blocks)
            )
        )
        self.last = convolution(channels, 2 * n_maps, ndim, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)  # faster, as in ResNet

    def forward(self, x: Tensor) -> Tensor:
        check_image(x, self.n_maps, self.ndim)
        return x + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the image; the part whose equivariance says something, as the identity's is perfect."""
        return to_complex(self.last(torch.relu(self.blocks(self.first(to_channels(x))))))
