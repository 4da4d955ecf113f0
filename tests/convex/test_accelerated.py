"""Accelerated proximal gradients: their iterates, their metrics, and that they end where they should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch import Tensor

from mrirecon.convex.accelerated import Squares, accelerated
from mrirecon.convex.first_order import solve_first_order
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.metric import Euclidean, GramMetric, Metric, PatchMetric, guarded, sampled
from mrirecon.convex.operator import GatedOperator, PatchRows
from mrirecon.convex.working_set import solve
from mrirecon.errors import InputError
from tests.convex.programs import matrix, objective, program, random


def by_the_formulas(A: Tensor, b: Tensor, beta: float, seen: Counter[str]) -> Iterator[Tensor]:
    """Beck and Teboulle's iterates with a matrix A (n, variable), steps that shrink and grow, and restarts."""

    def value(v: Tensor) -> float:
        return float((A @ v.reshape(-1) - b).square().sum()) / 2 + beta * float(v.norm(dim=1).sum())

    x = z = torch.zeros(12, 4, dtype=A.dtype)
    t = step = 1.0
    while True:
        g = (A.T @ (A @ z.reshape(-1) - b)).reshape(z.shape)
        while True:
            u = z - step * g
            new = u * (1 - step * beta / u.norm(dim=1, keepdim=True)).clamp_min(0)
            moved = new - z
            bound, excess = float(moved.square().sum()) / (2 * step), float((A @ moved.reshape(-1)).square().sum()) / 2
            if excess <= bound:
                break
            step *= 0.8
            seen["shorter"] += 1
        if value(new) > value(x) and t > 1:
            z, t = x, 1.0
            seen["uphill"] += 1
            continue
        t_new = (1 + (1 + 4 * t**2) ** 0.5) / 2
        if float(((z - new) * (new - x)).sum()) > 0:
            z, t_new = new, 1.0
            seen["restarted"] += 1
        else:
            z = new + (t - 1) / t_new * (new - x)
        x, t = new, t_new
        yield x
        if bound > 5 * excess:
            step *= 1.25
            seen["longer"] += 1


