"""Abstract objects: a mosaic of overlapping leaves of all sizes, and a test object of rods, combs and wedges.

Leaves that cover one another, with radii of density r^-3, have the edges and the power spectrum of natural images (Lee,
Mumford and Huang, IJCV 41, 2001); a network trained on them does not learn where anatomy lies.
"""

from __future__ import annotations

import numpy as np

from mrirecon.simulation.fields import draw_field
from mrirecon.simulation.shapes import Blob, Grid, Phantom, Streak, coverage, draw_bumps, paint, paint_shape
from mrirecon.simulation.tissues import Signals, draw_grain


def draw_mosaic(rng: np.random.Generator, signal: Signals, extent: tuple[float, float]) -> Phantom:
    half = tuple(rng.uniform(0.6, 0.95, 2) * extent)
    outline = Blob((0.0, 0.0, 0.0), (1.5, *half), rng.normal(0, 0.2), draw_bumps(rng, 0.06, (2, 8))).fitted()
    grain, wobble = draw_grain(rng), draw_field(rng, (0.2, 1.0))
    values = [value for tissue, value in signal.items() if tissue != "air"]
    smallest, largest = 0.012, rng.uniform(0.3, 0.6)
    leaves: list[tuple[Blob | Streak, complex]] = []
    for _ in range(int(rng.integers(100, 260))):
        # Inverse of the distribution function of r^-3 between the smallest and the largest.
        r = (smallest**-2 - rng.random() * (smallest**-2 - largest**-2)) ** -0.5
        r = r if rng.random() < 0.6 else float(np.exp(rng.uniform(np.log(0.02), np.log(largest))))
        y, x = rng.uniform(-1, 1, 2) * half
        value = values[int(rng.integers(len(values)))] * rng.uniform(0.6, 1.1)
        if rng.random() < 0.2:
            width = max(0.004, r * rng.uniform(0.02, 0.15))
            leaves.append((Streak((y, x), rng.uniform(0, np.pi), min(2 * r, 0.6), width, rng.normal(0, 1.0)), value))
        else:
            radii = (rng.uniform(0.1, 0.6), r, r * rng.uniform(0.3, 1.0))
            where = (rng.normal(0, 0.15), y, x)
            leaves.append((Blob(where, radii, rng.uniform(0, np.pi), draw_bumps(rng, 0.25, (2, 8))), value))
    rind, ground = rng.uniform(0.0, 0.06), rng.uniform(0.3, 0.8)

    def mosaic(grid: Grid) -> np.ndarray:
        canvas = np.zeros((len(grid.y), len(grid.x)), np.complex64)
        depth, g = outline.distance(grid), grain(grid)
        paint(canvas, coverage(depth, grid.pixel), signal["fat"] * g)
        inside = coverage(depth - np.float32(rind) * (1 + 0.4 * wobble(grid)), grid.pixel)
        paint(canvas, inside, ground * g)
        for leaf, value in leaves:
            paint_shape(canvas, grid, leaf, value, g, inside)
        return canvas

    return mosaic


def draw_vial(rng: np.random.Generator, signal: Signals, extent: tuple[float, float]) -> Phantom:
    """A bottle of water with inserts; it does not change along z but for the wedges."""
    r = rng.uniform(0.6, 0.92) * min(extent)
    # Bumps of order 4 square the circle.
    corners = ((4, float(rng.choice([0.0, 0.06, 0.1])), 0.0),)
    bottle = Blob((0.0, 0.0, 0.0), (9.0, r, r * rng.uniform(0.85, 1.0)), rng.uniform(0, 1.6), corners).fitted()
    wall, grain = rng.uniform(0.0, 0.03), draw_grain(rng, 0.2)
    inserts: list[tuple[Blob | Streak, complex]] = []
    water = complex(rng.uniform(0.5, 1.0))
    for _ in range(int(rng.integers(3, 9))):
        y, x = rng.uniform(-0.6, 0.6, 2) * r
        value = rng.choice([0.0, 0.0, 0.3, 0.6, 1.0]) * rng.uniform(0.7, 1.0)
        angle, pitch, n = rng.uniform(0, np.pi), rng.uniform(0.03, 0.12) * r, int(rng.integers(2, 8))
        along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
        kind = rng.choice(["rods", "comb", "rod"])
        for i in range(n if kind != "rod" else 1):
            spot = (y + i * pitch * across[0], x + i * pitch * across[1])
            if kind == "comb":
                inserts.append((Streak(spot, angle, 0.3 * r, 0.25 * pitch), value))
            for j in range(n if kind == "rods" else kind == "rod"):
                size = 0.25 * pitch if kind == "rods" else rng.uniform(0.05, 0.3) * r
                inserts.append((Blob((0.0, *(spot + j * pitch * along)), (rng.uniform(0.5, 9.0), size, size)), value))

    def vial(grid: Grid) -> np.ndarray:
        canvas = np.zeros((len(grid.y), len(grid.x)), np.complex64)
        depth, g = bottle.distance(grid), grain(grid)
        inside = coverage(depth - np.float32(wall), grid.pixel)
        paint(canvas, coverage(depth, grid.pixel), complex(signal["tendon"]))
        paint(canvas, inside, water * g)
        for insert, value in inserts:
            paint_shape(canvas, grid, insert, value, g, inside)
        return canvas

    return vial
