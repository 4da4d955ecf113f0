"""The residual CNN as a denoiser of complex images."""

from __future__ import annotations

import pytest
import torch

from mrirecon.denoisers import ResNet
from mrirecon.denoisers.denoiser import to_channels, to_complex


@pytest.mark.parametrize(("ndim", "shape"), [(2, (11, 14)), (3, (5, 6, 7))])
@pytest.mark.parametrize("n_maps", [1, 2])
def test_an_untrained_network_is_the_identity(ndim: int, shape: tuple[int, ...], n_maps: int) -> None:
    x = torch.randn(2, n_maps, *shape, dtype=torch.complex64)
    assert torch.equal(ResNet(channels=4, n_maps=n_maps, ndim=ndim)(x), x)


def test_channels_and_complex_images_are_inverse() -> None:
    x = torch.randn(3, 2, 4, 5, dtype=torch.complex64)
    assert torch.equal(to_complex(to_channels(x)), x)
    assert to_channels(x).shape == (3, 4, 4, 5)


def test_half_precision_channels_give_a_complex64_image() -> None:
    assert to_complex(torch.zeros(1, 2, 4, 4, dtype=torch.bfloat16)).dtype == torch.complex64


def test_shifting_the_image_shifts_the_result() -> None:
    torch.manual_seed(0)
    net = ResNet(channels=4, n_blocks=1)
    torch.nn.init.normal_(net.last.weight)
    x = torch.zeros(1, 1, 24, 24, dtype=torch.complex64)
    x[..., 10:13, 10:13] = torch.randn(3, 3, dtype=torch.complex64)
    shifted = net(x.roll((2, 3), (-2, -1)))
    interior = (..., slice(6, -6), slice(6, -6))
    assert torch.allclose(shifted[interior], net(x).roll((2, 3), (-2, -1))[interior], atol=1e-5)
