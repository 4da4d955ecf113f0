"""Scale augmentation: which scale a sample gets, and that a scaled slice is the slice of a scaled object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from mrirecon.commands.simulate import simulate
from mrirecon.cropping import center_crop
from mrirecon.data.batches import Batches
from mrirecon.data.fastmri import list_volumes, read_volume
from mrirecon.data.module import FastMRIData
from mrirecon.data.scaling import check_scales, drawn_scale, root_sum_of_squares, scaled
from mrirecon.data.slices import Slice, Slices
from mrirecon.denoisers.scales.resampling import resampled
from mrirecon.errors import InputError
from mrirecon.physics.fourier import Fourier
from mrirecon.physics.sampling import Sampling
from mrirecon.simulation.volumes import simulate_volume
from mrirecon.testing import relative_error

F = Fourier(2)
SAMPLING = Sampling("equispaced_fraction", (3.0,), (0.2,))


@pytest.mark.parametrize("shape", [(64, 48), (63, 45), (64, 45)])
@pytest.mark.parametrize("scale", [0.5, 0.75, 1.5, 2.0])
def test_an_image_is_enlarged_as_interpolation_does(shape: tuple[int, int], scale: float) -> None:
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in shape)
    blob = torch.exp(-((y[:, None] - 3) ** 2 + (x[None, :] + 2) ** 2) / (2 * 3.0**2)).to(torch.complex128)
    found = F.adjoint(scaled(F.forward(blob.unsqueeze(0)), scale))[0]
    small = [round(n * min(scale, 1 / scale)) for n in shape]
    factors = [m / n if scale < 1 else n / m for n, m in zip(shape, small, strict=True)]  # whole numbers of pixels
    wanted = resampled(resampled(blob, factors[1], 1).T.contiguous(), factors[0], 1).T
    inside = (slice(8, -8), slice(8, -8))
    assert relative_error(found[inside], wanted[inside]) < 1e-3  # of the blob's waves beyond the coarser grid


def test_scale_one_changes_nothing() -> None:
    kspace = torch.randn(3, 20, 22, dtype=torch.complex64)
    assert scaled(kspace, 1.0) is kspace


def test_making_an_image_smaller_keeps_the_noise_of_a_pixel() -> None:
    noise = torch.randn(1, 128, 128, dtype=torch.complex64)
    inside = center_crop(F.adjoint(scaled(noise, 0.75)), (90, 90))
    # Fewer samples, of the same noise each: intensities fall by 0.75 and noise with them.
    assert float(inside.abs().square().mean().sqrt()) == pytest.approx(0.75, rel=0.05)


@pytest.mark.parametrize("scale", [0.7, 0.8])
def test_a_scaled_slice_is_the_slice_of_smaller_pixels(scale: float) -> None:
    settings: dict[str, Any] = {"n_slices": 1, "n_coils": 4, "shape": (160, 160), "anatomy": "head", "snr": 1e9}
    usual = simulate_volume((8, 1), scale=0.9, **settings)
    smaller = simulate_volume((8, 1), scale=0.9 * scale, coil_scale=scale, **settings)
    found = root_sum_of_squares(scaled(torch.from_numpy(usual.kspace[0]), scale))
    assert relative_error(found, torch.from_numpy(smaller.reconstruction_rss[0])) < 0.12  # edges ring unlike


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    simulate(tmp_path / "multicoil_train", volumes=2, slices=2, coils=3, shape=(32, 24))
    simulate(tmp_path / "multicoil_val", volumes=1, slices=1, coils=3, shape=(32, 24), split="val")
    return tmp_path


def first(data: FastMRIData, epoch: int) -> list[Slice]:
    loader = data.train_dataloader()
    cast(Batches, loader.sampler).set_epoch(epoch)
    return list(loader)


def test_every_epoch_draws_scales_anew_and_the_same_for_the_same_seed(folder: Path) -> None:
    scales = [0.5, 0.75, 1.0, 1.5]
    with_scales = [first(FastMRIData(str(folder), sampling=SAMPLING, scales=scales), epoch) for epoch in (0, 1, 0)]
    without = first(FastMRIData(str(folder), sampling=SAMPLING), 0)
    for once, again, plain in zip(with_scales[0], with_scales[2], without, strict=True):
        assert torch.equal(once.kspace, again.kspace) and torch.equal(once.target, again.target)
        assert torch.equal(once.mask, plain.mask) and once.number == plain.number
        assert once.full is not None and plain.full is not None
        wanted = scaled(plain.full[0], drawn_scale(scales, 0, 0, once.number[0]))
        assert torch.equal(once.full[0], wanted)
        assert torch.equal(once.kspace, once.full * once.mask)
        assert torch.allclose(once.target[0], center_crop(root_sum_of_squares(wanted), once.crop))
    drawn = {drawn_scale(scales, 0, epoch, number) for epoch in range(8) for number in range(8)}
    assert drawn == set(scales)
    different = [not torch.equal(a.kspace, b.kspace) for a, b in zip(*with_scales[:2], strict=True)]
    assert any(different)


def test_without_the_full_kspace_the_samples_are_the_same(folder: Path) -> None:
    volumes = [read_volume(path) for path in list_volumes(folder / "multicoil_train")]
    full, sampled = (Slices(volumes, SAMPLING, 3, keep_full, [0.75]) for keep_full in (True, False))
    for number in range(4):
        assert torch.equal(full[[(1, number)]].kspace, sampled[[(1, number)]].kspace)
        assert torch.equal(full[[(1, number)]].target, sampled[[(1, number)]].target)


def test_lines_that_a_file_has_no_samples_for_stay_empty(folder: Path) -> None:
    volume = read_volume(list_volumes(folder / "multicoil_train")[0])
    padded = replace(volume, geometry=replace(volume.geometry, padding_left=3, padding_right=20))
    batch = Slices([padded], SAMPLING, 0, keep_full=True, scales=[0.75])[[(0, 0)]]
    assert batch.full is not None and batch.full[..., 3:20].abs().min() > 0
    assert not batch.full[..., :3].any() and not batch.full[..., 20:].any()
    assert torch.allclose(batch.target[0], center_crop(root_sum_of_squares(batch.full[0]), batch.crop))


def test_validation_is_as_measured(folder: Path) -> None:
    plain, scaled_ = (FastMRIData(str(folder), sampling=SAMPLING, scales=scales) for scales in (None, [0.5]))
    (a,), (b,) = list(plain.val_dataloader()), list(scaled_.val_dataloader())
    assert torch.equal(a.kspace, b.kspace) and torch.equal(a.target, b.target)


def test_maps_of_a_scale_are_estimated_once(folder: Path) -> None:
    data = FastMRIData(str(folder), sampling=SAMPLING, scales=[0.75], maps=str(folder / "maps"))
    for _ in range(2):
        for batch in first(data, 0):
            assert data.on_after_batch_transfer(batch, 0).maps is not None
    assert data.maps.computed == 4


@pytest.mark.parametrize("scales", [[], [0.0], [1.0, 5.0], [float("nan")]])
def test_impossible_scales_are_refused(scales: list[float]) -> None:
    with pytest.raises(InputError, match=r"data.scales is .*such as \[0.7"):
        check_scales(scales)


def test_undersampled_files_cannot_be_scaled(folder: Path) -> None:
    import h5py

    path = list_volumes(folder / "multicoil_train")[0]
    with h5py.File(path, "a") as file:
        file["mask"] = np.ones(24, np.float32)
    with pytest.raises(InputError, match=r"cannot be scaled; use fully sampled files, or leave data.scales out"):
        Slices([read_volume(path)], None, 0, scales=[0.8])
