"""A head cut across: scalp, skull, fluid, folded cortex, white matter, nuclei, ventricles, vessels.

The cortex follows level sets of a random field: sulci are thin sheets |g| = 0 that reach a random depth below the
brain's surface, grey matter is all that lies within one cortex thickness of the surface or of a sulcus.
"""

from __future__ import annotations

import numpy as np

from mrirecon.simulation.fields import draw_field
from mrirecon.simulation.shapes import (
    Blob,
    Grid,
    Phantom,
    Streak,
    coverage,
    draw_bumps,
    level_distance,
    paint,
    paint_shape,
)
from mrirecon.simulation.tissues import Signals, draw_grain


def draw_head(rng: np.random.Generator, signal: Signals, extent: tuple[float, float]) -> Phantom:
    size = rng.uniform(0.75, 0.97)
    half = (size * extent[0], size * rng.uniform(0.72, 0.95) * extent[1])
    a = min(half)
    middle = (rng.uniform(-0.2, 0.2), 0.0, 0.0)
    outline = Blob(middle, (1.2, *half), rng.normal(0, 0.06), draw_bumps(rng, 0.025)).fitted()
    wobble = draw_field(rng, (0.3 * a, 1.5 * a))
    folds = draw_field(rng, (a * rng.uniform(0.13, 0.2), a * rng.uniform(0.26, 0.45)), slope=0.5)
    widths = draw_field(rng, (0.15 * a, 0.6 * a))
    grain = draw_grain(rng)
    # Depths of the lower borders of skin, fat, outer table, marrow, inner table and fluid.
    layers = a * rng.uniform([0.008, 0.01, 0.008, 0.0, 0.008, 0.0], [0.025, 0.07, 0.02, 0.04, 0.02, 0.03])
    skin, fat, outer, marrow, inner, fluid = np.cumsum(layers)
    cortex, fold_depth, sulcus_width = a * rng.uniform([0.02, 0.2, 0.0], [0.05, 0.7, 0.03])
    uneven = rng.uniform(0.1, 0.35)
    border = a * rng.uniform(0.002, 0.012)  # cortex fades into white matter

    inside = [h - fluid for h in half]
    ventricles, nuclei, spots = [], [], []
    tilt, apart, length = rng.uniform(0.1, 0.5), rng.uniform(0.06, 0.16), rng.uniform(0.15, 0.4)
    for side in (-1, 1):
        for end in (-1, 1):  # front and back horns
            y, thick = end * 0.75 * length + rng.normal(0, 0.02), rng.uniform(0.03, 0.12)
            where = (rng.normal(0, 0.1), inside[0] * y, side * apart * inside[1])
            radii = (rng.uniform(0.3, 0.7), inside[0] * length * rng.uniform(0.4, 0.8), inside[1] * thick)
            ventricles.append(Blob(where, radii, side * end * tilt * rng.uniform(0.6, 1.4), draw_bumps(rng, 0.15)))
        for _ in range(3):
            y, x = rng.uniform(-0.3, 0.35), side * rng.uniform(0.15, 0.45)
            where = (rng.normal(0, 0.15), inside[0] * y, inside[1] * x)
            radii = (rng.uniform(0.2, 0.5), inside[0] * rng.uniform(0.06, 0.2), inside[1] * rng.uniform(0.05, 0.14))
            nuclei.append(Blob(where, radii, side * rng.uniform(0.0, 0.8), draw_bumps(rng, 0.2)))
    for _ in range(int(rng.integers(20, 100))):
        angle, ring = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0.0, 1.0))
        center = (rng.normal(0, 0.3), inside[0] * ring * np.sin(angle), inside[1] * ring * np.cos(angle))
        kind = rng.choice(["blood", "fluid", "lesion", "gray", "bone"], p=[0.35, 0.25, 0.15, 0.15, 0.1])
        radii = rng.uniform(0.15, 0.5), *(a * 0.006 * np.exp(rng.uniform(0, 2.2, 2)))
        spots.append((Blob(center, radii, angle, draw_bumps(rng, 0.2)), signal[kind]))
    vessels = [
        Streak(
            (inside[0] * rng.uniform(-0.7, 0.7), inside[1] * rng.uniform(-0.7, 0.7)),
            rng.uniform(0, np.pi),
            a * rng.uniform(0.05, 0.3),
            a * rng.uniform(0.004, 0.012),
            rng.normal(0, 1.5 / a),
        )
        for _ in range(int(rng.integers(4, 30)))
    ]
    lean, bend, cleft_width = rng.normal(0, 0.02), rng.normal(0, 0.03), a * rng.uniform(0.0, 0.02)
    gap = rng.uniform(0.25, 0.6) * inside[0]

    def head(grid: Grid) -> np.ndarray:
        canvas = np.zeros((len(grid.y), len(grid.x)), np.complex64)
        pixel = grid.pixel
        depth = outline.distance(grid)
        swell = 1 + np.float32(uneven) * wobble(grid)
        g = grain(grid)
        scalp = 1 + 2 * (g - 1)
        paint(canvas, coverage(depth, pixel), signal["skin"] * scalp)
        borders = zip(("fat", "bone", "marrow", "bone", "fluid"), (skin, fat, outer, marrow, inner), strict=True)
        for tissue, below in borders:
            paint(canvas, coverage(depth - below * swell, pixel), signal[tissue] * scalp)
        brain = depth - np.float32(fluid) * swell
        width = widths(grid)
        # The fissure between the hemispheres is a sulcus too, in front of and behind the middle.
        aside = grid.x[None, :] - np.float32(lean) * grid.y[:, None] - np.float32(bend) * grid.y[:, None] ** 2
        cleft = np.hypot(aside, np.maximum(gap - np.abs(grid.y)[:, None], 0))
        below = np.maximum(brain - np.float32(fold_depth) * np.clip(1 + 0.5 * width, 0.1, 2), 0)
        sheet = np.hypot(level_distance(folds(grid), pixel), below)
        sulcus = sheet - np.float32(sulcus_width) * np.clip(width, -0.2, 1.5)
        to_fluid = np.minimum(np.minimum(brain, sulcus), cleft - np.float32(cleft_width) * np.clip(0.5 + width, 0, 2))
        paint(canvas, coverage(to_fluid, pixel), signal["gray"] * g)
        white = coverage(to_fluid - np.float32(cortex) * (1 + 0.3 * width), max(pixel, border))
        paint(canvas, white, signal["white"] * (1 + 0.7 * (g - 1)))
        core = coverage(brain - np.float32(cortex), pixel)
        for nucleus in nuclei:
            paint_shape(canvas, grid, nucleus, signal["deep"], g, core)
        for horn in ventricles:
            paint_shape(canvas, grid, horn, signal["fluid"], 1.0, core)
        brain_share = coverage(brain, pixel)
        for spot, value in spots:
            paint_shape(canvas, grid, spot, value, 1.0, brain_share)
        for vessel in vessels:
            paint_shape(canvas, grid, vessel, signal["blood"], 1.0, brain_share)
        return canvas

    return head