@pytest.mark.parametrize("seed", [0, 1])
def test_iterates_are_those_of_the_formulas(seed: int) -> None:
    p, seen = program(n=60, gates=12, fraction=0.5, seed=seed), Counter[str]()
    expected = by_the_formulas(matrix(p.K).flatten(1), p.b, p.beta, seen)
    found = accelerated(p.K, p.b, Squares(), p.beta, torch.zeros(12, 4, dtype=torch.float64), Euclidean())
    for x, iterate in islice(zip(expected, found, strict=False), 150):
        torch.testing.assert_close(iterate.x, x, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(iterate.r, p.K.forward(iterate.x) - p.b)
        assert iterate.objective == pytest.approx(objective(p, iterate.x), rel=1e-12)
    assert set(seen) == {"shorter", "longer", "restarted", "uphill"}


@pytest.mark.parametrize("metric", [None, Euclidean()])
def test_alone_they_come_to_the_same_certified_minimum(metric: Metric | None) -> None:
    p, seen = program(n=60, gates=12), []
    found = solve_first_order(p, 1e-6, metric=metric, report=seen.append)
    best = solve(p, 1e-9)
    assert found.certificate.gap <= 1e-6 and seen[-1] == found.certificate
    assert best.certificate.dual <= found.certificate.primal <= best.certificate.primal * (1 + 1e-6)
    torch.testing.assert_close(found.filters, best.filters, rtol=1e-2, atol=1e-4)
    again = solve_first_order(p, 1e-6, start=found.filters, metric=metric)
    assert again.certificate.gap <= 1e-6
    p = LeastSquares(GatedOperator(PatchRows(p.K.patches.rows.float()), p.K.gates.float()), p.b.float(), p.beta)
    with pytest.raises(InputError, match=r"and no further, 1.0e-12 was asked for"):
        solve_first_order(p, 1e-12, metric=metric)


def test_single_precision_does_not_wear_steps_down() -> None:
    """Where iterates hardly move any more, rounding must not be taken for curvature."""
    p = program(n=200, gates=12, fraction=0.05)
    single = type(p)(type(p.K)(type(p.K.patches)(p.K.patches.rows.float()), p.K.gates.float()), p.b.float(), p.beta)
    start = torch.zeros(12, 4, dtype=torch.float64)
    last = list(islice(accelerated(single.K, single.b, Squares(), p.beta, start, Euclidean()), 3000))[-1]
    early = next(islice(accelerated(single.K, single.b, Squares(), p.beta, start, Euclidean()), 20, None))
    assert last.step > early.step / 20
    assert objective(p, last.x) == pytest.approx(solve(p, 1e-9).certificate.primal, rel=1e-6)


def test_what_is_not_finite_ends_with_a_reason() -> None:
    p = program()
    p.K.patches.rows[3, 1] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        next(accelerated(p.K, p.b, Squares(), p.beta, random(12, 4), Euclidean()))


@pytest.mark.parametrize("metric", ["euclidean", "patches"])
def test_a_metric_changes_the_way_but_not_the_optimum(metric: str) -> None:
    p = program(n=200, gates=20, fraction=0.05)
    Y = p.K.patches.rows
    steps = {"euclidean": Euclidean(), "patches": PatchMetric(Y.T @ Y)}[metric]
    best = solve(p, 1e-10).certificate.primal
    start = torch.zeros(20, 4, dtype=torch.float64)
    last = objective(p, start)
    for number, x in enumerate(accelerated(p.K, p.b, Squares(), p.beta, start, steps)):
        assert x.objective <= last * (1 + 1e-12), f"iteration {number} rose"
        last = x.objective
        if last <= best * (1 + 1e-8):
            break
        assert number < 20_000
    assert objective(p, x.x) == pytest.approx(best, rel=1e-7)
    proof, _ = p.certify(x.x, torch.arange(20))
    assert proof.gap < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_a_proximal_step_minimises_its_function(seed: int) -> None:
    root = random(5, 5, seed=seed)
    M, u = root.T @ root + 0.01 * torch.eye(5, dtype=torch.float64), random(30, 5, seed=seed + 10)
    g = random(30, 5, seed=seed + 20)
    for metric, N in ((Euclidean(), torch.eye(5, dtype=torch.float64)), (PatchMetric(M), M)):
        threshold = float((u @ N - 0.7 * g).norm(dim=1).median())
        v = metric.step(u, g, 0.7, threshold / 0.7)
        pull, norms = (u - v) @ N - 0.7 * g, v.norm(dim=1, keepdim=True)
        on = norms[:, 0] > 0
        assert on.any() and not on.all()
        torch.testing.assert_close(pull[on], (threshold * v / norms)[on])
        assert (pull[~on].norm(dim=1) <= threshold * (1 + 1e-12)).all()
        assert metric.inner(u, v) == pytest.approx(float(((u @ N) * v).sum()))
    whole = GramMetric(torch.kron(torch.eye(30, dtype=torch.float64), M).reshape(30, 5, 30, 5))
    again = whole.step(u, g, 0.7, threshold / 0.7)
    assert (again - v).norm() < 1e-3 * v.norm()
    assert whole.inner(u, v) == pytest.approx(metric.inner(u, v))


@pytest.mark.parametrize("large", [1, 10**9])
def test_many_samples_are_solved_by_a_metric_of_some(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its Newton steps use a factor again or not."""
    p = program(n=3000, gates=20, fraction=0.05)
    best = solve(p, 1e-10)
    monkeypatch.setattr("mrirecon.convex.newton_steps.LARGE", large)
    monkeypatch.setattr("mrirecon.convex.metric.SAMPLED", 600)
    calls: list[Tensor | None] = []
    gram = type(p.K).gram

    def counted(K: object, at: Tensor, others: Tensor, weights: Tensor | None = None) -> Tensor:
        calls.append(weights)
        return gram(K, at, others, weights)

    monkeypatch.setattr(type(p.K), "gram", counted)
    found = solve(p, 1e-8)
    assert calls and all(weights is not None for weights in calls)
    assert found.certificate.gap <= 1e-8
    torch.testing.assert_close(found.filters, best.filters, rtol=1e-2, atol=1e-4 * float(best.filters.abs().max()))


def test_some_samples_weigh_as_much_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrirecon.convex.metric.SAMPLED", 1500)
    p = program(n=6000, gates=3)
    weights = sampled(p.K)
    assert weights is not None and 0.2 < float((weights > 0).double().mean()) < 0.3
    everything = torch.arange(3)
    whole, part = p.K.gram(everything, everything), p.K.gram(everything, everything, weights)
    assert float((whole - part).norm() / whole.norm()) < 0.2
    assert sampled(program(n=2000).K) is None


def test_no_direction_is_missing_from_a_metric_of_few_samples() -> None:
    p = program(n=60, gates=3)
    weights = torch.zeros(60, dtype=torch.float64)
    weights[:2] = 30.0  # two patches of four taps
    Q = p.K.gram(torch.arange(3), torch.arange(3), weights)
    assert float(torch.linalg.eigvalsh(Q.reshape(12, 12))[0]) < 1e-9
    moments = p.K.moments()
    assert float(torch.linalg.eigvalsh(guarded(Q, moments).reshape(12, 12))[0]) > 1e-3 * float(moments.diagonal().min())
