"""Features over position and scale: bases, convolutions and projections that commute with changes of scale."""

from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.block import ScaleBlock
from mrirecon.denoisers.scales.dilated import Dilated
from mrirecon.denoisers.scales.hermite import Hermite
from mrirecon.denoisers.scales.layers import Projection, ScaleConv, project
from mrirecon.denoisers.scales.pointwise import AtEachScale, ChannelNorm, project_rectified
from mrirecon.denoisers.scales.zoomed import Zoomed

__all__ = [
    "AtEachScale",
    "Basis",
    "ChannelNorm",
    "Dilated",
    "Hermite",
    "Projection",
    "ScaleBlock",
    "ScaleConv",
    "Zoomed",
    "project",
    "project_rectified",
]
