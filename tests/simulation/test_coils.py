"""Coil maps: smooth, and the field of their wires."""

from __future__ import annotations

import numpy as np

from mrirecon.simulation.coils import circle, draw_loops
from mrirecon.simulation.noise import draw_covariance
from mrirecon.simulation.shapes import Grid


def test_maps_on_interpolation_nodes_agree_with_maps_on_other_nodes() -> None:
    loops = draw_loops(np.random.default_rng(0), 9, (1.0, 1.0))
    whole = Grid.of((64, 64), 0.1, 2 / 64)
    part = Grid(0.1, whole.y[20:50], whole.x[10:33], whole.pixel)
    seen = loops.sensitivity(whole)
    error = np.abs(loops.sensitivity(part) - seen[:, 20:50, 10:33]).max() / np.abs(seen).max()
    assert error < 2e-3, error


def test_a_wire_closes_and_stands_across_its_normal() -> None:
    normal = np.array([0.6, 0.0, 0.8])
    wire, dl = circle(np.array([1.0, 2.0, 3.0]), normal, 0.5)
    assert np.allclose(dl.sum(0), 0, atol=1e-12)
    assert np.allclose(dl @ normal, 0, atol=1e-12)
    assert np.allclose(np.linalg.norm(wire - [1.0, 2.0, 3.0], axis=1), 0.5)
    # Right-handed about the normal (components z, y, x), so that the field at the centre points along it or against it.
    turns = np.cross(wire - [1.0, 2.0, 3.0], dl) @ normal
    assert (turns > 0).all() or (turns < 0).all()


def test_every_coil_has_a_map_of_its_own() -> None:
    for n_coils in (1, 2, 8, 32):
        loops = draw_loops(np.random.default_rng(n_coils), n_coils, (1.0, 1.2))
        seen = loops.sensitivity(Grid.of((24, 32), 0.0, 2 / 24)).reshape(n_coils, -1)
        seen = seen / np.linalg.norm(seen, axis=1, keepdims=True)
        alike = np.abs(seen @ seen.conj().T)
        assert np.isfinite(seen).all()
        assert (alike[~np.eye(n_coils, dtype=bool)] < 0.999).all()


def test_noise_covariances_are_positive_with_mean_variance_one() -> None:
    rng = np.random.default_rng(3)
    for n_coils in (1, 4, 32):
        covariance = draw_covariance(rng, n_coils, rng.standard_normal((n_coils, 3)))
        assert np.allclose(covariance, covariance.conj().T)
        assert np.linalg.eigvalsh(covariance).min() > 1e-3
        assert np.isclose(np.trace(covariance).real, n_coils)
