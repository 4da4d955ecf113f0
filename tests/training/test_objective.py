"""What is minimised: its number type under autocast, its PSNR."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mrirecon.denoisers import ResNet
from mrirecon.losses import L1, SSIM, Loss
from mrirecon.metrics import psnr
from mrirecon.physics import Problem
from mrirecon.training.link import Local
from mrirecon.training.objective import Objective
from mrirecon.training.stages import stage_losses, stages_of
from mrirecon.unrolled import ModelBased, ProximalGradient, Unrolled
from tests.conftest import posed


@pytest.fixture
def problem() -> Problem:
    return posed((20, 18))[0]


def values(net: Unrolled, problem: Problem, loss: Loss) -> list[torch.Tensor]:
    reference = torch.ones(2, 20, 18) if loss.target == "rss" else torch.ones(2, 1, 20, 18, dtype=torch.complex64)
    minimised = Objective(
        loss, reference, torch.ones(2), (lambda x: x[:, 0].abs()) if loss.target == "rss" else lambda x: x
    )
    return [v for o in stage_losses(net, problem, minimised, stages_of(2, 1), Local()) for v in (o.loss, o.image)]


@pytest.mark.parametrize("loss", [L1(), SSIM()])
def test_under_autocast_only_the_cnn_is_in_half_precision(problem: Problem, loss: Loss) -> None:
    """FFTs, conjugate gradients, magnitudes and losses stay on an island of single precision, to the last bit."""
    island = Unrolled([ProximalGradient(nn.Identity()), ModelBased(nn.Identity())])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = values(island, problem, loss)
    for a, b in zip(mixed, values(island, problem, loss), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    torch.manual_seed(0)
    cnn = Unrolled([ProximalGradient(ResNet(4, 1)), ModelBased(ResNet(4, 1))])
    for step in cnn.steps:
        nn.init.normal_(step.denoiser.last.weight, std=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = values(cnn, problem, loss)
    for a, b in zip(mixed, values(cnn, problem, loss), strict=True):
        assert a.dtype == b.dtype and not torch.equal(a, b)
        assert torch.allclose(a, b, rtol=0.1, atol=0.1)


def test_psnr_is_that_of_the_metrics_by_item(problem: Problem) -> None:
    g = torch.Generator().manual_seed(2)
    target, image = torch.rand(2, 20, 18, generator=g), torch.rand(2, 20, 18, generator=g)
    peak = torch.tensor([1.5, 0.0])
    expected = [psnr(t[None].numpy(), i[None].numpy(), p) for t, i, p in zip(target, image, (1.5, None), strict=True)]
    assert float(Objective(L1(), target, peak).psnr(image)) == pytest.approx(sum(expected) / 2, rel=1e-5)
