"""The physics of the scan: linear operators from an image to measured k-space."""

from mrirecon.physics.coils import Coils, orthonormal
from mrirecon.physics.fourier import Fourier
from mrirecon.physics.linop import Adjoint, Composed, LinearOperator
from mrirecon.physics.mask import Mask
from mrirecon.physics.problem import Problem
from mrirecon.physics.sense import Sense, sense
from mrirecon.physics.strip import strip

__all__ = [
    "Adjoint",
    "Coils",
    "Composed",
    "Fourier",
    "LinearOperator",
    "Mask",
    "Problem",
    "Sense",
    "orthonormal",
    "sense",
    "strip",
]
