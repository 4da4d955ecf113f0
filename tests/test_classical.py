"""Classical reconstructions: the minimisers they claim to be."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sigpy as sp
import sigpy.mri
import torch

from mrirecon.classical import cg_sense, l1_wavelet, zero_filled
from mrirecon.errors import InputError
from mrirecon.physics import Problem, sense


def problem(shape: tuple[int, ...] = (36, 32), n_maps: int = 1, batch: int = 2, noise: float = 0.02) -> Problem:
    """Blocks seen by 4 smooth coils; every third column and the centre sampled."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    centres = rng.uniform(-1, 1, size=(batch, n_maps, 4, len(shape)))
    along = zip(axes, np.moveaxis(centres, -1, 0), strict=True)
    maps = np.exp(-sum((a - c[..., *[None] * len(shape)]) ** 2 for a, c in along))
    maps = maps * np.exp(1j * rng.uniform(0, 6, size=(batch, n_maps, 4, *[1] * len(shape))))
    if n_maps == 1:
        maps /= np.sqrt((np.abs(maps) ** 2).sum(2, keepdims=True))
    else:
        maps = np.linalg.qr(np.moveaxis(maps, (1, 2), (-1, -2)))[0]
        maps = np.moveaxis(maps, (-1, -2), (1, 2))
    mask = torch.zeros(*[1] * (1 + len(shape)), shape[-1])
    mask[..., ::3] = 1
    mask[..., shape[-1] // 2 - 3 : shape[-1] // 2 + 3] = 1
    truth = rng.normal(size=(batch, n_maps, *(-(-n // 4) for n in shape))) + 1j
    for axis in range(2, 2 + len(shape)):
        truth = truth.repeat(4, axis=axis)
    truth = torch.from_numpy(truth[(..., *(slice(n) for n in shape))]).to(torch.complex64)
    A = sense(torch.from_numpy(maps).to(torch.complex64), mask, len(shape))
    y = A(truth)
    y = y + noise * A.mask * torch.from_numpy(rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape)).to(y.dtype)
    return Problem.pose(A, y).scaled()[0]


def objective(p: Problem, x: torch.Tensor, strength: float, wavelet: str) -> float:
    W = sp.linop.Wavelet(tuple(x.shape[2:]), wave_name=wavelet)
    coefficients = sum(float(np.abs(W(item[0].numpy())).sum()) for item in x)
    return float((p.A(x) - p.y).abs().square().sum()) / 2 + strength * coefficients


@pytest.mark.parametrize("n_maps", [1, 2])
def test_cg_sense_solves_the_regularised_normal_equation(n_maps):
    p = problem(n_maps=n_maps)
    x = cg_sense(p, 0.02, iterations=100, tolerance=1e-6)
    residual = p.A.normal(x) + 0.02 * x - p.AHy
    assert residual.norm() / p.AHy.norm() < 5e-6
    assert zero_filled(p) is p.AHy


def test_cg_sense_is_sigpy_s_sense_reconstruction():
    p = problem(batch=1)
    maps, y = p.A.maps[0, 0].numpy(), p.y[0].numpy()
    weights = np.broadcast_to(p.A.mask[0, 0].numpy(), y.shape[1:])
    theirs = sp.mri.app.SenseRecon(y, maps, lamda=0.02, weights=weights, max_iter=50, show_pbar=False).run()
    ours = cg_sense(p, 0.02, iterations=50, tolerance=0)[0, 0].numpy()
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-4


@pytest.mark.parametrize("shape", [(36, 32), (33, 30), (16, 16, 18)])
def test_l1_wavelet_is_sigpy_s_reconstruction_of_each_item(shape):
    p = problem(shape)
    ours = l1_wavelet(p, 0.02, iterations=30)
    for i in range(2):
        maps, y = p.A.maps[i, 0].numpy(), p.y[i].numpy()
        theirs = sp.mri.app.L1WaveletRecon(
            y, maps, 0.02, np.broadcast_to(p.A.mask[0, 0].numpy(), shape), alpha=1, max_iter=30, show_pbar=False
        ).run()
        error = np.linalg.norm(ours[i, 0].numpy() - theirs) / np.linalg.norm(theirs)
        assert error < 1e-4, f"relative difference {error:.1e} to sigpy"


def test_l1_wavelet_is_at_a_minimum_of_its_objective():
    p = problem(batch=1)
    x = l1_wavelet(p, 0.05, "haar", iterations=150)
    least = objective(p, x, 0.05, "haar")
    rng = np.random.default_rng(1)
    for size in (1e-3, 1e-2, 1e-1):
        step = torch.from_numpy(rng.normal(size=x.shape) + 1j * rng.normal(size=x.shape)).to(x.dtype)
        assert objective(p, x + size * step, 0.05, "haar") > least
        assert objective(p, x - size * (p.A.normal(x) - p.AHy), 0.05, "haar") > least - 1e-5 * least


def test_l1_wavelet_leaves_numpy_s_global_generator_and_its_inputs_alone():
    p = problem()
    state, y, AHy = np.random.get_state()[1].copy(), p.y.clone(), p.AHy.clone()
    first = l1_wavelet(p, 0.01, iterations=5)
    assert torch.equal(first, l1_wavelet(p, 0.01, iterations=5)) and first.dtype == torch.complex64
    assert (np.random.get_state()[1] == state).all() and torch.equal(p.y, y) and torch.equal(p.AHy, AHy)


def test_settings_that_mean_nothing_are_refused():
    p = problem()
    with pytest.raises(InputError, match="one set"):
        l1_wavelet(problem(n_maps=2), 0.1)
    with pytest.raises(InputError, match="orthogonal"):
        l1_wavelet(p, 0.1, "bior2.2")
    with pytest.raises(InputError, match="orthogonal"):
        l1_wavelet(p, 0.1, "db-4")
    with pytest.raises(InputError, match="strength=-1"):
        cg_sense(p, -1)
    with pytest.raises(InputError, match="strength=nan"):
        l1_wavelet(p, float("nan"))


@pytest.mark.skipif(
    "MRIRECON_DATA" not in os.environ, reason="MRIRECON_DATA does not name the folder of measured files"
)
def test_the_strengths_of_both_methods_have_an_optimum_inside_their_range_on_a_measured_brain():
    """With maps of the full data cropped to the head: CG-SENSE and tuned L1-wavelet reach the known PSNR at 4x."""
    from mrirecon.data.fastmri import read_kspace, read_volume
    from mrirecon.data.reconstructions import read_targets
    from mrirecon.metrics import psnr

    path = Path(os.environ["MRIRECON_DATA"]) / "brain_t2_4coil.h5"
    volume = read_volume(path)
    kspace = np.empty((volume.n_coils, *volume.shape), np.complex64)
    read_kspace(volume, 0, kspace)
    calibration = sp.mri.app.EspiritCalib(kspace, calib_width=20, crop=0.8, max_iter=30, show_pbar=False)
    maps = torch.from_numpy(np.asarray(calibration.run(), np.complex64))[None, None]
    mask = torch.zeros(1, 1, 1, 256)
    mask[..., 118:138] = 1
    mask[..., np.around(np.arange(1, 255, 4 * 236 / 176)).astype(int)] = 1  # equispaced_fraction, 4x, 0.08, offset 1
    p, scale = Problem.pose(sense(maps, mask), torch.from_numpy(kspace)[None] * mask).scaled()
    target = read_targets(path).images

    def best(method, strengths: list[float]) -> tuple[int, float]:
        scores = [psnr(target, (method(p, s) * scale)[0].abs().numpy()) for s in strengths]
        return int(np.argmax(scores)), max(scores)

    at, cg = best(cg_sense, [1e-3, 7e-3, 5e-2])
    assert at == 1 and 29.5 < cg < 31, f"CG-SENSE: {cg:.2f} dB"
    at, l1 = best(partial(l1_wavelet, iterations=60), [3e-4, 2e-3, 2e-2])
    assert at == 1 and 32.5 < l1 < 34, f"L1-wavelet: {l1:.2f} dB"
