"""Newton steps near the minimum of a dense group lasso, against the interior-point method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mrirecon.convex.group_lasso import minimise_quadratic, quadratic_gap
from mrirecon.convex.metric import GramMetric
from mrirecon.convex.newton_steps import NewtonSteps
from mrirecon.convex.refined import refined
from mrirecon.errors import InputError


@pytest.fixture(autouse=True, params=[1, 4000])
def _whether_factors_are_used_again(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrirecon.convex.newton_steps.LARGE", request.param)


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
    return quadratic_gap(v, torch.einsum("iajb,jb->ia", Q, v), c, beta, constant)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("part", [0.5, 0.1, 0.01])
def test_from_near_the_minimum_steps_reach_it_as_the_interior_point_method_does(seed: int, part: float) -> None:
    Q, c, constant = quadratic(seed)
    beta = part * float(c.norm(dim=1).max())
    exact = minimise_quadratic(Q, c, beta, constant, 1e-12)
    noise = torch.randn(c.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    near = exact + 1e-4 * exact.norm(dim=1, keepdim=True) * noise
    assert gap(near, Q, c, beta, constant) > 1e-10

    v, reached = refined(near, NewtonSteps(Q), c, beta, lambda v: gap(v, Q, c, beta, constant), 1e-12)

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

    v, reached = refined(wrong, NewtonSteps(Q), c, beta, lambda v: gap(v, Q, c, beta, constant), 1e-12)

    assert reached <= 1e-12
    assert torch.equal(v.any(1), exact.any(1))


@pytest.mark.parametrize("part", [0.8, 0.97, 1.01])
def test_from_zero_nothing_is_lost(part: float) -> None:
    """Near the strength from which on all is zero, zero is near the minimum."""
    Q, c, constant = quadratic(4)
    beta, zero = part * float(c.norm(dim=1).max()), torch.zeros_like(c)
    v, _ = refined(zero, NewtonSteps(Q), c, beta, lambda v: gap(v, Q, c, beta, constant), 1e-12)
    assert torch.equal(v, zero)
    step = GramMetric(Q).step(zero, -c, 1.0, beta)
    torch.testing.assert_close(step, minimise_quadratic(Q, c, beta, constant, 1e-10), rtol=1e-3, atol=1e-7)


def test_a_metric_that_rounding_made_indefinite_is_mended_or_refused() -> None:
    Q, _, _ = quadratic(5)
    matrix = Q.reshape(60, 60) / float(Q.reshape(60, 60).diagonal().mean())
    low = torch.linalg.eigvalsh(matrix)[0] * torch.eye(60, dtype=torch.float64)
    slightly = (matrix - low - 1e-7 * torch.eye(60, dtype=torch.float64)).reshape(Q.shape)
    mended = GramMetric(slightly)
    v = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert mended.inner(v, v) > 0
    with pytest.raises(InputError, match="double precision"):
        GramMetric((matrix - low - 0.01 * torch.eye(60, dtype=torch.float64)).reshape(Q.shape))


def test_from_far_away_the_best_on_the_way_is_given_with_its_gap() -> None:
    Q, c, constant = quadratic(2)
    beta = 0.01 * float(c.norm(dim=1).max())
    far = torch.ones_like(c)
    at_first = gap(far, Q, c, beta, constant)

    v, reached = refined(far, NewtonSteps(Q), c, beta, lambda v: gap(v, Q, c, beta, constant), 1e-12)

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
