"""Simulated volumes: what is stored as the truth is what the k-space was made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrirecon.errors import InputError
from mrirecon.simulation.phantoms import SHARES, Anatomy, draw_phantom
from mrirecon.simulation.tissues import draw_contrast
from mrirecon.simulation.volumes import band_limited, image_of, kspace_of, simulate_volume

SMALL = (48, 40)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_noise_is_all_that_separates_kspace_from_the_truth_seen_by_the_maps() -> None:
    volume = simulate_volume((1, 2), 3, 5, (64, 51), readout_oversampling=2)
    noise = volume.kspace - kspace_of(volume.maps * volume.truth[:, None])
    samples = noise.transpose(1, 0, 2, 3).reshape(5, -1)
    measured = samples @ samples.conj().T / samples.shape[1]
    assert relative(measured, volume.covariance) < 0.03
    assert abs(samples.mean()) < 0.02 * samples.std()


def test_without_noise_the_rss_is_the_magnitude_of_the_truth() -> None:
    volume = simulate_volume((3,), 2, 4, SMALL, snr=1e9)
    assert relative(volume.reconstruction_rss, np.abs(volume.truth)) < 1e-5
    assert np.allclose(np.sum(np.abs(volume.maps) ** 2, axis=1), 1, atol=1e-5)


def test_snr_is_the_mean_signal_over_the_deviation_per_real_channel() -> None:
    volume = simulate_volume((4,), 1, 6, (128, 128), snr=30.0)
    image = np.sum(volume.maps.conj() * image_of(volume.kspace), axis=1)
    brightness = np.abs(volume.truth)
    body = brightness > 0.1 * brightness.max()
    sigma = np.std((image - volume.truth)[body]) / np.sqrt(2)
    # The combination weighs coils of unlike noise and coupling, the definition takes their mean.
    assert 0.6 < brightness[body].mean() / sigma / 30.0 < 1.6


@pytest.mark.parametrize("anatomy", SHARES)
def test_same_seed_gives_the_same_bytes_and_another_seed_another_object(anatomy: Anatomy) -> None:
    first, again, other = (
        simulate_volume(seed, 1, (2, 9), SMALL, anatomy=anatomy) for seed in ((5, 0, 1), (5, 0, 1), (5, 1, 1))
    )
    assert first.kspace.tobytes() == again.kspace.tobytes()
    assert first.truth.dtype == first.kspace.dtype == np.complex64
    assert relative(np.abs(other.truth), np.abs(first.truth)) > 0.3


@pytest.mark.parametrize("anatomy", SHARES)
@pytest.mark.parametrize("seed", range(3))
def test_no_object_leaves_the_field_of_view(anatomy: Anatomy, seed: int) -> None:
    truth = np.abs(simulate_volume((6, seed), 1, 2, (96, 64), anatomy=anatomy).truth[0])
    border = np.concatenate([truth[:2].ravel(), truth[-2:].ravel(), truth[:, :2].ravel(), truth[:, -2:].ravel()])
    assert border.max() < 0.15 * truth.max(), "more than ringing at the border"
    assert np.mean(truth > 0.1 * truth.max()) > 0.08, "next to nothing in the field of view"


def test_neighbouring_slices_are_like_each_other_and_not_the_same() -> None:
    truth = np.abs(simulate_volume((7,), 3, 4, (128, 128), anatomy="head").truth)
    near, far = (np.corrcoef(truth[0].ravel(), truth[i].ravel())[0, 1] for i in (1, 2))
    assert 0.999 > near > far > 0.5


@pytest.mark.parametrize("anatomy", SHARES)
def test_an_object_scaled_by_two_is_the_object_seen_with_pixels_half_as_large(anatomy: Anatomy) -> None:
    rng = np.random.default_rng(8)
    phantom = draw_phantom(rng, anatomy, draw_contrast(rng)[1], (1.0, 1.0))
    scaled = band_limited(phantom, SMALL, 0.0, 2 / 40, scale=2.0)
    assert relative(scaled, band_limited(phantom, SMALL, 0.0, 1 / 40)) < 1e-5


@pytest.mark.parametrize("anatomy", SHARES)
def test_a_finer_matrix_sees_the_same_object(anatomy: Anatomy) -> None:
    rng = np.random.default_rng(9)
    phantom = draw_phantom(rng, anatomy, draw_contrast(rng)[1], (1.0, 1.0))
    coarse, fine = (band_limited(phantom, (n, n), 0.1, 2 / n) for n in (96, 192))
    low = image_of(kspace_of(fine)[48:144, 48:144]) / 2
    assert relative(low, coarse) < 0.06


@pytest.mark.parametrize(
    "wrong", [{"n_coils": 0}, {"n_coils": 33}, {"n_coils": (4, 2)}, {"snr": 0.0}, {"n_slices": 0}, {"shape": (4, 64)}]
)
def test_impossible_volumes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        simulate_volume((0,), **wrong)


def test_a_scaled_object_has_the_noise_and_the_intensities_of_the_usual_one() -> None:
    settings: dict[str, Any] = {"n_slices": 2, "n_coils": 4, "shape": (96, 96), "anatomy": "head"}
    usual, larger = (simulate_volume((11,), scale=s, coil_scale=s / 0.6, **settings) for s in (0.6, 0.8))
    noises = [v.kspace - kspace_of(v.maps * v.truth[:, None]) for v in (usual, larger)]
    assert relative(noises[1], noises[0]) < 1e-2  # rounding: k-space is single precision
    assert np.array_equal(usual.covariance, larger.covariance)
    bodies = [np.abs(v.truth)[np.abs(v.truth) > 0.3 * np.abs(v.truth).mean()] for v in (usual, larger)]
    assert np.median(bodies[1]) == pytest.approx(np.median(bodies[0]), rel=0.1)


def test_coils_stay_with_a_larger_patient_and_grow_with_smaller_pixels() -> None:
    settings: dict[str, Any] = {"n_slices": 1, "n_coils": 4, "shape": (65, 65), "anatomy": "head"}
    usual, patient, pixels = (
        simulate_volume((12,), scale=scale, coil_scale=coils, **settings)
        for scale, coils in ((0.5, 1.0), (1.0, 1.0), (1.0, 2.0))
    )
    assert relative(patient.maps, usual.maps) < 0.2  # the slice lies at another height
    # Twice as large, pixel 32 + 2k sees what pixel 32 + k saw.
    assert relative(pixels.maps[..., ::2, ::2], usual.maps[..., 16:49, 16:49]) < 1e-4
    assert relative(patient.maps[..., ::2, ::2], usual.maps[..., 16:49, 16:49]) > 0.1


@pytest.mark.parametrize("scale", [{"scale": 0.0}, {"scale": 5.0}, {"coil_scale": -1.0}, {"scale": float("nan")}])
def test_impossible_scales_are_refused(scale: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"0.1 to 4 times"):
        simulate_volume((0,), **scale)
