"""The laws of a linear operator, stated once for every operator of the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics import Adjoint, Coils, Composed, Fourier, LinearOperator, Mask, orthonormal, sense
from mrirecon.physics.sense import composed
from mrirecon.testing import LAWS, assert_linear_operator, complex_normal, relative_error


def maps_of(*shape: int, dtype: torch.dtype, seed: int = 10) -> Tensor:
    """Orthonormal maps (batch, map, coil, *space) without any structure."""
    return orthonormal(complex_normal(shape, dtype, seed))[0]


def mask_of(*shape: int, seed: int = 20) -> Tensor:
    mask = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()
    mask.view(-1)[0] = 1  # never empty
    return mask


@dataclass(frozen=True)
class Case:
    make: Callable[[torch.dtype], LinearOperator]
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]


# Odd and non-square sizes, batches of 2, more coils than maps.
CASES = {
    "Fourier over one axis": Case(lambda t: Fourier(1), (2, 1, 5, 9), (2, 1, 5, 9)),
    "Fourier over two axes": Case(lambda t: Fourier(2), (2, 3, 7, 12), (2, 3, 7, 12)),
    "Fourier over three axes": Case(lambda t: Fourier(3), (2, 3, 4, 7, 5), (2, 3, 4, 7, 5)),
    "Coils": Case(lambda t: Coils(maps_of(2, 1, 4, 9, 6, dtype=t)), (2, 1, 9, 6), (2, 4, 9, 6)),
    "Coils, two sets": Case(lambda t: Coils(maps_of(2, 2, 4, 9, 6, dtype=t)), (2, 2, 9, 6), (2, 4, 9, 6)),
    "Coils, not normalised": Case(lambda t: Coils(complex_normal((2, 2, 4, 9, 6), t)), (2, 2, 9, 6), (2, 4, 9, 6)),
    "Coils, one map for the batch": Case(lambda t: Coils(maps_of(1, 2, 4, 9, 6, dtype=t)), (2, 2, 9, 6), (2, 4, 9, 6)),
    "Mask": Case(lambda t: Mask(mask_of(2, 1, 1, 12)), (2, 4, 7, 12), (2, 4, 7, 12)),
    "Sense, lines": Case(
        lambda t: sense(maps_of(2, 1, 4, 13, 10, dtype=t), mask_of(1, 1, 1, 10)), (2, 1, 13, 10), (2, 4, 13, 10)
    ),
    "Sense, lines along the other axis": Case(
        lambda t: sense(maps_of(2, 1, 4, 13, 10, dtype=t), mask_of(1, 1, 13, 1)), (2, 1, 13, 10), (2, 4, 13, 10)
    ),
    "Sense, points": Case(
        lambda t: sense(maps_of(2, 1, 4, 14, 9, dtype=t), mask_of(1, 1, 14, 9)), (2, 1, 14, 9), (2, 4, 14, 9)
    ),
    "Sense, everything measured": Case(
        lambda t: sense(maps_of(2, 1, 4, 11, 8, dtype=t), torch.ones(1, 1, 1, 1)), (2, 1, 11, 8), (2, 4, 11, 8)
    ),
    "Sense, a mask per item": Case(
        lambda t: sense(maps_of(2, 1, 4, 12, 15, dtype=t), mask_of(2, 1, 1, 15)), (2, 1, 12, 15), (2, 4, 12, 15)
    ),
    "Sense, a mask per coil": Case(
        lambda t: sense(maps_of(2, 1, 4, 12, 7, dtype=t), mask_of(1, 4, 1, 7)), (2, 1, 12, 7), (2, 4, 12, 7)
    ),
    "Sense, two map sets": Case(
        lambda t: sense(maps_of(2, 2, 5, 9, 12, dtype=t), mask_of(2, 1, 1, 12)), (2, 2, 9, 12), (2, 5, 9, 12)
    ),
    "Sense, three axes": Case(
        lambda t: sense(maps_of(2, 1, 3, 6, 5, 8, dtype=t), mask_of(1, 1, 1, 5, 8), 3), (2, 1, 6, 5, 8), (2, 3, 6, 5, 8)
    ),
    "Composed": Case(
        lambda t: composed(maps_of(2, 2, 4, 7, 10, dtype=t), mask_of(1, 1, 1, 10)), (2, 2, 7, 10), (2, 4, 7, 10)
    ),
    "Adjoint": Case(
        lambda t: sense(maps_of(2, 1, 4, 7, 10, dtype=t), mask_of(1, 1, 1, 10)).H, (2, 4, 7, 10), (2, 1, 7, 10)
    ),
}
PRECISIONS = {"float32": torch.complex64, "float64": torch.complex128}


@pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_operator_obeys_the_laws(case: Case, dtype: torch.dtype) -> None:
    assert_linear_operator(case.make(dtype), case.x_shape, case.y_shape, dtype)


@pytest.mark.parametrize("name", [name for name in CASES if name != "Coils, not normalised"])
def test_no_operator_is_longer_than_one(name: str) -> None:
    case = CASES[name]
    A = case.make(torch.complex128)
    n = torch.Size(case.x_shape[1:]).numel()
    columns = torch.eye(n, dtype=torch.complex128).reshape(n, *case.x_shape[1:])
    matrix = torch.stack([A.forward(column.expand(case.x_shape))[0].flatten() for column in columns], 1)
    length = float(torch.linalg.matrix_norm(matrix, 2))
    assert length <= 1 + 1e-12, f"||A|| = {length}"


def test_the_adjoint_of_the_adjoint_is_the_operator_itself() -> None:
    A = Fourier(2)
    assert A.H.H is A
    assert isinstance(A.H, Adjoint)
    assert isinstance(A @ A.H, Composed)


class Wrong(LinearOperator):
    """Breaks one law at a time."""

    def __init__(self, broken: str) -> None:
        self.broken = broken

    def forward(self, x: Tensor) -> Tensor:
        if self.broken == "linearity":
            return x.abs().to(x.dtype) + x
        if self.broken == "change_of_inputs":
            return x.mul_(2) / 2
        if self.broken == "gradient_is_adjoint":
            return x.detach() + 0 * x
        return 2j * x if self.broken == "adjointness" else x

    def adjoint(self, y: Tensor) -> Tensor:
        return 2j * y if self.broken == "adjointness" else y

    def normal(self, x: Tensor) -> Tensor:
        if self.broken == "normal_is_adjoint_of_forward":
            return 2 * x
        return -4 * x if self.broken == "adjointness" else x


@pytest.mark.parametrize("law", [law for law in LAWS if law.__name__ != "adjoint_of_the_adjoint"])
def test_a_broken_law_is_measured(law: Callable[[LinearOperator, Tensor, Tensor], float]) -> None:
    A = Wrong(law.__name__)
    x, y = complex_normal((2, 1, 5, 6)), complex_normal((2, 1, 5, 6), seed=1)
    error = law(A, x, y)
    assert error > 0.1, f"{law.__name__} passed a wrong operator: error {error}"
    with pytest.raises(AssertionError, match="relative error"):
        assert_linear_operator(Wrong(law.__name__), (2, 1, 5, 6), (2, 1, 5, 6))


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(AssertionError, match=r"forward: shape \(2, 1, 5, 6\), expected \(2, 3, 5, 6\)"):
        assert_linear_operator(Fourier(2), (2, 1, 5, 6), (2, 3, 5, 6))


@pytest.mark.parametrize("n_sets", [1, 2])
def test_orthonormal_maps_have_the_identity_as_gram_matrix_except_where_they_vanish(n_sets: int) -> None:
    given = complex_normal((2, n_sets, 5, 6, 7), torch.complex128) * 3
    given[:, :, :, 0] = 0  # outside the support
    maps, changed = orthonormal(given)
    assert changed
    gram = torch.einsum("bechw,bfchw->bhwef", maps.conj(), maps)
    expected = torch.eye(n_sets, dtype=gram.dtype).expand_as(gram).clone()
    expected[:, 0] = 0
    assert relative_error(gram, expected) < 1e-13
    again, changed = orthonormal(maps)
    assert not changed
    assert again is maps


def test_a_set_that_vanishes_beside_another_stays_zero() -> None:
    given = complex_normal((1, 2, 5, 4, 4), torch.complex128)
    given[:, 1, :, 2] = 0
    maps, _ = orthonormal(given)
    assert relative_error(maps[:, 0, :, 2].abs().square().sum(1), torch.ones(1, 4, dtype=torch.float64)) < 1e-13
    assert float(maps[:, 1, :, 2].abs().max()) < 1e-13


def test_maps_that_were_not_orthonormal_are_normalised_with_a_warning() -> None:
    maps = complex_normal((1, 2, 4, 6, 7))
    with pytest.warns(UserWarning, match="not orthonormal"):
        A = sense(maps, torch.ones(1, 1, 1, 7))
    assert relative_error(A.maps, orthonormal(maps)[0]) == 0


@pytest.mark.parametrize(
    ("maps_shape", "mask_shape", "named"),
    [
        ((1, 4, 6, 7), (1, 1, 1, 7), "maps"),
        ((1, 1, 4, 6, 7), (1, 1, 1, 8), "mask"),
        ((1, 1, 4, 6, 7), (7,), "mask"),
        ((1, 1, 4, 6, 7), (1, 3, 1, 7), "mask"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    maps_shape: tuple[int, ...], mask_shape: tuple[int, ...], named: str
) -> None:
    with pytest.raises(InputError, match=f"{named}.*expected"):
        sense(complex_normal(maps_shape), torch.ones(mask_shape))
