"""Features over position and scale: bases, convolutions and projections that commute with changes of scale."""

from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.hermite import Hermite
from mrirecon.denoisers.scales.layers import AtEachScale, ChannelNorm, Projection, ScaleConv, lift, project
from mrirecon.denoisers.scales.zoomed import Zoomed

__all__ = [
    "AtEachScale",
    "Basis",
    "ChannelNorm",
    "Hermite",
    "Projection",
    "ScaleConv",
    "Zoomed",
    "lift",
    "project",
]
