"""Small fastMRI files with smooth coils, made in the test's own folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrirecon.data import ismrmrd_header, write_volume

MakeVolume = Callable[..., Path]


def smooth_kspace(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """K-space (slices, coils, H, W) of a textured disc seen by coils around it, with a little noise."""
    n_slices, n_coils, height, width = shape
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angles = 2 * np.pi * np.arange(n_coils)[:, None, None] / n_coils
    coils = np.exp(-((y - np.sin(angles)) ** 2 + (x - np.cos(angles)) ** 2) + 1j * (angles + x * np.cos(angles)))
    images = ((x**2 + y**2) < 0.7) * (1 + 0.3 * rng.standard_normal((n_slices, 1, height, width)))
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images * coils, (-2, -1)), norm="ortho"), (-2, -1))
    noise = rng.standard_normal((*shape, 2)) @ (1, 1j)
    return (kspace + 0.01 * noise).astype(np.complex64)


@pytest.fixture
def make_volume(tmp_path: Path) -> MakeVolume:
    """Writes a volume and returns its path; keywords beyond these go to write_volume."""

    def make(
        name: str = "train/file1.h5",
        shape: tuple[int, ...] = (3, 4, 32, 24),
        recon: tuple[int, int] = (20, 20),
        lines: int | None = None,
        seed: int = 0,
        with_target: bool = True,
        **given: object,
    ) -> Path:
        kspace = smooth_kspace(shape, seed)
        target = np.abs(kspace[:, 0, : recon[0], : recon[1]])
        arguments: dict = {
            "reconstruction_rss": target if with_target else None,
            "header": ismrmrd_header((shape[2], shape[3]), recon, lines),
            "attrs": {"acquisition": "AXT2", "patient_id": "disc"},
        }
        return write_volume(tmp_path / name, given.pop("kspace", kspace), **arguments | given)

    return make
