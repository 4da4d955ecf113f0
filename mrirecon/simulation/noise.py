"""Receiver noise: complex Gaussian, white in k-space, correlated between coils."""

from __future__ import annotations

import numpy as np


def draw_covariance(rng: np.random.Generator, n_coils: int, position: np.ndarray) -> np.ndarray:
    """A coil noise covariance with mean variance 1: (coils, coils), complex Hermitian, positive definite.

    Coils couple the more the closer they are (position: (coils, 3)); a part is random, as cables and preamplifiers are.
    """
    apart = np.linalg.norm(position[:, None] - position[None, :], axis=-1)
    coupling = rng.uniform(0.03, 0.5) * np.exp(-((apart / rng.uniform(0.5, 1.2)) ** 2)) + rng.uniform(0, 0.1)
    coupling = coupling * np.exp(1j * rng.uniform(-np.pi, np.pi, (n_coils, n_coils)))
    np.fill_diagonal(coupling, np.exp(rng.normal(0, 0.12, n_coils)))
    covariance = coupling @ coupling.conj().T
    return covariance * (n_coils / np.trace(covariance).real)


def draw_noise(rng: np.random.Generator, covariance: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Noise (coils, *shape), complex64, with the given covariance E[n n^H]."""
    white = rng.standard_normal((len(covariance), *shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    mixing = np.linalg.cholesky(covariance / 2).astype(np.complex64)
    return np.tensordot(mixing, white, axes=1)
