"""Smooth random fields as sums of plane waves: sum_m a_m cos(k_m . r + phi_m).

A field is a function of continuous position (z, y, x), so it can be drawn at any resolution, shift or scale without
resampling. On a rectilinear grid the plane waves separate, and the sum over waves is one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrirecon.simulation.shapes import Grid


@dataclass(frozen=True)
class Field:
    """Zero mean and unit variance over space. k: (waves, 3), radians per unit length along z, y, x."""

    k: np.ndarray
    amplitude: np.ndarray
    phase: np.ndarray

    def __call__(self, grid: Grid) -> np.ndarray:
        kz, ky, kx = self.k.T
        along_y = np.multiply.outer(grid.y, ky)
        along_x = np.multiply.outer(grid.x, kx) + (grid.z * kz + self.phase)
        rows = np.concatenate([np.cos(along_y), -np.sin(along_y)], axis=1) * np.tile(self.amplitude, 2)
        columns = np.concatenate([np.cos(along_x), np.sin(along_x)], axis=1)
        return rows.astype(np.float32) @ columns.astype(np.float32).T


def draw_field(
    rng: np.random.Generator,
    wavelengths: tuple[float, float],
    *,
    slope: float = 1.0,
    waves: int = 96,
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Field:
    """A random field with wavelengths between two bounds (in units of half the field of view).

    Per octave of wavelength the standard deviation grows as wavelength ** slope: 0 has equal power in every octave (the
    1/f^2 power spectrum of natural images in 2-D), larger is smoother. ``stretch`` multiplies the wavelengths along
    z, y, x and gives streaks.
    """
    wavelength = np.exp(rng.uniform(np.log(wavelengths[0]), np.log(wavelengths[1]), size=waves))
    direction = rng.standard_normal((waves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    amplitude = wavelength**slope * rng.uniform(0.5, 1.0, size=waves)
    amplitude *= np.sqrt(2 / np.sum(amplitude**2))
    k = 2 * np.pi * direction / wavelength[:, None] / np.asarray(stretch)
    return Field(k, amplitude, rng.uniform(0, 2 * np.pi, size=waves))
