"""Maps from few lines: their support must hold the whole body."""

from __future__ import annotations

import numpy as np
import pytest

from mrirecon.metrics import body_mask
from mrirecon.physics.calibration import Calibration, calibration_square, espirit
from mrirecon.simulation.volumes import simulate_volume


@pytest.mark.parametrize("n_low", [8, 10, 13])
@pytest.mark.parametrize(("seed", "coils"), [(0, 4), (2, 8)])
def test_the_support_of_the_maps_holds_the_body_however_few_the_lines(n_low: int, seed: int, coils: int) -> None:
    # A kernel as wide as half the lines and more fits the lines with what is not there: the body was cut in two.
    volume = simulate_volume((9, 0, seed), n_slices=1, n_coils=coils, shape=(128, 128))
    rows, columns = calibration_square((128, 128), n_low, 24)
    maps = espirit(volume.kspace[0][:, rows, columns], (128, 128), Calibration())
    body = body_mask(np.abs(volume.truth[0]))
    assert np.any(maps[0], axis=0)[body].mean() > 0.99


@pytest.mark.parametrize("seed", [1, 4, 5])  # heads whose faint rim a 6 x 6 kernel on 13 or 14 lines cropped
@pytest.mark.parametrize("n_low", [13, 14])
def test_the_support_holds_the_faint_side_of_the_body(seed: int, n_low: int) -> None:
    volume = simulate_volume((0, 2, seed), 2, 6, (160, 160), snr=(50.0, 200.0), anatomy="head")
    rows, columns = calibration_square((160, 160), n_low, 24)
    maps = espirit(volume.kspace[0][:, rows, columns], (160, 160), Calibration())
    body = np.abs(volume.truth[0]) > 0.025 * np.abs(volume.truth[0]).max()
    assert np.any(maps[0], axis=0)[body].mean() > 0.999
