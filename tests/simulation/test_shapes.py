"""Shapes and fields are functions of continuous position."""

from __future__ import annotations

import numpy as np
import pytest

from mrirecon.simulation.fields import draw_field
from mrirecon.simulation.shapes import Blob, Grid, Streak, coverage, level_distance, paint_shape


def test_the_covered_area_of_an_ellipse_is_right_to_a_thousandth_at_any_resolution() -> None:
    for n in (33, 64, 101):
        grid = Grid.of((n, n), 0.0, 2 / n)
        area = coverage(Blob((0.0, 0.01, 0.02), (1.0, 0.5, 0.3), 0.4).distance(grid), grid.pixel).sum() * grid.pixel**2
        assert area == pytest.approx(np.pi * 0.15, rel=3e-3)


def test_a_field_has_unit_variance_and_does_not_depend_on_the_grid() -> None:
    field = draw_field(np.random.default_rng(0), (0.05, 0.3))
    wide = Grid.of((200, 200), 0.2, 0.05)
    part = Grid(0.2, wide.y[40:60], wide.x[3:9], wide.pixel)
    assert np.std(field(wide)) == pytest.approx(1, rel=0.05)
    assert np.allclose(field(part), field(wide)[40:60, 3:9], atol=1e-4)


def test_the_distance_to_a_level_set_is_in_units_of_length() -> None:
    grid = Grid.of((60, 80), 0.0, 0.02)
    plane = 7 * (0.6 * grid.y[:, None] + 0.8 * grid.x[None, :])
    assert np.allclose(level_distance(plane, grid.pixel), plane / 7, atol=1e-3)


def test_a_streak_thinner_than_a_pixel_covers_its_area() -> None:
    L, w = 0.5, 0.01
    for n in (20, 50, 400):  # pixels of 10, 4 and half times its half width
        grid = Grid.of((n, n), 0.0, 2 / n)
        area = Streak((0.01, 0.003), 0.3, L, w, 0.1).share(grid).sum() * grid.pixel**2
        assert area == pytest.approx(2 * w * 4 / 3 * L, rel=0.08)


@pytest.mark.parametrize(
    "shape",
    [
        Blob((0.0, 0.3, -0.2), (1.0, 0.25, 0.1), 0.7, ((2, 0.2, 1.0), (3, -0.1, 0.3))),
        Streak((0.2, 0.1), 0.5, 0.4, 0.03, 1.5),
    ],
)
def test_painting_in_a_window_equals_painting_everywhere(shape: Blob | Streak) -> None:
    grid = Grid.of((90, 70), 0.1, 2 / 70)
    canvas = np.zeros((90, 70), np.complex64)
    paint_shape(canvas, grid, shape, 1.0)
    assert canvas.real.sum() > 0
    assert np.allclose(canvas.real, shape.share(grid), atol=1e-5)
