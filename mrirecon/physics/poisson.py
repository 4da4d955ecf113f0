"""Variable-density Poisson disc sampling of a 2-D k-space grid.

Samples are random but never close: two of them are at least r(k) apart, and r grows with the distance from the centre
of k-space,  r(k) = a (1 + |k| R / 4)  with |k| = 1 at the edge of the grid and R the acceleration. The radius at the
centre, a, is the one that gives R. The centre itself is sampled fully, for calibration. Discs are circles in units of
the grid's half-widths, so ellipses on a grid that is not square.

Why R / 4: of the slopes 1, 2, 4 and 8 the best in L1-wavelet reconstructions of a measured 4-coil brain slice were 1 at
R = 4, 2 at R = 8 and 4 at R = 16 (PSNR inside the head 36.9, 32.7 and 28.9 dB; with sigpy's masks 36.7, 32.5 and 28.8;
one mask each).

Dart throwing on a grid after Bridson, "Fast Poisson disk sampling in arbitrary dimensions", SIGGRAPH sketches 2007, and
the shrinking radius of McCool and Fiume, "Hierarchical Poisson disk sampling distributions", Graphics Interface 1992.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mrirecon.errors import InputError

# On a grid distances come in steps (1, sqrt 2, 2, ...), and a sharp radius would let the density jump at each of them:
# no pattern between 1x and 2.7x at all. Each point's own radius is moved at random by at most half a sample.
_MOST_PASSES = 200  # discs shrink to 0.2 % of their radius by then
_DITHER = 0.5


def poisson_disc(
    shape: tuple[int, int], acceleration: float, calibration: tuple[int, int], seed: int | Sequence[int]
) -> np.ndarray:
    """One Poisson disc pattern, (H, W) bool, the same for the same arguments.

    Args:
        shape: the grid (H, W).
        acceleration: points of the whole grid (corners and calibration included) per point kept, >= 1. Kept are exactly
            ``round(H * W / acceleration)`` points.
        calibration: height and width of the fully sampled box at the centre, beginning at ``(N - n + 1) // 2``.
        seed: as for ``numpy.random.default_rng``.

    Raises:
        InputError: the acceleration is below 1, the box does not fit, or the box alone exceeds the points to keep.
    """
    box = centre_box(shape, calibration)
    if not 1 <= acceleration < np.inf:
        raise InputError(f"acceleration {acceleration:g} of a Poisson disc; expected 1 or more; give for example 4")
    n_kept = round(box.size / acceleration)
    if n_kept < max(1, box.sum()):
        raise InputError(
            f"calibration box {calibration} of {box.sum()} points on a grid {shape} at acceleration {acceleration:g}; "
            f"expected at most the {n_kept} points kept in all; lower the acceleration or shrink the box"
        )
    rng = np.random.default_rng(seed)
    dither = rng.uniform(-_DITHER, _DITHER, shape)
    a = radius_at_centre(shape, acceleration, calibration)
    samples = box
    for _ in range(_MOST_PASSES):
        samples = filled(samples, box, exclusion_radius(shape, acceleration, a) + dither, rng)
        if samples.sum() >= n_kept:
            break
        a *= 0.97  # a sparse draw: more fit in between with smaller discs, at last with discs of a single point
    else:
        lacking = n_kept - samples.sum()  # by chance, then; not seen in thousands of draws
        samples.flat[rng.choice(np.flatnonzero(~samples), lacking, replace=False)] = True
    surplus = rng.choice(np.flatnonzero(samples & ~box), samples.sum() - n_kept, replace=False)
    samples.flat[surplus] = False
    return samples


@lru_cache(maxsize=256)
def radius_at_centre(shape: tuple[int, int], acceleration: float, calibration: tuple[int, int]) -> float:
    """The radius `a`, in samples of the longer axis, whose full patterns keep 0 to 2 % more points than asked.

    On grids of a few hundred points, where the count varies from draw to draw, only about so.
    """
    box = centre_box(shape, calibration)
    rng = np.random.default_rng(0)  # of its own: a property of the grid, not of one draw
    dither = rng.uniform(-_DITHER, _DITHER, shape)
    n_asked = max(box.size / acceleration - box.sum(), 1)
    a = np.sqrt(acceleration * max(shape) / min(shape)) / (1 + _slope(acceleration))
    for _ in range(10):
        ratio = (filled(box, box, exclusion_radius(shape, acceleration, a) + dither, rng).sum() - box.sum()) / n_asked
        if 1 <= ratio < 1.02:
            break
        a *= np.sqrt(ratio / 1.01)  # the number of discs goes with 1 / a^2, less steeply where they hold few points
    return float(a)


def exclusion_radius(shape: tuple[int, int], acceleration: float, a: float) -> np.ndarray:
    """r(k) = a (1 + |k| R / 4) at every grid point, (H, W), in samples of the longer axis."""
    y, x = (2 * (np.arange(n) - n // 2) / n for n in shape)
    return a * (1 + _slope(acceleration) * np.hypot(y[:, None], x))


def _slope(acceleration: float) -> float:
    return min(acceleration, 20) / 4  # not seen to help further out, and discs would outgrow the grid


def centre_box(shape: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The fully sampled box, (H, W) bool, of ``size`` (height, width) where fastMRI puts its centre lines."""
    if any(not 0 <= n <= total for n, total in zip(size, shape, strict=True)):
        raise InputError(f"calibration box {size} on a grid {shape}; expected a box inside the grid; shrink the box")
    box = np.zeros(shape, dtype=bool)
    (top, left), (height, width) = ((total - n + 1) // 2 for n, total in zip(size, shape, strict=True)), size
    box[top : top + height, left : left + width] = True
    return box


def filled(samples: np.ndarray, box: np.ndarray, radius: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add samples until no point is left that lies outside every sample's disc (the box's points have none).

    Points are thrown many at a time: of those in one throw, a point stays unless it lies in the disc of one thrown
    before it. All indices are flat, into a grid with a margin as wide as the largest disc.
    """
    step_y, step_x = (max(samples.shape) / n for n in samples.shape)  # in samples of the longer axis
    reach_y, reach_x = (int(radius.max() / step) for step in (step_y, step_x))
    width = samples.shape[1] + 2 * reach_x

    dy, dx = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    distance = np.hypot(dy * step_y, dx * step_x).ravel()
    order = np.argsort(distance, kind="stable")
    offsets = (dy * width + dx).ravel()[order]  # nearest first: a disc is the first so many

    margin = ((reach_y, reach_y), (reach_x, reach_x))
    n_disc = np.pad(np.maximum(np.searchsorted(distance[order], radius), 1), margin).ravel()
    kept = np.pad(samples, margin).ravel()
    free = np.pad(~samples, margin).ravel()

    def discs(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every grid point of every disc, and the number of the disc it is in."""
        n = n_disc[points]
        number = np.repeat(np.arange(points.size), n)
        return points[number] + offsets[np.arange(number.size) - np.repeat(np.cumsum(n) - n, n)], number

    free[discs(np.flatnonzero(np.pad(samples & ~box, margin)))[0]] = False
    crowd = 1.0  # points thrown per disc and throw; grows, so that the last gaps are found too
    while (points := np.flatnonzero(free)).size:
        points = rng.permutation(points[rng.random(points.size) * n_disc[points] < crowd])
        covered, number = discs(points)
        first = np.full(free.size, points.size)
        np.minimum.at(first, covered, number)
        points = points[first[points] == np.arange(points.size)]
        kept[points] = True
        free[discs(points)[0]] = False
        crowd *= 2
    return kept.reshape(-1, width)[reach_y : reach_y + samples.shape[0], reach_x : reach_x + samples.shape[1]].copy()
