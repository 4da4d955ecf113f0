"""Shapes in continuous space, and how much of a pixel they cover.

Positions are (z, y, x) in units of half the field of view's shorter side: the field of view spans [-1, 1] along it. A
shape is an implicit function: positive inside, its value the approximate distance to the boundary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Grid:
    """The pixel centres of one slice: y (rows,), x (columns,), its height z, and the pixel's side."""

    z: float
    y: np.ndarray
    x: np.ndarray
    pixel: float

    @staticmethod
    def of(shape: tuple[int, int], z: float, pixel: float) -> Grid:
        """Zero lies on pixel N // 2, the centre of the centred Fourier transform."""
        y, x = ((np.arange(n, dtype=np.float32) - n // 2) * np.float32(pixel) for n in shape)
        return Grid(z, y, x, pixel)

    def scaled(self, scale: float) -> Grid:
        """Where an object ``scale`` times as large is seen by this grid."""
        return Grid(self.z / scale, self.y / np.float32(scale), self.x / np.float32(scale), self.pixel / scale)

    def window(self, center: tuple[float, float], radius: float) -> tuple[Grid, tuple[slice, slice]]:
        """The part of the grid within ``radius`` of a point, and where it lies."""
        rows, columns = (
            slice(*np.searchsorted(axis, [c - radius, c + radius]).tolist())
            for axis, c in zip((self.y, self.x), center, strict=True)
        )
        return replace(self, y=self.y[rows], x=self.x[columns]), (rows, columns)


# The complex image of an object on a grid, (rows, columns).
Phantom = Callable[[Grid], np.ndarray]


Bumps = tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Blob:
    """An ellipsoid whose outline in the slice is deformed: radius times 1 + sum_n c_n cos(n angle + phase_n)."""

    center: tuple[float, float, float]
    radii: tuple[float, float, float]
    angle: float = 0.0
    bumps: Bumps = ()

    def distance(self, grid: Grid) -> np.ndarray:
        """Distance to the boundary, positive inside; approximate away from it. (rows, columns)."""
        cz, cy, cx = self.center
        rz, ry, rx = self.radii
        height = 1 - ((grid.z - cz) / rz) ** 2
        if height <= 0:
            return np.full((len(grid.y), len(grid.x)), -np.float32(min(ry, rx)))
        ry, rx = ry * np.sqrt(height), rx * np.sqrt(height)
        dy, dx = (grid.y - np.float32(cy))[:, None], (grid.x - np.float32(cx))[None, :]
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        v, u = (cos * dy - sin * dx) / np.float32(ry), (sin * dy + cos * dx) / np.float32(rx)
        rho = np.sqrt(v * v + u * u) + np.float32(1e-6)
        slope = np.sqrt((v / np.float32(ry)) ** 2 + (u / np.float32(rx)) ** 2) + np.float32(1e-6)
        edge = np.ones_like(rho)
        if self.bumps:
            turn = np.arctan2(v, u)
            for n, c, phase in self.bumps:
                edge += np.float32(c) * np.cos(np.float32(n) * turn + np.float32(phase + 2 * grid.z))
        return rho * (edge - rho) / slope

    def share(self, grid: Grid) -> np.ndarray:
        """The share of each pixel that it covers, (rows, columns)."""
        return coverage(self.distance(grid), grid.pixel)

    @property
    def reach(self) -> float:
        return max(self.radii[1:]) * (1 + sum(abs(c) for _, c, _ in self.bumps))

    def inset(self, depth: float) -> Blob:
        """The same shape smaller by a rim of about that depth."""
        rz, ry, rx = self.radii
        return replace(self, radii=(rz, max(ry - depth, 1e-3), max(rx - depth, 1e-3)))

    def fitted(self) -> Blob:
        """As large as it can be without leaving the box of its radii at any height."""
        turn = np.linspace(0, 2 * np.pi, 180)
        edge = np.ones((9, 180))
        for n, c, phase in self.bumps:
            edge += c * np.cos(n * turn + phase + 2 * np.linspace(-1, 1, 9)[:, None])
        v, u = self.radii[1] * np.sin(turn) * edge, self.radii[2] * np.cos(turn) * edge
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        excess = max(np.abs(cos * v + sin * u).max() / self.radii[1], np.abs(cos * u - sin * v).max() / self.radii[2])
        return replace(self, radii=(self.radii[0], self.radii[1] / excess, self.radii[2] / excess))


@dataclass(frozen=True)
class Streak:
    """A bent band in the slice, for vessels, tendons and fissures: half length and half width about a parabola."""

    center: tuple[float, float]
    angle: float
    length: float
    width: float
    bend: float = 0.0

    def share(self, grid: Grid) -> np.ndarray:
        """The share of each pixel that it covers, right also where it is thinner than a pixel. (rows, columns)."""
        dy = (grid.y - np.float32(self.center[0]))[:, None]
        dx = (grid.x - np.float32(self.center[1]))[None, :]
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        u, v = cos * dx + sin * dy, cos * dy - sin * dx
        bend = np.float32(self.bend)
        across = (v - bend * u * u) / np.sqrt(1 + (2 * bend * u) ** 2)
        # It tapers to a point, as the intersection of two arcs does.
        return band(across, np.float32(self.width) * np.maximum(1 - (u / np.float32(self.length)) ** 2, 0), grid.pixel)

    @property
    def reach(self) -> float:
        return 1.1 * self.length * max(1.0, abs(self.bend) * self.length) + self.width


def draw_bumps(rng: np.random.Generator, size: float, orders: tuple[int, int] = (2, 6)) -> Bumps:
    """Random deformations of an outline, weaker the finer: c_n about size / n."""
    return tuple((n, float(size * rng.standard_normal() / n), float(rng.uniform(0, 2 * np.pi))) for n in range(*orders))


def coverage(distance: np.ndarray, pixel: float) -> np.ndarray:
    """The share of each pixel inside a shape, from the distance to its boundary: a ramp one pixel wide."""
    return np.clip(distance * np.float32(1 / pixel) + np.float32(0.5), 0, 1)


def band(across: np.ndarray, width: np.ndarray | float, pixel: float) -> np.ndarray:
    """The share of each pixel inside a band: distance to its middle line, half width (thinner than a pixel or not)."""
    half = np.float32(pixel / 2)
    return np.clip(np.minimum(across + half, width) - np.maximum(across - half, -width), 0, None) / np.float32(pixel)


def level_distance(level: np.ndarray, pixel: float) -> np.ndarray:
    """Distance to the zero set of a function that is not a distance: f / |grad f|, first order."""
    dy, dx = np.gradient(level, np.float32(pixel))
    square = dy * dy + dx * dx
    # Where the gradient vanishes nothing is near; the floor keeps the quotient finite.
    return level / np.sqrt(square + np.float32(1e-4) * (square.mean() + np.float32(1e-12)))


def paint(canvas: np.ndarray, share: np.ndarray, value: complex | np.ndarray) -> None:
    """Cover the canvas in place: partial volume where the share lies between 0 and 1."""
    canvas += share * (value - canvas)


def paint_shape(
    canvas: np.ndarray,
    grid: Grid,
    shape: Blob | Streak,
    value: complex,
    grain: np.ndarray | float = 1.0,
    within: np.ndarray | float = 1.0,
) -> None:
    """Paint a shape, touching only the pixels it can reach.

    grain: multiplies the value, (rows, columns). within: share of each pixel where painting is allowed, likewise.
    """
    part, where = grid.window(shape.center[-2:], shape.reach + grid.pixel)
    if part.y.size == 0 or part.x.size == 0:
        return
    allowed = within[where] if isinstance(within, np.ndarray) else within
    fill = value * (grain[where] if isinstance(grain, np.ndarray) else grain)
    paint(canvas[where], shape.share(part) * allowed, fill)
