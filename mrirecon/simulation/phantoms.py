"""Random phantoms: an anatomy, its brightness, its slowly varying phase.

A phantom takes a Grid and returns the complex image there, (rows, columns); slices of one volume are the same phantom
at other heights z. Everything is drawn once, when the phantom is made; the phantom itself is a function of position.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from mrirecon.simulation.bodies import draw_body, draw_limb
from mrirecon.simulation.fields import draw_field
from mrirecon.simulation.heads import draw_head
from mrirecon.simulation.mosaics import draw_mosaic, draw_vial
from mrirecon.simulation.shapes import Grid, Phantom
from mrirecon.simulation.tissues import Signals

Anatomy = Literal["head", "body", "limb", "mosaic", "vial"]
DRAW = {"head": draw_head, "body": draw_body, "limb": draw_limb, "mosaic": draw_mosaic, "vial": draw_vial}
SHARES: dict[Anatomy, float] = {"head": 0.35, "body": 0.2, "limb": 0.2, "mosaic": 0.2, "vial": 0.05}


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    kinds = list(SHARES)
    return kinds[int(rng.choice(len(kinds), p=list(SHARES.values())))]


def draw_phantom(rng: np.random.Generator, anatomy: Anatomy, signal: Signals, extent: tuple[float, float]) -> Phantom:
    """The object within ``extent``, half the field of view along y and x; turned or mirrored at random."""
    turned = bool(rng.random() < 0.4)
    up, right = rng.choice([-1, 1], 2)
    body = DRAW[anatomy](rng, signal, extent[::-1] if turned else extent)
    smooth, shade = draw_field(rng, (0.8, 4.0)), draw_field(rng, (1.0, 4.0))
    swing, shading = np.exp(rng.uniform(*np.log([0.05, 1.5]))), rng.uniform(0.0, 0.15)
    offset, tilt = rng.uniform(-np.pi, np.pi), rng.normal(0, rng.choice([0.2, 1.5]), 2)

    def phantom(grid: Grid) -> np.ndarray:
        y, x = (grid.x, grid.y) if turned else (grid.y, grid.x)
        # Flipped axes run backwards, which a window needs in order; so the image is flipped instead.
        image = body(Grid(grid.z, np.sort(up * y), np.sort(right * x), grid.pixel))[::up, ::right]
        image = image.T if turned else image
        phase = offset + swing * smooth(grid) + tilt[0] * grid.y[:, None] + tilt[1] * grid.x[None, :]
        return image * ((1 + shading * shade(grid)) * np.exp(1j * phase)).astype(np.complex64)

    return phantom
