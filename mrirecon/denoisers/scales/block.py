"""A residual block on plain features that looks at them at several scales.

z <- z + mean_i S'_i( relu( S_i( relu(z) ) ) )

S lifts the features to the scales of an axis, S' is a convolution over position and scale, 1x1 or wider, and the mean
leaves the axis again; each part commutes with changes of scale, and so does the block. Between blocks features have no
scale axis, unlike in steerable networks, whose features have it from the first layer to the last: so more of them fit
in the same memory.
"""

from __future__ import annotations

from functools import reduce
from itertools import groupby

import torch
from torch import Tensor, nn

from mrirecon.denoisers.convolution import CONVOLVE
from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.layers import Projection, ScaleConv, lift, project
from mrirecon.denoisers.scales.padding import Padding, pad
from mrirecon.denoisers.scales.pointwise import ChannelNorm
from mrirecon.denoisers.scales.zoomed import Zoomed
from mrirecon.errors import InputError


class ScaleBlock(nn.Module):
    """The block of the head of this file.

    Args:
        channels: features between blocks.
        hidden: features inside, at each scale.
        basis: functions and scales of the kernels of S.
        second: those of S', on an axis of as many scales; 1x1 unless given.
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
        second: Basis | None = None,
        ndim: int = 2,
        extent: int = 1,
        projection: Projection = "mean",
        normalize: bool = False,
        padding: Padding = "circular",
    ) -> None:
        super().__init__()
        if projection not in ("mean", "max"):
            raise InputError(f"projection={projection}; expected mean or max")
        second = second or Zoomed(basis.n_scales, basis.ratio, kernel_size=1)
        if (second.n_scales, second.ratio) != (basis.n_scales, basis.ratio):
            raise InputError(
                f"second has {second.n_scales} scales of ratio {second.ratio}, basis {basis.n_scales} of ratio "
                f"{basis.ratio}; expected the same axis"
            )
        self.norm = ChannelNorm(channels) if normalize else nn.Identity()
        self.lifting = ScaleConv(channels, hidden, basis, ndim, rectify=True, padding=padding)
        self.second = ScaleConv(hidden, channels, second, ndim, extent, rectify=True, padding=padding)
        self.projection: Projection = projection
        # Widths of the kernels of S and S', and how many scales in a row have them.
        pairs = zip(basis.kernel_sizes, second.kernel_sizes, strict=True)
        self._runs = [(*sizes, len(list(run))) for sizes, run in groupby(pairs)]

    def forward(self, z: Tensor) -> Tensor:
        x = self.norm(z)
        if self.projection == "mean" and self.second.extent == 1 and self.second.padding == "circular":
            return z + self._mean(x)
        return z + project(self.second(self.lifting(lift(x, self.lifting.n_scales))), self.projection)

    def _mean(self, x: Tensor) -> Tensor:
        """The same as the longer way, with one convolution for all scales that share a size of kernel.

        One padding serves all: around an image that goes on periodically the features of the border can be computed as
        well as copied. The mean is a sum over input channels of the second convolution.
        """
        convolve, ndim, n_scales = CONVOLVE[self.lifting.ndim], self.lifting.ndim, self.lifting.n_scales
        first, second = self.lifting.kernels(), [kernel / n_scales for kernel in self.second.kernels()]
        reach = max(a + b for a, b, _ in self._runs) // 2 - 1  # of both convolutions, to either side
        x = torch.relu(pad(x, reach, ndim, "circular"))
        hidden: dict[int, list[Tensor]] = {}  # by the size of the second kernel, which says how much border it needs
        weights: dict[int, list[Tensor]] = {}
        i = 0
        for a, b, n in self._runs:
            features = convolve(x, torch.cat(first[i : i + n]), self.lifting.bias.repeat(n))
            spare = reach - (a + b) // 2 + 1
            for axis in range(-ndim, 0):  # of the result, which has fewer features than x to make gradients for
                features = features.narrow(axis, spare, features.shape[axis] - 2 * spare) if spare else features
            hidden.setdefault(b, []).append(features)
            weights.setdefault(b, []).extend(second[i : i + n])
            i += n
        parts = [convolve(torch.relu(torch.cat(hidden[b], 1)), torch.cat(weights[b], 1)) for b in hidden]
        return reduce(torch.add, parts) + self.second.bias.view(-1, *[1] * ndim)
