"""Denoisers: complex image in, complex image of the same shape out. They know nothing of MRI."""

from mrirecon.denoisers.contractive import Contractive
from mrirecon.denoisers.convex_dual import ConvexDual, TwoLayerReLU
from mrirecon.denoisers.denoiser import Denoiser
from mrirecon.denoisers.resnet import ResNet
from mrirecon.denoisers.scale_equivariant import ScaleEquivariant

__all__ = ["Contractive", "ConvexDual", "Denoiser", "ResNet", "ScaleEquivariant", "TwoLayerReLU"]
