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
