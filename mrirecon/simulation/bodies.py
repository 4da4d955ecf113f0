"""A trunk cut across, and a limb cut along or across: fat, muscle, bones with marrow, organs, vessels, gas."""

from __future__ import annotations

import numpy as np

from mrirecon.simulation.fields import draw_field
from mrirecon.simulation.shapes import (
    Blob,
    Grid,
    Phantom,
    Streak,
    band,
    coverage,
    draw_bumps,
    level_distance,
    paint,
    paint_shape,
)
from mrirecon.simulation.tissues import Signals, draw_grain

ORGANS = ("organ", "organ", "spleen", "muscle", "fluid", "blood", "fat", "air", "gray")


def draw_body(rng: np.random.Generator, signal: Signals, extent: tuple[float, float]) -> Phantom:
    half = (rng.uniform(0.6, 0.9) * extent[0], rng.uniform(0.8, 0.95) * extent[1])
    a = min(half)
    outline = Blob((0.0, 0.0, 0.0), (3.0, *half), rng.normal(0, 0.05), draw_bumps(rng, 0.04)).fitted()
    wobble, loops, tree = (
        draw_field(rng, (shortest * a, longest * a)) for shortest, longest in ((0.3, 1.5), (0.1, 0.3), (0.15, 0.6))
    )
    streaks = draw_field(rng, (0.02, 0.15), stretch=(4.0, *rng.permutation([1.0, 6.0])))
    grain = draw_grain(rng)
    skin, fat, wall = np.cumsum(a * rng.uniform([0.005, 0.03, 0.03], [0.015, 0.2, 0.1]))
    bowel, vessel_width = rng.random() < 0.65, a * rng.uniform(0.005, 0.015)
    bowel_tissue, spine_side = signal[str(rng.choice(["muscle", "organ", "fluid"]))], rng.choice([-1, 1])
    inside = [h - wall for h in half]
    organs = []
    for _ in range(int(rng.integers(10, 40))):
        size = a * np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
        center = (rng.normal(0, 0.4), inside[0] * rng.uniform(-0.8, 0.8), inside[1] * rng.uniform(-0.8, 0.8))
        radii = (rng.uniform(0.3, 1.0), size * rng.uniform(0.5, 1.0), size * rng.uniform(0.5, 1.0))
        shape = Blob(center, radii, rng.uniform(0, np.pi), draw_bumps(rng, 0.25, (2, 7)))
        organs.append((shape, signal[str(rng.choice(ORGANS))] * rng.uniform(0.7, 1.1)))
        if rng.random() < 0.3:  # a wall
            organs.append((shape.inset(rng.uniform(0.004, 0.03)), signal[str(rng.choice(ORGANS))]))
    spine = (0.0, spine_side * 0.55 * inside[0], rng.normal(0, 0.03))
    vertebra = Blob(spine, (9.0, 0.22 * a, 0.26 * a), 0.0, draw_bumps(rng, 0.08))
    canal = Blob((0.0, spine_side * (0.55 * inside[0] + 0.28 * a), spine[2]), (9.0, 0.07 * a, 0.09 * a))
    cord = Blob(canal.center, (9.0, 0.04 * a, 0.05 * a))
    ribs = []
    for angle in np.arange(0, 2 * np.pi, rng.uniform(0.3, 0.8)) + rng.uniform(0, 1, 1):
        center = (rng.normal(0, 0.1), (half[0] - 0.8 * wall) * np.sin(angle), (half[1] - 0.8 * wall) * np.cos(angle))
        ribs.append(Blob(center, (0.3, a * rng.uniform(0.01, 0.03), a * rng.uniform(0.03, 0.08)), np.pi / 2 - angle))

    def body(grid: Grid) -> np.ndarray:
        canvas = np.zeros((len(grid.y), len(grid.x)), np.complex64)
        pixel, depth, g = grid.pixel, outline.distance(grid), grain(grid)
        swell = 1 + np.float32(0.25) * wobble(grid)
        fibre = 1 + 0.15 * streaks(grid)
        paint(canvas, coverage(depth, pixel), signal["skin"])
        paint(canvas, coverage(depth - np.float32(skin), pixel), signal["fat"] * (2 * g - 1))
        paint(canvas, coverage(depth - np.float32(fat) * swell, pixel), signal["muscle"] * fibre)
        cavity = coverage(depth - np.float32(wall) * swell, pixel)
        paint(canvas, cavity, signal["fat"] * g)
        if bowel:
            paint(canvas, cavity * coverage(level_distance(loops(grid), pixel) - 0.02 * a, pixel), bowel_tissue * g)
        for shape, value in organs:
            paint_shape(canvas, grid, shape, value, g, cavity)
        vessels = band(level_distance(tree(grid), pixel), vessel_width, pixel)
        paint(canvas, vessels * cavity * coverage(wobble(grid) - 0.5, pixel), signal["blood"])
        for rib in ribs:
            paint_shape(canvas, grid, rib, signal["bone"])
            paint_shape(canvas, grid, rib.inset(0.008), signal["marrow"], g)
        paint_shape(canvas, grid, vertebra, signal["bone"])
        paint_shape(canvas, grid, vertebra.inset(0.012), signal["marrow"], 2 * g - 1)
        paint_shape(canvas, grid, canal, signal["fluid"])
        paint_shape(canvas, grid, cord, signal["white"], g)
        return canvas

    return body


