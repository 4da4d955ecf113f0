"""A residual block on plain features that looks at them at several scales.

z <- z + mean_i S'_i( relu( S_i( relu(z) ) ) )

S lifts the features to the scales of an axis, S' is a convolution over position and scale, and the mean leaves the axis
again; each part commutes with changes of scale, and so does the block. Between blocks features have no scale axis,
unlike in steerable networks, whose features have it from the first layer to the last: so more of them fit in the same
memory. With a quarter of the hidden features at 4 scales a block keeps what one of a ResNet keeps.
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor, nn

from mrirecon.denoisers.convolution import CONVOLVE
from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.layers import Projection, ScaleConv, lift, project
from mrirecon.denoisers.scales.padding import Padding, pad
from mrirecon.denoisers.scales.pointwise import ChannelNorm


class ScaleBlock(nn.Module):
    """The block of the head of this file.

    Args:
        channels: features between blocks.
        hidden: features inside, at each scale.
        basis: functions and scales of the kernels.
        ndim: space axes.
        extent: number of scales that S' sees, see :class:`ScaleConv`.
        projection: ``mean``, or ``max`` in its place.
        normalize: divide the features that enter S by their root mean square over the channels.
        padding: beyond the border.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        basis: Basis,
        ndim: int = 2,
        extent: int = 1,
        projection: Projection = "mean",
        normalize: bool = False,
        padding: Padding = "circular",
    ) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels) if normalize else nn.Identity()
        self.lifting = ScaleConv(channels, hidden, basis, ndim, rectify=True, padding=padding)
        self.second = ScaleConv(hidden, channels, basis, ndim, extent, rectify=True, padding=padding)
        self.projection: Projection = projection
        # Widths of the kernels and how many scales in a row have them.
        self._runs = [(size, len(list(run))) for size, run in groupby(basis.kernel_sizes)]

    def forward(self, z: Tensor) -> Tensor:
        x = self.norm(z)
        if self.projection == "mean" and self.second.extent == 1 and self.second.padding == "circular":
            return z + self._mean(x)
        return z + project(self.second(self.lifting(lift(x, self.lifting.n_scales))), self.projection)

    def _mean(self, x: Tensor) -> Tensor:
        """The same as the longer way, in two convolutions for all scales that share a size of kernel.

        One padding serves all: around an image that goes on periodically the features of the border can be computed as
        well as copied. The mean is a sum over input channels of the second convolution.
        """
        convolve, ndim, n_scales = CONVOLVE[self.lifting.ndim], self.lifting.ndim, self.lifting.n_scales
        first, second = self.lifting.kernels(), [kernel / n_scales for kernel in self.second.kernels()]
        reach = max(size for size, _ in self._runs) - 1  # of both convolutions, to either side
        x = torch.relu(pad(x, reach, ndim, "circular"))
        result, i = self.second.bias.view(-1, *[1] * ndim), 0
        for size, n in self._runs:
            seen = x
            for axis in range(-ndim, 0):
                seen = seen.narrow(axis, reach - size + 1, x.shape[axis] - 2 * (reach - size + 1))
            hidden = torch.relu(convolve(seen, torch.cat(first[i : i + n]), self.lifting.bias.repeat(n)))
            result = result + convolve(hidden, torch.cat(second[i : i + n], 1))
            i += n
        return result
