"""Newton steps near the minimum of a dense group lasso, against the interior-point method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mrirecon.convex.group_lasso import minimise_quadratic, relative_gap
from mrirecon.convex.refined import refined


def quadratic(seed: int, groups: int = 12, taps: int = 5, samples: int = 90) -> tuple[Tensor, Tensor, float]:
    """Q, c and 1/2 ||b||^2 of random gated patches whose first tap is much the strongest, as a mean is."""
    generator = torch.Generator().manual_seed(seed)
    Y = torch.randn(samples, taps, generator=generator, dtype=torch.float64)
    Y[:, 0] = 30 + 3 * Y[:, 0]
    open_ = (torch.rand(samples, groups, generator=generator) < 0.5).double()
    A = (open_[:, :, None] * Y[:, None, :]).flatten(1)
    b = torch.randn(samples, generator=generator, dtype=torch.float64)
    return (A.T @ A).reshape(groups, taps, groups, taps), (A.T @ b).reshape(groups, taps), float(b @ b) / 2


def gap(v: Tensor, Q: Tensor, c: Tensor, beta: float, constant: float) -> float:
    return relative_gap(v, torch.einsum("iajb,jb->ia", Q, v), c, beta, constant)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("part", [0.5, 0.1, 0.01])
def test_from_near_the_minimum_steps_reach_it_as_the_interior_point_method_does(seed: int, part: float) -> None:
    Q, c, constant = quadratic(seed)
    beta = part * float(c.norm(dim=1).max())
    exact = minimise_quadratic(Q, c, beta, constant, 1e-12)
    noise = torch.randn(c.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    near = exact + 1e-4 * exact.norm(dim=1, keepdim=True) * noise
    assert gap(near, Q, c, beta, constant) > 1e-10

    v, reached = refined(near, Q, c, beta, lambda v: gap(v, Q, c, beta, constant), 1e-12)

    assert reached <= 1e-12
    assert reached == pytest.approx(gap(v, Q, c, beta, constant), abs=1e-15)
    assert torch.equal(v.any(1), exact.any(1))
    torch.testing.assert_close(v, exact, rtol=1e-5, atol=1e-6 * float(exact.abs().max()))


@pytest.mark.parametrize("what", ["missing", "short", "long"])
def test_a_group_that_is_missing_comes_and_one_too_many_goes(what: str) -> None:
    Q, c, constant = quadratic(1)
    beta = 0.1 * float(c.norm(dim=1).max())
    exact = minimise_quadratic(Q, c, beta, constant, 1e-12)
    lengths, wrong = exact.norm(dim=1), exact.clone()
    if what == "missing":
        wrong[torch.where(lengths > 0, lengths, torch.inf).argmin()] = 0
    else:
        wrong[lengths.argmin()] = {"short": 1e-5, "long": 1e-2}[what] * lengths.max()

    v, reached = refined(wrong, Q, c, beta, lambda v: gap(v, Q, c, beta, constant), 1e-12)

    assert reached <= 1e-12
    assert torch.equal(v.any(1), exact.any(1))


def test_from_far_away_the_best_on_the_way_is_given_with_its_gap() -> None:
    Q, c, constant = quadratic(2)
    beta = 0.01 * float(c.norm(dim=1).max())
    far = torch.ones_like(c)
    at_first = gap(far, Q, c, beta, constant)

    v, reached = refined(far, Q, c, beta, lambda v: gap(v, Q, c, beta, constant), 1e-12)

    assert reached <= at_first
    assert reached == pytest.approx(gap(v, Q, c, beta, constant), abs=1e-12)


@pytest.mark.parametrize("start", ["none", "near", "far"])
def test_where_the_interior_point_method_starts_does_not_change_the_minimum(start: str) -> None:
    Q, c, constant = quadratic(3)
    beta = 0.05 * float(c.norm(dim=1).max())
    exact = minimise_quadratic(Q, c, beta, constant, 1e-12)
    given = {"none": None, "near": 1.001 * exact, "far": torch.ones_like(c)}[start]
    guess = exact.any(1) & (torch.arange(len(c)) > 0)

    v = minimise_quadratic(Q, c, beta, constant, 1e-10, guess, given)

    assert gap(v, Q, c, beta, constant) <= 1e-10
    torch.testing.assert_close(v, exact, rtol=1e-3, atol=1e-5 * float(exact.abs().max()))
