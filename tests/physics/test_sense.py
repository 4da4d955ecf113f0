"""The fast SENSE operator against the plain composition, against sigpy, and through autograd."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import sigpy
import sigpy.mri
import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics import Coils, Fourier, LinearOperator, orthonormal, sense
from mrirecon.physics.sense import Sense, composed
from mrirecon.testing import complex_normal, relative_error

MASKS = {
    "lines": (1, 1, 1, 20),
    "rows": (1, 1, 15, 1),
    "points": (1, 1, 15, 20),
    "per item": (2, 1, 15, 20),
    "per coil": (1, 4, 15, 20),
    "all": (1, 1, 1, 1),
}


def problem(mask_shape: tuple[int, ...], n_sets: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    maps, _ = orthonormal(complex_normal((2, n_sets, 4, 15, 20), torch.complex128, seed=1))
    mask = (torch.rand(mask_shape, generator=torch.Generator().manual_seed(2)) < 0.5).double()
    x, y = complex_normal((2, n_sets, 15, 20), torch.complex128), complex_normal((2, 4, 15, 20), torch.complex128)
    return maps, torch.ones(mask_shape) if mask.numel() == 1 else mask, x, y


@pytest.fixture(params=[False, True], ids=["all coils at once", "two at a time"])
def coils_in_turn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not request.param:
        yield
        return
    monkeypatch.setattr(sys.modules[Sense.__module__], "_FEW_BYTES", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("coils_in_turn")
@pytest.mark.parametrize("n_sets", [1, 2])
@pytest.mark.parametrize("mask_shape", MASKS.values(), ids=MASKS)
def test_the_shift_free_operator_equals_mask_fourier_coils(mask_shape: tuple[int, ...], n_sets: int) -> None:
    maps, mask, x, y = problem(mask_shape, n_sets)
    fast, plain = sense(maps, mask), composed(maps, mask)
    errors = {
        "forward": relative_error(fast.forward(x), plain.forward(x)),
        "adjoint": relative_error(fast.adjoint(y), plain.adjoint(y)),
        "normal": relative_error(fast.normal(x), plain.normal(x)),
    }
    assert max(errors.values()) < 1e-13, errors


@pytest.mark.usefixtures("coils_in_turn")
@pytest.mark.parametrize("method", ["forward", "adjoint", "normal"])
@pytest.mark.parametrize("n_sets", [1, 2])
def test_gradients_reach_image_and_maps_through_the_products_in_place(method: str, n_sets: int) -> None:
    maps, mask, x, y = problem((2, 1, 1, 20), n_sets)
    at = y if method == "adjoint" else x
    weight = complex_normal(tuple(getattr(sense(maps, mask), method)(at).shape), torch.complex128, seed=7)

    def gradients(make: Callable[[Tensor, Tensor], LinearOperator]) -> tuple[Tensor, ...]:
        leaves = maps.clone().requires_grad_(), at.clone().requires_grad_()
        loss = (weight.conj() * getattr(make(leaves[0], mask), method)(leaves[1])).real.sum()
        return torch.autograd.grad(loss, leaves)

    for found, expected in zip(gradients(Sense), gradients(composed), strict=True):
        assert relative_error(found, expected) < 1e-13


def test_second_derivatives_exist() -> None:
    maps, mask, x, _ = problem((1, 1, 1, 20))
    A = sense(maps, mask)
    x.requires_grad_()
    (first,) = torch.autograd.grad(A.normal(x).abs().square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.abs().square().sum(), x)
    # f = |N x|^2 has gradient 2 N^2 x, and |2 N^2 x|^2 has gradient 8 N^4 x.
    expected = x.detach()
    for _ in range(4):
        expected = A.normal(expected)
    assert relative_error(second, 8 * expected) < 1e-12


def test_a_lazily_conjugated_input_is_left_alone() -> None:
    maps, mask, _, y = problem((1, 1, 1, 20))
    kept = y.clone()
    for A in (sense(maps, mask), Coils(maps)):
        assert relative_error(A.adjoint(y.conj()), A.adjoint(y.conj().resolve_conj())) < 1e-14
        assert torch.equal(y, kept)


@pytest.mark.parametrize("shape", [(15, 20), (16, 9), (5, 6, 7)])
def test_fourier_is_the_centred_transform_of_sigpy(shape: tuple[int, ...]) -> None:
    x = complex_normal((2, 3, *shape), torch.complex128)
    axes = tuple(range(-len(shape), 0))
    F = Fourier(len(shape))
    assert relative_error(F.forward(x), torch.from_numpy(sigpy.fft(x.numpy(), axes=axes))) < 1e-14
    assert relative_error(F.adjoint(x), torch.from_numpy(sigpy.ifft(x.numpy(), axes=axes))) < 1e-14


@pytest.mark.parametrize("mask_shape", [(1, 1, 1, 20), (1, 1, 15, 20)], ids=["lines", "points"])
def test_sense_is_that_of_sigpy(mask_shape: tuple[int, ...]) -> None:
    maps, mask, x, y = problem(mask_shape)
    A = sense(maps, mask)
    for item in range(2):
        weights = np.broadcast_to(mask[0, 0].numpy(), (15, 20))
        theirs = sigpy.mri.linop.Sense(maps[item, 0].numpy(), weights=weights)
        errors = {
            "forward": relative_error(A.forward(x)[item], torch.from_numpy(theirs * x[item, 0].numpy())),
            "adjoint": relative_error(A.adjoint(y)[item, 0], torch.from_numpy(theirs.H * y[item].numpy())),
            "normal": relative_error(A.normal(x)[item, 0], torch.from_numpy(theirs.N * x[item, 0].numpy())),
        }
        assert max(errors.values()) < 1e-13, errors


def test_an_image_or_kspace_that_does_not_fit_the_maps_is_refused() -> None:
    maps, mask, x, y = problem((1, 1, 1, 20))
    A = sense(maps, mask)
    for image in (x.expand(2, 2, 15, 20), x[:, 0], x[..., :1], x[:1].expand(3, -1, -1, -1)):
        for method in (A.forward, A.normal):
            with pytest.raises(InputError, match=r"image \(batch, map, .* expected \(2, 1, 15, 20\)"):
                method(image)
    with pytest.raises(InputError, match=r"k-space .* expected \(2, 4, 15, 20\)"):
        A.adjoint(y[:, :1])


@pytest.mark.usefixtures("coils_in_turn")
def test_a_real_image_is_seen_as_a_complex_one() -> None:
    maps, mask, x, _ = problem((1, 1, 1, 20))
    A = sense(maps, mask)
    assert relative_error(A.normal(x.real), A.normal(x.real.to(x.dtype))) < 1e-14


def test_a_mask_of_another_batch_is_refused() -> None:
    maps, mask, x, _ = problem((1, 1, 1, 20))
    A = sense(maps[:1], mask.expand(3, -1, -1, -1))
    for method in (A.forward, A.normal):
        with pytest.raises(InputError, match=r"expected \(3, 1, 15, 20\) for maps"):
            method(x)


@pytest.mark.parametrize("value", [0.5, 3.0, float("nan"), -1.0])
def test_a_mask_of_other_values_than_0_and_1_is_refused(value: float) -> None:
    maps, mask, _, _ = problem((1, 1, 15, 20))
    for make in (lambda m: sense(maps, m), lambda m: composed(maps, m)):
        with pytest.raises(InputError, match="expected only 0 and 1"):
            make(torch.where(mask > 0, value, 0.0))
