"""Scores: fastMRI's numbers, and volumes that arrive slice by slice."""

import os
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mrirecon.errors import InputError
from mrirecon.metrics import VolumeMetrics, body_mask, nmse, psnr, psnr_inside, score, ssim, ssim_inside


def volumes(seed: int = 0, shape: tuple[int, int, int] = (3, 40, 32)) -> tuple[np.ndarray, np.ndarray]:
    """Target and prediction in fastMRI's units and number type; slices of different brightness."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(size=shape).cumsum(-1) * np.arange(1, 1 + shape[0])[:, None, None] * 1e-6
    return target.astype(np.float32), (target + rng.normal(size=shape) * 2e-6).astype(np.float32)


def fastmri_s_scores(target: np.ndarray, prediction: np.ndarray) -> tuple[float, float, float]:
    """The formulas of fastMRI's evaluate.py, written again."""
    peak = target.max()
    return (
        np.linalg.norm(target - prediction) ** 2 / np.linalg.norm(target) ** 2,
        peak_signal_noise_ratio(target, prediction, data_range=peak),
        sum(structural_similarity(target[i], prediction[i], data_range=peak) for i in range(len(target))) / len(target),
    )


def test_scores_equal_fastmri_s_formulas():
    target, prediction = volumes(shape=(3, 32, 32))
    np.testing.assert_allclose(score(target, prediction), fastmri_s_scores(target, prediction), rtol=1e-7)
    assert score(target, prediction) == (nmse(target, prediction), psnr(target, prediction), ssim(target, prediction))


def test_target_and_prediction_are_cropped_to_the_target_s_width_first():
    target, prediction = volumes(shape=(2, 45, 31))
    wide = np.pad(prediction, ((0, 0), (4, 4), (3, 3)), constant_values=1)
    expected = fastmri_s_scores(target[:, 7:38], prediction[:, 7:38])
    np.testing.assert_allclose(score(target, wide), expected, rtol=1e-7)


def test_the_data_range_is_the_volume_s_so_a_dark_slice_scores_lower_errors_than_alone():
    target, prediction = volumes()
    assert psnr(target[:1], prediction[:1]) < psnr(target[:1], prediction[:1], peak=float(target.max()))


def test_a_perfect_prediction_scores_0_inf_1_without_warning():
    target, _ = volumes()
    assert score(target, target) == (0.0, float("inf"), 1.0)


@pytest.mark.parametrize(
    ("target", "prediction", "message"),
    [
        (np.ones((2, 9, 9)), np.ones((3, 9, 9)), r"\(3, 9, 9\)"),
        (np.ones((9, 9)), np.ones((9, 9)), "slices"),
        (np.ones((2, 9, 9)), np.ones((2, 8, 9)), "at least"),
        (np.ones((2, 6, 6)), np.ones((2, 6, 6)), "7x7"),
        (np.zeros((2, 9, 9)), np.ones((2, 9, 9)), "nowhere above zero"),
        (np.ones((2, 9, 9)), np.ones((2, 9, 9), complex), "magnitude"),
    ],
)
def test_volumes_that_cannot_be_scored_are_refused(target, prediction, message):
    with pytest.raises(InputError, match=message):
        score(target, prediction)


def test_scores_inside_everything_are_those_of_the_whole_image():
    target, prediction = volumes()
    everywhere = np.ones(target.shape, bool)
    assert psnr_inside(target, prediction, everywhere) == pytest.approx(psnr(target, prediction), abs=1e-5)
    assert ssim_inside(target, prediction, everywhere) == pytest.approx(ssim(target, prediction), abs=1e-6)


def test_errors_outside_the_body_do_not_change_the_scores_inside():
    target, prediction = volumes()
    mask = np.zeros(target.shape, bool)
    mask[:, 10:30, 8:24] = True
    other = prediction.copy()
    other[:, :6] += 1  # farther away than SSIM's window reaches
    assert psnr_inside(target, prediction, mask) == psnr_inside(target, other, mask)
    assert ssim_inside(target, prediction, mask) == pytest.approx(ssim_inside(target, other, mask), abs=1e-6)


