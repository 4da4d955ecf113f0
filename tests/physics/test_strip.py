"""A strip of rows is the whole problem, seen through those rows."""

from __future__ import annotations

import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.physics import Problem, Sense, sense, strip
from mrirecon.testing import complex_normal, relative_error


def problem_of(mask: torch.Tensor) -> tuple[Problem, torch.Tensor]:
    maps = complex_normal((2, 1, 3, 11, 8), torch.complex128, seed=1)
    maps = maps / maps.abs().square().sum(2, keepdim=True).sqrt()
    x = complex_normal((2, 1, 11, 8), torch.complex128, seed=2)
    A = sense(maps, mask)
    return Problem.pose(A, A(x)), x


@pytest.mark.parametrize(("start", "n"), [(0, 11), (3, 4), (10, 1)])
def test_the_strip_of_the_problem_is_the_problem_of_the_strip(start: int, n: int) -> None:
    whole, x = problem_of((torch.arange(8) % 3 == 0).double().view(1, 1, 1, 8))
    part = strip(whole, start, n)
    rows = (..., slice(start, start + n), slice(None))
    assert isinstance(part.A, Sense) and part.AHy.shape == (2, 1, n, 8)
    assert relative_error(part.A.normal(x[rows]), whole.A.normal(x)[rows]) < 1e-12
    assert relative_error(part.A(x[rows]), part.y) < 1e-12
    assert relative_error(part.A.adjoint(part.y), part.AHy) < 1e-12


def test_a_mask_that_depends_on_the_row_is_refused() -> None:
    whole, _ = problem_of(torch.ones(1, 1, 11, 8).double())
    with pytest.raises(InputError, match="a mask of whole columns"):
        strip(whole, 0, 4)
