"""Poisson disc patterns: distances, counts and density."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mrirecon.errors import InputError
from mrirecon.physics.poisson import centre_box, exclusion_radius, filled, poisson_disc, radius_at_centre

SHAPES = [(16, 16), (37, 255), (16, 300), (301, 24), (256, 256), (640, 368)]
ACCELERATIONS = [1, 1.5, 2.3, 4, 8, 20]


def pair_distances(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Distances between all points, in samples of the longer axis; infinite to itself."""
    steps = max(shape) / np.array(shape)
    distance = np.linalg.norm((points[:, None] - points[None]) * steps, axis=-1)
    np.fill_diagonal(distance, np.inf)
    return distance


@pytest.mark.parametrize("shape", [(40, 40), (31, 58), (17, 90)])
def test_no_sample_lies_in_a_smaller_disc_of_another_and_no_gap_is_left(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    box = centre_box(shape, (4, 5))
    radius = exclusion_radius(shape, 6, 1.3) + rng.uniform(-0.5, 0.5, shape)
    samples = filled(box, box, radius, rng)

    points = np.argwhere(samples & ~box)
    r = radius[tuple(points.T)]
    assert (pair_distances(points, shape) >= np.minimum(r[:, None], r)).all()

    gaps = np.argwhere(~samples)
    steps = max(shape) / np.array(shape)
    to_samples = np.linalg.norm((gaps[:, None] - points[None]) * steps, axis=-1)
    assert (to_samples < r).any(axis=1).all()


@pytest.mark.parametrize("shape", [(96, 96), (61, 128)])
@pytest.mark.parametrize("acceleration", [6, 12])
def test_samples_keep_the_distance_that_the_acceleration_allows(shape: tuple[int, int], acceleration: float) -> None:
    samples = poisson_disc(shape, acceleration, (6, 6), 0) & ~centre_box(shape, (6, 6))
    points = np.argwhere(samples)
    # The least radius a draw may end with: dithered by half a sample, and shrunk a few times where it came out sparse.
    a = 0.97**4 * radius_at_centre(shape, acceleration, (6, 6))
    r = (exclusion_radius(shape, acceleration, a) - 0.5)[tuple(points.T)]
    slack = (pair_distances(points, shape) / np.minimum(r[:, None], r)).min()
    assert slack >= 1, slack


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("acceleration", ACCELERATIONS)
def test_exactly_the_asked_number_of_points_is_kept(shape: tuple[int, int], acceleration: float) -> None:
    side = round(0.06 * min(shape))
    for seed in range(3):
        samples = poisson_disc(shape, acceleration, (side, side), seed)
        assert samples.shape == shape and samples.dtype == bool
        assert samples.sum() == round(samples.size / acceleration)
        assert samples[centre_box(shape, (side, side))].all()
        if samples.size >= 50 * acceleration:  # below, one point more or less is already 2 %
            assert samples.size / samples.sum() == pytest.approx(acceleration, rel=0.02)


def test_few_points_are_left_to_random_trimming() -> None:
    for acceleration in (1.5, 4, 8, 16):
        box, rng = centre_box((200, 140), (10, 10)), np.random.default_rng(7)
        radius = exclusion_radius(box.shape, acceleration, radius_at_centre(box.shape, acceleration, (10, 10)))
        n = filled(box, box, radius + rng.uniform(-0.5, 0.5, box.shape), rng).sum()
        assert n / (box.size / acceleration) == pytest.approx(1.01, abs=0.03)


def test_a_seed_gives_one_pattern_and_another_seed_another() -> None:
    a, b, c = (poisson_disc((64, 48), 5, (4, 4), seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert (a == b).all()
    overlap = (a & c).sum() / a.sum()
    assert overlap < 0.5, overlap


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    poisson_disc((32, 32), 3, (4, 4), 0)
    assert np.random.random() == expected


@pytest.mark.parametrize("shape", [(128, 128), (200, 90)])
@pytest.mark.parametrize("acceleration", [1.5, 4, 16])
def test_density_falls_from_the_centre_to_the_corners(shape: tuple[int, int], acceleration: float) -> None:
    density = np.mean([poisson_disc(shape, acceleration, (6, 6), seed) for seed in range(8)], axis=0)
    k = exclusion_radius(shape, 4, 1) - 1  # |k|, 1 at the edge
    rings = [density[(low <= k) & (k < low + 0.25)].mean() for low in np.arange(0, 1.4, 0.25)]
    assert (np.diff(rings) < 0.01).all(), rings
    assert 0 < rings[-1] < 0.8 * rings[0], rings
    upper, left = density[: shape[0] // 2].mean(), density[:, : shape[1] // 2].mean()
    assert upper * acceleration == pytest.approx(1, abs=0.06)
    assert left * acceleration == pytest.approx(1, abs=0.06)


def test_the_spectrum_is_blue() -> None:
    # Neighbours repel: far less power at low frequencies than random points of the same number (1 on this scale).
    samples = np.stack([poisson_disc((128, 128), 8, (0, 0), seed) for seed in range(8)]).astype(float)
    outer = samples[:, :32, :]  # one side, away from the centre
    power = np.mean(np.abs(np.fft.fft2(outer - outer.mean(axis=0))) ** 2, axis=0) / outer.sum(axis=(1, 2)).mean()
    low = power[:3, 1:6].mean()
    assert low < 0.35, low


def test_a_pattern_takes_less_than_150_ms_at_256() -> None:
    poisson_disc((256, 256), 4, (20, 20), 0)
    times = []
    for seed in range(3):
        start = time.perf_counter()
        poisson_disc((256, 256), 4, (20, 20), seed)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.15, times


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(InputError, match=r"400 points.*at most the 64 points"):
        poisson_disc((32, 32), 16, (20, 20), 0)
    with pytest.raises(InputError, match="inside the grid"):
        poisson_disc((32, 32), 4, (40, 4), 0)
    for acceleration in (0.5, -2, float("nan"), float("inf")):
        with pytest.raises(InputError, match="1 or more"):
            poisson_disc((32, 32), acceleration, (2, 2), 0)