def draw_limb(rng: np.random.Generator, signal: Signals, extent: tuple[float, float]) -> Phantom:
    """Along the rows, like a knee from the side: two bones that meet in a joint, in muscle and fat."""
    half = (0.95 * extent[0], min(rng.uniform(0.55, 0.95) * extent[1], 1.2 * extent[0]))
    a = half[1]
    square = ((4, -rng.uniform(0.05, 0.12), 0.0),)
    outline = Blob((0.0, 0.0, 0.0), (1.5, *half), rng.normal(0, 0.03), square + draw_bumps(rng, 0.04)).fitted()
    wobble, planes = draw_field(rng, (0.3 * a, 1.5 * a)), draw_field(rng, (0.15 * a, 0.8 * a), stretch=(1.0, 4.0, 1.0))
    streaks = draw_field(rng, (0.02, 0.12), stretch=(3.0, 8.0, 1.0))
    trabeculae, grain = draw_field(rng, (0.015, 0.15), slope=0.3), draw_grain(rng)
    skin, fat = np.cumsum(a * rng.uniform([0.008, 0.03], [0.02, 0.3]))
    rim, gap, coarse = a * rng.uniform(0.01, 0.04), a * rng.uniform(0.01, 0.06), rng.uniform(0.03, 0.2)
    cartilage = a * rng.uniform(0.01, 0.06)
    septum = a * rng.uniform(0.005, 0.02)
    joint, shift = rng.uniform(-0.3, 0.3), rng.normal(0, 0.1, 2)
    bones = []
    for end in (-1, 1):
        size = a * rng.uniform(0.35, 0.6)
        length = rng.uniform(0.6, 1.2) * half[0]
        head = (0.0, joint + end * (0.75 * size + gap), shift[0] + end * 0.03)
        bones.append(Blob(head, (rng.uniform(0.5, 1.0), 0.75 * size, size), rng.normal(0, 0.1), draw_bumps(rng, 0.12)))
        shaft = (0.0, joint + end * (length + 0.4 * size), shift[0] + rng.normal(0, 0.03))
        radii = (0.8, length, size * rng.uniform(0.4, 0.65))
        bones.append(Blob(shaft, radii, rng.normal(0, 0.05), draw_bumps(rng, 0.05)))
    kneecap = Blob((0.0, joint - rng.uniform(0.1, 0.4), rng.choice([-1, 1]) * 0.7 * a), (0.5, 0.2 * a, 0.09 * a))
    tendons = [
        Streak(
            (rng.uniform(-0.8, 0.8) * half[0], rng.uniform(-0.8, 0.8) * a),
            np.pi / 2 + rng.normal(0, 0.4),
            a * rng.uniform(0.2, 0.9),
            a * rng.uniform(0.008, 0.05),
            rng.normal(0, 0.5),
        )
        for _ in range(int(rng.integers(4, 14)))
    ]
    kinds = [signal[str(rng.choice(["tendon", "tendon", "blood", "fluid", "fat"]))] for _ in tendons]
    bursae = []
    for _ in range(int(rng.integers(3, 15))):
        center = (rng.normal(0, 0.2), rng.uniform(-0.6, 0.6), rng.uniform(-0.7, 0.7) * a)
        shape = Blob(center, (0.4, *(a * rng.uniform(0.02, 0.15, 2))), rng.uniform(0, np.pi), draw_bumps(rng, 0.3))
        bursae.append((shape, signal[str(rng.choice(["fluid", "fat", "cartilage", "lesion", "blood"]))]))

    def limb(grid: Grid) -> np.ndarray:
        canvas = np.zeros((len(grid.y), len(grid.x)), np.complex64)
        pixel, depth, g = grid.pixel, outline.distance(grid), grain(grid)
        swell = 1 + np.float32(0.4) * wobble(grid)
        paint(canvas, coverage(depth, pixel), signal["skin"])
        paint(canvas, coverage(depth - np.float32(skin), pixel), signal["fat"] * (2 * g - 1))
        flesh = coverage(depth - np.float32(fat) * swell, pixel)
        between = 1 - band(level_distance(planes(grid), pixel), septum, pixel)
        paint(canvas, flesh * between, signal["muscle"] * (1 + 0.15 * streaks(grid)))
        for shape, value in bursae:
            paint_shape(canvas, grid, shape, value, g, flesh)
        for tendon, value in zip(tendons, kinds, strict=True):
            paint_shape(canvas, grid, tendon, value, g, flesh)
        spongy = 1 + np.float32(coarse) * trabeculae(grid)
        marrow = np.full(depth.shape, -9.0, np.float32)
        for bone in [*bones, kneecap]:
            part, where = grid.window(bone.center[-2:], bone.reach)
            np.maximum(marrow[where], bone.distance(part), out=marrow[where])
        near_joint = coverage(np.float32(0.5 * a) - np.abs(grid.y - np.float32(joint))[:, None], 0.1)
        paint(canvas, flesh * near_joint * coverage(marrow + np.float32(cartilage), pixel), signal["cartilage"] * g)
        paint(canvas, flesh * coverage(marrow, pixel), signal["bone"])
        core = marrow - np.float32(rim) * np.clip(swell, 0.3, 2)
        paint(canvas, flesh * coverage(core, pixel), signal["marrow"] * spongy)
        return canvas

    return limb
