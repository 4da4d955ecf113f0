"""Claims about maps: exact where they can be, blind to the drawn mask, computed once, whole on disk."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from mrirecon.data import read_volume
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slices
from mrirecon.errors import InputError
from mrirecon.physics.calibration import Calibration, calibration_square, espirit
from mrirecon.physics.sampling import Sampling

QUICK = Calibration(crop=0, kernel=4, iterations=20)
RANDOM = Sampling("random", (2,), (1 / 3,))


def lines_of(path, n=8):
    kspace = Slices([read_volume(path)], RANDOM)[[(0, 0)]].kspace[0].numpy()
    rows, columns = calibration_square(kspace.shape[1:], n, 24)
    return np.ascontiguousarray(kspace[:, rows, columns])


def test_maps_have_unit_norm_everywhere_and_are_the_same_again(make_volume):
    lines = lines_of(make_volume())
    maps = espirit(lines, (32, 24), QUICK)
    assert maps.shape == (1, 4, 32, 24) and maps.dtype == np.complex64
    assert np.abs((np.abs(maps) ** 2).sum(1) - 1).max() < 1e-5
    assert np.array_equal(maps, espirit(lines, (32, 24), QUICK))
    # The scale of the data, and a phase common to all coils, mean nothing.
    assert np.abs(maps - espirit(lines * np.complex64(1e-6j), (32, 24), QUICK)).max() < 1e-3


def test_maps_explain_the_coil_images(make_volume):
    slices = Slices([read_volume(make_volume())], RANDOM, keep_full=True)
    batch = slices[[(0, 0)]]
    images = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(batch.full, (-2, -1)), norm="ortho"), (-2, -1))[0]
    maps = torch.from_numpy(espirit(lines_of(batch.volume[0]), (32, 24), QUICK))[0]
    left = torch.linalg.norm(images - maps * (maps.conj() * images).sum(0)) / torch.linalg.norm(images)
    assert left < 0.1, f"{left:.3f} of the coil images lies outside the maps"


def test_one_coil_empty_slices_and_dead_coils_have_maps(make_volume):
    lines = lines_of(make_volume())
    assert (espirit(lines[:1], (8, 9), QUICK) == 1).all()
    assert np.allclose(espirit(0 * lines, (8, 9), QUICK), 0.5)
    lines[0] = 0
    maps = espirit(lines, (32, 24), QUICK)
    assert np.isfinite(maps).all() and np.abs(maps[:, 0]).max() < 1e-5
    assert np.abs((np.abs(maps) ** 2).sum(1) - 1).max() < 1e-5


def test_cropping_leaves_zeros_outside_the_body(make_volume):
    cropped = espirit(lines_of(make_volume()), (32, 24), Calibration(kernel=4, iterations=20, crop=0.95))
    power = (np.abs(cropped) ** 2).sum(1)
    assert (power == 0).any() and np.isclose(power, 1, atol=1e-5).any()


def test_the_calibration_square_lies_within_the_lines_of_the_rule():
    for width in (23, 24, 368):
        for n_low in range(3, 20):
            start = (width - n_low + 1) // 2
            for limit in (3, 7, 24):
                _, columns = calibration_square((32, width), n_low, limit)
                assert start <= columns.start < columns.stop <= start + n_low
    with pytest.raises(InputError, match="2 fully sampled centre lines"):
        calibration_square((32, 24), 2, 24)


def test_a_second_epoch_with_new_masks_computes_no_maps(tmp_path, make_volume):
    slices = Slices([read_volume(make_volume())], RANDOM, seed=0)
    cache = MapCache(tmp_path / "maps", QUICK)
    first, second = (slices[[(epoch, i) for i in range(3)]] for epoch in (0, 1))
    assert not torch.equal(first.mask, second.mask)
    maps = cache.maps_of(first)
    assert cache.computed == 3 and maps.shape == (3, 1, 4, 32, 24)
    assert torch.equal(cache.maps_of(second), maps) and cache.computed == 3
    other = MapCache(tmp_path / "maps", QUICK)
    assert torch.equal(other.attach(first).maps, maps) and other.computed == 0


def test_other_samples_and_other_parameters_are_other_maps(tmp_path, make_volume):
    batches = [Slices([read_volume(make_volume(seed=seed))], RANDOM)[[(0, 0)]] for seed in (0, 1)]
    cache = MapCache(tmp_path / "maps", QUICK)
    for batch in (*batches, batches[0]._replace(n_low=(6,))):
        cache.maps_of(batch)
    assert cache.computed == 3
    other = MapCache(tmp_path / "maps", Calibration(kernel=4, iterations=21))
    other.maps_of(batches[0])
    assert other.computed == 1


def test_a_damaged_map_is_computed_anew(tmp_path, make_volume):
    batch = Slices([read_volume(make_volume())], RANDOM)[[(0, 0)]]
    maps = MapCache(tmp_path / "maps", QUICK).maps_of(batch)
    (kept,) = (tmp_path / "maps").rglob("*.npy")
    for content in (b"", kept.read_bytes()[:500], b"nonsense"):
        kept.write_bytes(content)
        cache = MapCache(tmp_path / "maps", QUICK)
        assert torch.equal(cache.maps_of(batch), maps) and cache.computed == 1
    assert len(list((tmp_path / "maps").rglob("*.*"))) == 1


def test_maps_lie_beside_the_data_or_else_in_the_users_cache(tmp_path, make_volume, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    batch = Slices([read_volume(make_volume("data/file1.h5"))], RANDOM)[[(0, 0)]]
    MapCache(None, QUICK).maps_of(batch)
    assert len(list((tmp_path / "data" / ".mrirecon_maps").rglob("*.npy"))) == 1
    # A file where the folder should be refuses to be written into, for root too.
    blocked = Slices([read_volume(make_volume("readonly/file1.h5"))], RANDOM)[[(0, 1)]]
    (tmp_path / "readonly" / ".mrirecon_maps").touch()
    MapCache(None, QUICK).maps_of(blocked)
    assert len(list((tmp_path / "home").rglob("*.npy"))) == 1


def test_where_nothing_can_be_written_maps_are_computed_with_one_warning(tmp_path, make_volume):
    (tmp_path / "blocked").touch()
    slices = Slices([read_volume(make_volume())], RANDOM)
    cache = MapCache(tmp_path / "blocked" / "maps", QUICK)
    with pytest.warns(UserWarning, match="name a folder that can be written to"):
        cache.maps_of(slices[[(0, 0)]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.maps_of(slices[[(0, 1)]])
    assert cache.computed == 2


@pytest.mark.parametrize("wrong", [{"kernel": 1}, {"width": 4}, {"threshold": 0.0}, {"crop": 1.0}, {"iterations": 0}])
def test_a_calibration_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Calibration(**wrong)
