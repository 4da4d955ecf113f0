"""A residual block on plain features that looks at them at several scales.

z <- z + C( mean_i relu( S_i( relu(z) ) ) )

S lifts the features to the scales of an axis, the mean leaves the axis again, and C is 1x1; each part commutes with
changes of scale, and so does the block. Between blocks features have no scale axis, unlike in steerable networks, whose
features have it from the first layer to the last: so more of them fit in the same memory.

In place of C there can be a convolution S' over position and scale: z <- z + mean_i S'_i(relu(S_i(relu(z)))).
"""

from __future__ import annotations

from torch import Tensor, nn

from mrirecon.denoisers.convolution import convolution
from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.layers import Projection, ScaleConv, project
from mrirecon.denoisers.scales.padding import Padding
from mrirecon.denoisers.scales.pointwise import ChannelNorm, project_rectified
from mrirecon.denoisers.scales.zoomed import Zoomed
from mrirecon.errors import InputError


class ScaleBlock(nn.Module):
    """The block of the head of this file.

    Args:
        channels: features between blocks.
        hidden: features inside, at each scale.
        basis: functions and scales of the kernels of S.
        second: those of S', on an axis of as many scales; there is C in its place unless this or ``extent`` is given.
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
        self.norm = ChannelNorm(channels) if normalize else nn.Identity()
        self.lifting = ScaleConv(channels, hidden, basis, ndim, rectify=True, padding=padding)
        if second is None and extent == 1:
            self.second: nn.Module = convolution(hidden, channels, ndim, 1)
        else:
            second = second or Zoomed(basis.n_scales, basis.ratio, kernel_size=1)
            if (second.n_scales, second.ratio) != (basis.n_scales, basis.ratio):
                raise InputError(
                    f"second has {second.n_scales} scales of ratio {second.ratio}, basis {basis.n_scales} of ratio "
                    f"{basis.ratio}; expected the same axis"
                )
            self.second = ScaleConv(hidden, channels, second, ndim, extent, rectify=True, padding=padding)
        self.projection: Projection = projection

    def forward(self, z: Tensor) -> Tensor:
        features = self.lifting(self.norm(z))
        if isinstance(self.second, ScaleConv):
            return z + project(self.second(features), self.projection)
        result: Tensor = self.second(project_rectified(features, self.projection))
        return z + result
