"""Newton steps whose matrix is not factored every time, against the same by a factor of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mrirecon.convex import newton_steps
from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.groups import part
from mrirecon.convex.metric import GramMetric
from mrirecon.convex.newton_steps import NewtonSteps
from tests.convex.test_refined import quadratic

GROUPS, TAPS = 20, 5


@pytest.fixture(autouse=True)
def _any_matrix_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton_steps, "LARGE", 1)


def posed(at: Tensor, seed: int, bend: float = 10.0) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients, directions and beta / ||v|| of groups."""
    generator = torch.Generator().manual_seed(seed)
    g, n = (torch.randn(GROUPS, TAPS, generator=generator, dtype=torch.float64)[at] for _ in range(2))
    bends = bend * torch.rand(GROUPS, generator=generator, dtype=torch.float64)[at]
    return g, n / n.norm(dim=1, keepdim=True), bends


def exact(Q: Tensor, at: Tensor, g: Tensor, n: Tensor, bends: Tensor) -> Tensor:
    H = torch.block_diag(
        *(b * (torch.eye(TAPS, dtype=Q.dtype) - torch.outer(x, x)) for b, x in zip(bends, n, strict=True))
    )
    return -torch.linalg.solve(H + part(Q, at).reshape(g.numel(), -1), g.reshape(-1)).reshape(g.shape)


def test_after_few_groups_came_or_went_a_factor_still_gives_the_step() -> None:
    Q, _, _ = quadratic(0, GROUPS, TAPS, samples=400)
    newton, first = NewtonSteps(Q), torch.arange(1, GROUPS - 2)
    g, n, bends = posed(first, 1)
    torch.testing.assert_close(newton.step(first, part(Q, first), g, n, bends), exact(Q, first, g, n, bends))
    kept = newton.factor
    assert kept is not None
    at = torch.cat([torch.arange(3), torch.arange(5, GROUPS)])  # 3 and 4 went; 0 and the last two came
    g, n, bends = posed(at, 1)
    bends *= 1.1
    step = newton.step(at, part(Q, at), g, n, bends)
    assert step is not None
    assert newton.factor is kept
    torch.testing.assert_close(step, exact(Q, at, g, n, bends), rtol=0, atol=1e-3 * float(step.abs().max()))


def test_a_factor_of_another_matrix_is_replaced() -> None:
    Q, _, _ = quadratic(2, GROUPS, TAPS)
    newton, at = NewtonSteps(Q), torch.arange(GROUPS)
    g, n, bends = posed(at, 3, bend=1e9)
    newton.step(at, Q, g, n, bends)
    kept = newton.factor
    assert kept is not None
    g, n, bends = posed(at, 4, bend=1e-3)
    step = newton.step(at, Q, g, n, bends)
    assert newton.factor is not kept
    torch.testing.assert_close(step, exact(Q, at, g, n, bends))


def test_there_is_no_step_where_the_matrix_is_not_positive_definite() -> None:
    Q, _, _ = quadratic(5, GROUPS, TAPS)
    at = torch.arange(GROUPS)
    g, n, bends = posed(at, 6)
    newton = NewtonSteps(-Q)
    assert newton.step(at, -Q, g, n, bends) is None
    newton = NewtonSteps(Q)
    assert newton.step(at, Q, g, n, bends) is not None and newton.factor is not None
    assert newton.step(at, -Q, g, n, bends) is None


@pytest.mark.parametrize("seed", range(4))
def test_proximal_steps_are_the_same_whether_factors_are_used_again_or_not(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Q, c, _ = quadratic(seed)
    beta = 0.05 * float(c.norm(dim=1).max())
    factored: list[int] = []
    factor = torch.linalg.cholesky_ex

    def counted(H: Tensor) -> tuple[Tensor, Tensor]:
        factored[-1] += 1
        return factor(H)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", counted)
    ends = []
    for large in (1, 10**9):
        monkeypatch.setattr(newton_steps, "LARGE", large)
        factored.append(0)
        metric = GramMetric(Q)
        z = minimise_quadratic(Q, c, beta, 1e3 * float(c.norm()), 1e-3)
        for _ in range(5):
            z = metric.step(z, (Q.reshape(60, 60) @ z.reshape(-1)).reshape(c.shape) - c, 0.8, beta)
        ends.append(z)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-4 * float(z.abs().max()))
    assert factored[0] < factored[1]
