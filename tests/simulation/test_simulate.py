"""The command that writes simulated files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mrirecon.commands.simulate import simulate
from mrirecon.errors import InputError
from mrirecon.simulation.volumes import image_of

FEW: dict[str, Any] = {"slices": 2, "coils": 3, "shape": (32, 24)}


def test_a_file_does_not_depend_on_how_many_are_made(tmp_path: Path) -> None:
    assert simulate(tmp_path / "one", volumes=1, **FEW) == 0
    assert simulate(tmp_path / "two", volumes=2, **FEW) == 0
    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert len(names) == 2
    with h5py.File(tmp_path / "one" / names[0]) as one, h5py.File(tmp_path / "two" / names[0]) as two:
        assert set(one) >= {"kspace", "reconstruction_rss", "ismrmrd_header", "truth", "sensitivity_maps"}
        assert all(np.array_equal(one[name][()], two[name][()]) for name in one)
        assert dict(one.attrs) == dict(two.attrs)


def test_splits_share_neither_names_nor_volumes(tmp_path: Path) -> None:
    peaks = []
    for split in ("train", "val", "test"):
        simulate(tmp_path, volumes=2, split=split, **FEW)
    for path in sorted(tmp_path.iterdir()):
        with h5py.File(path) as file:
            peaks.append(file.attrs["max"])
    assert len(peaks) == len(set(peaks)) == 6


def test_an_oversampled_readout_is_cropped_away_in_the_target(tmp_path: Path) -> None:
    simulate(tmp_path, volumes=1, readout_oversampling=2, **FEW)
    with h5py.File(next(tmp_path.iterdir())) as file:
        assert file["kspace"].shape == (2, 3, 64, 24)
        rss = np.sqrt(np.sum(np.abs(image_of(file["kspace"][()])) ** 2, axis=1))
        assert np.allclose(file["reconstruction_rss"][()], rss[:, 16:48], rtol=1e-5)
        assert file.attrs["max"] == pytest.approx(file["reconstruction_rss"][()].max())
        header = file["ismrmrd_header"][()].decode()
        assert "<encodedSpace><matrixSize><x>64</x><y>24</y>" in header
        assert "<reconSpace><matrixSize><x>32</x><y>24</y>" in header


def test_existing_files_are_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    simulate(tmp_path, volumes=1, **FEW)
    before = next(tmp_path.iterdir()).read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        simulate(tmp_path, volumes=2, **FEW)
    assert len(list(tmp_path.iterdir())) == 1
    assert simulate(tmp_path, volumes=2, overwrite=True, **FEW) == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert sorted(tmp_path.iterdir())[0].read_bytes()[-1000:] == before[-1000:]