def test_the_body_mask_is_the_body_with_its_holes_and_without_the_air():
    y, x = np.mgrid[:128, :100]
    inside = ((y - 60) / 50) ** 2 + ((x - 48) / 36) ** 2 < 1
    hole = (y - 60) ** 2 + (x - 48) ** 2 < 15**2
    speck = (y < 6) & (x > 93)
    rng = np.random.default_rng(0)
    image = np.hypot((inside & ~hole) * 1.0 + speck + 0.08 * rng.normal(size=x.shape), 0.08 * rng.normal(size=x.shape))
    mask = body_mask(image)
    overlap = 2 * np.count_nonzero(mask & inside) / (np.count_nonzero(mask) + np.count_nonzero(inside))
    assert overlap > 0.97 and mask[hole].all() and not mask[speck].any()
    assert (mask == body_mask(1e-6 * image)).all()
    with pytest.raises(InputError, match="magnitude"):
        body_mask(np.zeros((9, 9)))


@pytest.mark.skipif(
    "MRIRECON_DATA" not in os.environ, reason="MRIRECON_DATA does not name the folder of measured files"
)
def test_the_body_mask_of_a_measured_head_is_one_ellipse_of_half_the_image():
    image = np.abs(np.load(Path(os.environ["MRIRECON_DATA"]) / "brain_t2_complex_image.npy"))
    mask = body_mask(image)
    assert 0.45 < mask.mean() < 0.6 and not mask[[0, -1]].any()
    assert np.median(image[mask]) > 5 * np.median(image[~mask])


def test_volumes_that_arrive_in_slices_in_any_order_score_as_whole_volumes():
    whole = {name: volumes(seed, (4, 32, 32)) for seed, name in enumerate(("a", "b", "c"))}
    metrics = VolumeMetrics()
    order = [(name, i) for name in whole for i in range(4)]
    np.random.default_rng(0).shuffle(order)
    for name, i in [*((n, int(i)) for n, i in order), ("a", 0), ("b", 3)]:  # a padded batch repeats slices
        target, prediction = whole[name]
        metrics.update(name, i, 4, prediction[i], target[i])
    assert metrics.volumes() == {name: score(*whole[name]) for name in metrics.volumes()}
    means, number = metrics.compute()
    assert number == 3
    np.testing.assert_allclose(means, np.mean([score(*pair) for pair in whole.values()], axis=0), rtol=1e-12)


def test_a_volume_of_which_only_some_slices_came_is_scored_over_those():
    target, prediction = volumes(shape=(5, 32, 32))
    metrics = VolumeMetrics()
    for i in (3, 1, 3):
        metrics.update("a", i, 5, prediction[i], target[i])
    assert metrics.volumes() == {"a": score(target[[1, 3]], prediction[[1, 3]])}
    assert metrics.volumes() == metrics.volumes(), "reading the scores changed them"


def test_only_unfinished_volumes_stay_in_memory_and_without_the_batch_they_came_in():
    target, prediction = volumes(shape=(2, 32, 32))
    metrics = VolumeMetrics()
    metrics.update("a", 0, 2, prediction[0], target[0])
    held = metrics._unfinished["a"].slices[0]
    assert all(array.base is None for array in held)
    metrics.update("a", 1, 2, prediction[1], target[1])
    assert not metrics._unfinished


def test_a_slice_cropped_otherwise_than_its_target_is_refused():
    with pytest.raises(InputError, match="slice 2 of knee: prediction"):
        VolumeMetrics().update("knee", 2, 4, np.ones((32, 32)), np.ones((32, 30)))
    with pytest.raises(InputError, match="no volume"):
        VolumeMetrics().compute()
