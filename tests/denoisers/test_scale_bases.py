"""Bases: what they consist of, and that their error of equivariance is what a convolution's is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrirecon.denoisers.scales import Basis, Dilated, Hermite, ScaleConv, Zoomed
from mrirecon.denoisers.scales.hermite import gaussian
from mrirecon.denoisers.scales.resampling import low_passed, natural_images, resampled
from mrirecon.errors import InputError
from mrirecon.testing import relative_error, resampling_error, scale_equivariance_error

SETTINGS: list[dict[str, Any]] = [
    {"kernel_size": 15, "order": 7, "base": 1.5, "ratio": 2 ** (1 / 3)},
    {"kernel_size": 15, "order": 7, "base": 1.5, "ratio": 2 ** (1 / 3), "kind": "B"},
    {"kernel_size": 13, "order": 3},
    {"n_scales": 4, "kernel_size": 21, "base": 0.9, "order": 2, "ratio": 1.6},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_hermite_functions_have_unit_norm_at_the_finest_scale_and_one_integral_at_all(settings: dict[str, Any]) -> None:
    found = Hermite(**settings).functions(2)
    assert torch.allclose(found[0].square().sum((1, 2)), torch.ones(len(found[0]), dtype=torch.float64))
    # phi(x; s) = phi(x / s) / s keeps its integral; a sum over pixels is one as far as pixels resolve the function.
    for f in found[1:]:
        assert torch.allclose(f.sum((1, 2)), found[0].sum((1, 2)), atol=0.05 * float(found[0].sum((1, 2)).abs().max()))


def test_hermite_functions_of_unlike_order_are_orthogonal_under_the_weight_of_their_polynomials() -> None:
    x, s = np.arange(-40, 41), 4.0
    phi = np.stack([gaussian(n, x, s) for n in range(5)])
    gram = phi @ np.diag(np.exp(x**2 / (2 * s**2))) @ phi.T
    expected = np.diag([1, 1, 2, 6, 24]) * np.sqrt(2 * np.pi) / s
    assert np.allclose(gram, expected, atol=1e-9)


def test_type_b_repeats_low_orders_at_finer_scales_and_both_types_have_as_many_functions() -> None:
    a, b = (Hermite(kernel_size=15, order=4, base=1.5, kind=kind).functions(2)[0] for kind in ("A", "B"))
    assert a.shape[0] == b.shape[0] == 16
    assert float(b[15].flatten() @ b[0].flatten()) < 0.99  # the same Gaussian, narrower
    assert b[15].square().flatten().max() > b[0].square().flatten().max()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_every_kernel_of_the_finest_scale_is_learnt_as_an_ordinary_one(ndim: int) -> None:
    taps = Zoomed(3, 1.4).functions(ndim)[0]
    assert torch.equal(taps.flatten(1), torch.eye(3**ndim, dtype=torch.float64))


def test_kernels_zoomed_by_two_are_nearly_the_dilated_ones() -> None:
    _, z = Zoomed(2, 2.0, kernel_sizes=(3, 9)).functions(1)
    dilated = torch.zeros(3, 9, dtype=torch.float64)
    dilated[[0, 1, 2], [2, 4, 6]] = 1
    images = natural_images((4, 1, 256), band=0.5).real.double()
    wanted, found = (torch.nn.functional.conv1d(images, f.unsqueeze(1)) for f in (dilated, z))
    assert relative_error(found, wanted) < 0.01


BASES: list[Basis] = [
    Dilated(),
    Dilated(2),
    Dilated(3, ratio=3),
    Dilated(3, kernel_size=5),
    Zoomed(),
    Zoomed(3, 1.4, kernel_sizes=(3, 5, 7)),
    Zoomed(3, 1.4, kernel_size=5),
    *[Hermite(**settings) for settings in SETTINGS],
]


@pytest.mark.parametrize("basis", BASES)
def test_the_error_of_a_basis_is_that_of_a_lifting_convolution(basis: Basis) -> None:
    torch.manual_seed(0)
    lifting = ScaleConv(2, 40, basis)
    torch.nn.init.zeros_(lifting.bias)

    def lifted(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return lifting(torch.cat([x.real, x.imag], 1))

    found = max(scale_equivariance_error(lifted, basis.ratio**n, places=n) for n in range(1, basis.n_scales))
    assert found <= 0.01, "the bound of a layer"
    # Much enlarged, an image has but a few pixels of the original to compare.
    assert found < 4 * basis.error + 1e-3 and basis.error < 4 * found


@pytest.mark.parametrize("basis", BASES)
def test_kernels_hold_no_more_pixels_than_they_need(basis: Basis) -> None:
    for f in basis.functions(2):
        outermost = max(float(f[..., 0, :].abs().max()), float(f[..., 0].abs().max()))
        assert outermost > 1e-3 * float(f.abs().max())


def dilated(**settings: Any) -> Dilated:
    """With whatever Python lets one say."""
    return Dilated(**settings)


def test_a_law_that_finds_an_ordinary_convolution_wanting() -> None:
    torch.manual_seed(0)
    ordinary = torch.nn.Conv2d(2, 40, 3, padding=1, bias=False)
    found = scale_equivariance_error(lambda x: ordinary(torch.cat([x.real, x.imag], 1)), 1.4)
    assert found > 0.02


@pytest.mark.parametrize("scale", [0.7, 1.25, 2.0])
def test_resampling_is_exact_for_waves_and_its_own_error_is_small(scale: float) -> None:
    n = 63
    p = torch.arange(n, dtype=torch.float64) - n // 2
    for k in (3, -7):
        wave = torch.exp(2j * torch.pi * k / n * p)
        assert relative_error(resampled(wave, scale, 1), torch.exp(2j * torch.pi * k / n * p / scale)) < 1e-12
    white = torch.randn(1, 1, 16, 15, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    assert relative_error(resampled(white, 1.0), white) < 1e-12
    x = natural_images((1, 1, 64, 48), band=0.6, dtype=torch.complex128)
    assert relative_error(low_passed(x, 0.61), x) < 1e-12
    assert resampling_error(scale) < 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hermite(kernel_size=7), "kernel_size=9 would do"),
        (lambda: Hermite(base=0.4), "raise base, which is 0.4 pixels"),
        (lambda: Hermite(8, 1.6, 11), "use fewer scales"),
        (lambda: Zoomed(4, 3.0), "use fewer scales, or a ratio nearer to 1"),
        (lambda: Hermite(kernel_size=6), "must be odd"),
        (lambda: Hermite(order=0), "order=0"),
        (lambda: Zoomed(3, 1.4, kernel_sizes=(3, 3, 3)), r"kernel_sizes=\[3, 5, "),
        (lambda: Zoomed(3, 1.4, kernel_sizes=(3, 5)), "3 odd widths"),
        (lambda: Zoomed(3, 1.4, kernel_sizes=(3, 4, 5)), "3 odd widths"),
        (lambda: Zoomed(kernel_size=4), "must be odd"),
        (lambda: Zoomed(0), "n_scales is 0"),
        (lambda: dilated(ratio=1.5), "see Zoomed"),
        (lambda: Dilated(12), "use fewer scales"),
        (lambda: Dilated(kernel_size=4), "must be odd"),
        (lambda: Zoomed(3, 1.0), "ratio is 1.0"),
        (lambda: Zoomed(3, float("nan")), "ratio is nan"),
    ],
)
def test_impossible_bases_are_refused_with_what_would_do(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
