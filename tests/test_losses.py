"""Losses: the numbers they are, and gradients that training can follow."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mrirecon.losses import L1, L2, SSIM, Loss, MagnitudeL1, PartsL1


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape)).cumsum(-1).cumsum(-2)


def test_ssim_is_one_minus_the_mean_of_skimage_s_with_each_item_s_own_peak():
    x, y = images(0, 3, 33, 20), images(1, 3, 33, 20)
    peak = torch.tensor([300.0, 5.0, 1000.0], dtype=torch.float64)
    theirs = [
        structural_similarity(b.numpy(), a.numpy(), data_range=float(p)) for a, b, p in zip(x, y, peak, strict=True)
    ]
    assert abs(float(SSIM()(x, y, peak)) - (1 - np.mean(theirs))) < 1e-10


def test_ssim_in_single_precision_is_right_in_the_scanner_s_small_units():
    x, y = images(0, 1, 64, 64), images(1, 1, 64, 64)
    exact = SSIM()(x, y, y.amax((1, 2)))
    small, other = (1e-9 * x).float(), (1e-9 * y).float()
    assert abs(float(SSIM()(small, other, other.amax((1, 2))) - exact)) < 1e-4


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="7x7"):
        SSIM()(torch.ones(1, 6, 9), torch.ones(1, 6, 9), torch.ones(1))


def test_complex_losses_are_means_over_all_pixels_and_see_the_phase():
    x, y = (
        torch.complex(images(0, 2, 1, 9, 7), images(1, 2, 1, 9, 7)),
        torch.complex(images(2, 2, 1, 9, 7), images(3, 2, 1, 9, 7)),
    )
    peak = torch.ones(2)
    assert torch.allclose(L1()(x, y, peak), (x - y).abs().mean())
    assert torch.allclose(L2()(x, y, peak), (x - y).abs().square().mean())
    assert torch.allclose(PartsL1()(x, y, peak), ((x - y).real.abs() + (x - y).imag.abs()).mean())
    assert L1()(x, 1j * x, peak) > 0


@pytest.mark.parametrize("loss", [L1(), PartsL1(), L2(), MagnitudeL1(), SSIM()], ids=lambda loss: type(loss).__name__)
def test_a_loss_is_zero_at_its_target_with_a_finite_gradient_and_falls_along_it(loss: Loss):
    shape = (2, 1, 16, 12) if loss.target == "sense" else (2, 16, 12)
    y = images(0, *shape)
    y[:, ..., :4] = 0  # as outside the maps' support
    peak = torch.full((2,), float(y.max()), dtype=torch.float64)
    x = y.clone().to(torch.complex128 if loss.target == "sense" else torch.float64).requires_grad_()
    at_target = loss(x, y.to(x.dtype), peak)
    at_target.backward()
    assert abs(at_target.item()) < 1e-12 and torch.isfinite(torch.view_as_real(x.grad.cdouble())).all()

    away = (x.detach() + images(5, *shape) / 50).requires_grad_()
    before = loss(away, y.to(x.dtype), peak)
    before.backward()
    after = loss(away.detach() - 1e-4 * away.grad / away.grad.abs().max(), y.to(x.dtype), peak)
    assert after.item() < before.item()


def test_ssim_s_gradient_is_its_derivative():
    x, y = images(0, 1, 9, 8).requires_grad_(), images(1, 1, 9, 8)
    assert torch.autograd.gradcheck(lambda z: SSIM()(z, y, torch.full((1,), 40.0, dtype=torch.float64)), (x,))
