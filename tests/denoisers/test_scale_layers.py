"""Layers over features at several scales: what they compute, and their gradients."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from mrirecon.denoisers.convolution import CONVOLVE
from mrirecon.denoisers.scales import (
    AtEachScale,
    Basis,
    ChannelNorm,
    Dilated,
    ScaleBlock,
    ScaleConv,
    Zoomed,
    padded,
    project,
    project_rectified,
)
from mrirecon.denoisers.scales.padding import PADDINGS, Padding
from mrirecon.testing import relative_error


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Differences across the kink of a ReLU are no slope: none is met with this seed."""
    torch.manual_seed(0)


def test_a_convolution_over_scales_is_the_sum_it_is_said_to_be() -> None:
    basis = Zoomed(3, 1.4)
    conv = ScaleConv(2, 5, basis, extent=3).double()
    z = tuple(torch.randn(1, 2, 16, 16, dtype=torch.float64) for _ in range(3))
    functions = basis.functions(2)
    for i, found in enumerate(conv(z)):
        wanted = conv.bias.view(1, -1, 1, 1).expand(1, 5, 16, 16).clone()
        for j in (-1, 0, 1):
            if 0 <= i + j < 3:
                kernel = torch.einsum("oin,nyx->oiyx", conv.weight[j + 1], functions[i])
                r = kernel.shape[-1] // 2
                padded = torch.nn.functional.pad(z[i + j], [r] * 4, mode="circular")
                wanted += torch.nn.functional.conv2d(padded, kernel)
        assert relative_error(found, wanted) < 1e-6  # the functions are kept in single precision


@pytest.mark.parametrize("projection", ["mean", "max"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_block_is_what_it_is_said_to_be(ndim: int, projection: Literal["mean", "max"]) -> None:
    block = ScaleBlock(3, 2, Dilated(2), None, ndim, projection=projection, normalize=True).double()
    x = torch.randn(2, 3, *(12, 13, 14)[:ndim], dtype=torch.float64)
    h = torch.stack([z.relu() for z in block.lifting(block.norm(x))])
    wanted = block.second(h.mean(0) if projection == "mean" else h.amax(0))
    assert relative_error(block(x), x + wanted) < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 2, 21, 20), (1, 2, 20, 21), (2, 2, 20, 20), (2, 2, 10, 9, 8)])
def test_taps_with_holes_and_a_blur_are_the_functions_of_the_basis(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    ndim = len(shape) - 2
    basis = Dilated(3 if ndim == 2 else 2)
    layer = ScaleConv(2, 3, basis, ndim).to(dtype)
    x = torch.randn(shape, dtype=dtype)
    x = (x.contiguous(memory_format=torch.channels_last) if ndim == 2 else x).requires_grad_()
    for found, functions in zip(layer(x), basis.functions(ndim), strict=True):
        kernel = torch.einsum("oin,n...->oi...", layer.weight[0], functions.to(dtype))
        padded = torch.nn.functional.pad(x, [kernel.shape[-1] // 2] * 2 * ndim, mode="circular")
        wanted = CONVOLVE[ndim](padded, kernel, layer.bias)
        assert relative_error(found, wanted) < 1e-6  # functions in single precision
        direction, leaves = torch.randn_like(wanted), (x, *layer.parameters())
        gradients = (torch.autograd.grad(y, leaves, direction, retain_graph=True) for y in (found, wanted))
        for one, other in zip(*gradients, strict=True):
            assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("ndim", "shape"), [(2, (9, 12)), (3, (4, 6, 5))])
def test_what_is_kept_for_the_backward_pass_is_enough_for_it(
    ndim: int, shape: tuple[int, ...], padding: Padding
) -> None:
    layer = ScaleConv(1, 2, Dilated(2), ndim, rectify=True, padding=padding).double()
    x = torch.randn(2, 1, *shape, dtype=torch.float64).requires_grad_()

    def f(x: Tensor) -> Tensor:
        return project_rectified(layer(x), "mean")

    assert torch.autograd.gradcheck(f, x)
    if ndim == 2:  # in 3-D it takes a quarter of a minute
        assert torch.autograd.gradgradcheck(f, x)
    for weight in layer.parameters():
        direction, step = torch.randn_like(weight), 1e-6
        (slope,) = torch.autograd.grad(f(x).square().sum(), weight)
        values = []
        with torch.no_grad():
            for sign in (1, -2):
                weight += sign * step * direction
                values.append(float(f(x).square().sum()))
            weight += step * direction
        assert float((slope * direction).sum()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 2, 20, 17), (1, 1, 4, 15, 6)])
def test_gradients_of_wide_kernels_are_put_together_of_parts(shape: tuple[int, ...]) -> None:
    ndim, step = len(shape) - 2, 2
    size = [15, 17] if ndim == 2 else [3, 15, 3]
    x = torch.randn(
        *shape[:2], *(n + (k - 1) * step for n, k in zip(shape[2:], size, strict=True)), dtype=torch.float64
    )
    weight = torch.randn(3, shape[1], *size, dtype=torch.float64).requires_grad_()
    y = CONVOLVE[ndim](x, weight, dilation=step)
    direction = torch.randn_like(y)
    (wanted,) = torch.autograd.grad(y, weight, direction)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = padded._of_weight(direction.to(dtype), x.to(dtype), weight.detach().to(dtype), step)
        assert relative_error(found.double(), wanted) < tolerance


@pytest.mark.parametrize("basis", [Dilated(2), Zoomed(2, 1.4)])
@pytest.mark.parametrize("batch", [1, 2])
def test_features_may_be_changed_in_place(basis: Basis, batch: int) -> None:
    x = torch.randn(batch, 3, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer = ScaleConv(3, 2, basis)
    rectified = AtEachScale(torch.nn.ReLU(inplace=True))(layer(x))
    wanted = [z.relu() for z in layer(x)]
    of_x = [torch.autograd.grad(sum(z.square().sum() for z in y), x)[0] for y in (rectified, wanted)]
    assert relative_error(*of_x) < 1e-6


def test_layers_for_networks_of_your_own() -> None:
    z = tuple(torch.randn(1, 3, 8, 8) for _ in range(2))
    pointwise = AtEachScale(torch.nn.Conv2d(3, 5, 1))
    assert torch.equal(pointwise(z)[1], pointwise.module(z[1]))
    normalized = ChannelNorm(3)(z[0])
    assert torch.allclose(normalized.square().mean(1), torch.ones(1, 8, 8), atol=1e-3)
    assert torch.equal(project(z, "max"), torch.maximum(*z))
    assert torch.allclose(project(z, "mean"), (z[0] + z[1]) / 2)
