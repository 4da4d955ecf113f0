"""The program under absolute loss: its optimum by other means, and what its certificates say."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from mrirecon.convex.followed import Followed
from mrirecon.convex.groups import Some
from mrirecon.convex.interior import Path
from mrirecon.convex.least_absolute import LeastAbsolute
from mrirecon.convex.multipliers import Rounded
from mrirecon.convex.operator import GatedOperator, PatchRows
from mrirecon.convex.path import path
from mrirecon.convex.working_set import Solution, solve
from mrirecon.errors import InputError
from tests.convex.programs import Follows, matrix, program, random, smoothing


def absolute(n: int = 200, d: int = 4, gates: int = 40, fraction: float = 0.1) -> LeastAbsolute:
    p = program(n, d, gates)
    unit = LeastAbsolute(p.K, p.b, 1.0)
    return unit.at(fraction * unit.largest_strength)


def objective(p: LeastAbsolute, v: Tensor) -> float:
    r = torch.einsum("nij,ij->n", matrix(p.K), v) - p.b
    return float(r.abs().sum()) + p.beta * float(v.norm(dim=1).sum())


def optimum(A: Tensor, b: Tensor, beta: float) -> float:
    """Of a matrix A (n, group, tap), by cvxpy and Clarabel."""
    cvxpy = pytest.importorskip("cvxpy", reason="cvxpy is in the extra `test`")
    v = cvxpy.Variable(A.shape[1:])
    loss = cvxpy.norm1(A.flatten(1).numpy() @ cvxpy.vec(v, order="C") - b.numpy())
    problem = cvxpy.Problem(cvxpy.Minimize(loss + beta * cvxpy.sum(cvxpy.norm(v, axis=1))))
    return float(problem.solve(solver=cvxpy.CLARABEL))


@pytest.mark.parametrize("fraction", [0.9, 0.3, 0.03, 0.001])
@pytest.mark.parametrize("first", [8, 1500])
def test_a_solution_is_certified(fraction: float, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a working set of two groups at first, and with all."""
    monkeypatch.setattr("mrirecon.convex.working_set.FIRST", first)
    p = absolute(fraction=fraction)
    v, proof = (solution := solve(p, 1e-7)).filters, solution.certificate
    assert objective(p, v) == pytest.approx(proof.primal)
    assert proof.gap + 1e-14 >= 0 and proof.gap <= 1e-7
    assert proof.active == int((v.norm(dim=1) > 0).sum()) and (proof.active < 40 or fraction < 0.01)
    for seed in range(20):  # no other point is below the dual value
        assert objective(p, v + 10.0 ** (-seed / 2) * random(40, 4, seed=seed)) >= proof.dual
    assert proof.subgradient < 0.01 * p.beta


@pytest.mark.parametrize("fraction", [0.3, 0.05])
def test_it_agrees_with_cvxpy(fraction: float) -> None:
    p = absolute(n=80, gates=10, fraction=fraction)
    solution = solve(p, 1e-7)
    best = optimum(matrix(p.K), p.b, p.beta)
    assert solution.certificate.primal == pytest.approx(best, rel=1e-6)
    assert solution.certificate.dual == pytest.approx(best, rel=1e-6)


def test_an_ill_conditioned_program_is_solved_to_its_gap() -> None:
    """Directions of the patches differ by 10^5 in size, their squares by 10^10."""
    p = absolute(n=300, d=6, gates=12)
    Y = p.K.patches.rows * torch.logspace(0, -5, 6, dtype=torch.float64)
    K = GatedOperator(PatchRows(Y), p.K.gates)
    for fraction in (0.5, 1e-2, 1e-4):
        q = LeastAbsolute(K, p.b, 1.0)
        q = q.at(fraction * q.largest_strength)
        proof = solve(q, 1e-7).certificate
        assert -1e-12 < proof.gap <= 1e-7
    best = optimum(matrix(K), p.b, 1e-2 * q.largest_strength)
    assert solve(q.at(1e-2 * q.largest_strength), 1e-7).certificate.primal == pytest.approx(best, rel=1e-5)


def test_the_objective_falls_from_round_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrirecon.convex.working_set.FIRST", 8)
    seen: list[Solution] = []
    solve(absolute(fraction=0.02), 1e-7, report=seen.append)
    values = [solution.certificate.primal for solution in seen]
    assert len(values) > 3
    assert all(b <= a for a, b in pairwise(values)), values


def test_a_bound_holds_at_every_step_and_its_gap_closes() -> None:
    p = absolute(n=100, gates=10)
    way = Path(Some(p.K, torch.arange(10)), p.b, p.beta, torch.zeros(10, 4, dtype=torch.float64), p.leverages)
    best = solve(p, 1e-8).certificate
    gaps = []
    for _ in range(14):
        assert way.advance()
        proof = p.worth(way.v, way.y, way.r, way.theta)
        assert proof.dual <= best.primal and proof.primal >= best.dual
        assert float(way.theta.abs().max()) < 1 and float(way.y.norm(dim=1).max()) < p.beta
        torch.testing.assert_close(way.y, p.K.adjoint(way.theta), rtol=1e-6, atol=1e-8 * p.beta)
        gaps.append(proof.gap)
    assert gaps[-1] < 1e-6 < 1e-2 < gaps[0]


def test_a_matrix_of_few_samples_leads_to_the_same_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    p = absolute(n=3000, gates=8)
    best = solve(p, 1e-7).certificate
    monkeypatch.setattr("mrirecon.convex.interior.SAMPLED", 1)
    assert solve(p, 1e-7).certificate.primal == pytest.approx(best.primal, rel=1e-7)


def test_above_the_largest_sensible_strength_nothing_is_active_and_below_something_is() -> None:
    solution = solve(absolute(fraction=1.0001))
    assert torch.equal(solution.filters, torch.zeros(40, 4, dtype=torch.float64))
    assert solution.certificate.gap < 1e-12 and solution.certificate.active == 0
    assert solve(absolute(fraction=0.99), 1e-6).certificate.active > 0


def test_where_targets_are_zero_so_are_filters_that_nothing_else_needs() -> None:
    """As in air: neither patches nor targets; and in tissue that needs no change, whose multipliers are free."""
    p = absolute(n=120, gates=10)
    Y, b = p.K.patches.rows.clone(), p.b.clone()
    Y[:40], b[:80] = 0, 0
    q = LeastAbsolute(GatedOperator(PatchRows(Y), p.K.gates), b, 1.0)
    q = q.at(0.2 * q.largest_strength)
    solution = solve(q, 1e-6)
    assert solution.certificate.primal == pytest.approx(optimum(matrix(q.K), b, q.beta), rel=1e-5)
    nothing = LeastAbsolute(q.K, 0 * b, 1.0)
    assert solve(nothing).certificate.primal == 0


def test_a_warm_start_gives_the_same_optimum_and_one_problem_one_answer() -> None:
    p = absolute(fraction=0.05)
    cold = solve(p, 1e-7)
    assert torch.equal(cold.filters, solve(p, 1e-7).filters)
    first: list[Solution] = []
    warm = solve(p, 1e-7, start=solve(absolute(), 1e-4).filters, report=first.append)
    assert warm.certificate.primal == pytest.approx(cold.certificate.primal, rel=1e-7)
    assert first[0].certificate.primal < objective(p, torch.zeros(40, 4, dtype=torch.float64))


def test_a_path_of_strengths_is_solved_as_each_would_be() -> None:
    p = absolute()
    strengths = [f * p.largest_strength for f in (0.5, 0.2)]
    for beta, solution in zip(strengths, path(p, strengths, 1e-6), strict=True):
        assert solution.certificate.primal == pytest.approx(solve(p.at(beta), 1e-6).certificate.primal, rel=2e-6)


def test_single_precision_reaches_the_same_value() -> None:
    p = absolute(n=400)
    K = GatedOperator(PatchRows(p.K.patches.rows.float()), p.K.gates.float())
    single = solve(LeastAbsolute(K, p.b.float(), p.beta), 1e-4)
    assert single.certificate.primal == pytest.approx(solve(p, 1e-6).certificate.primal, rel=1e-4)


@pytest.mark.parametrize(("dense", "tolerance"), [(0, 1e-2), (6000, 1e-4)])
def test_what_follows_the_filters_is_part_of_the_program(
    dense: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the Gram matrix as metric, and without, where first-order steps take long below that."""
    monkeypatch.setattr("mrirecon.convex.working_absolute.DENSE", dense)
    p, T = program(n=60, gates=12), smoothing(60)
    q = LeastAbsolute(Followed(p.K, Follows(T)), p.b, 1.0)
    q = q.at(0.1 * q.largest_strength)
    proof = solve(q, tolerance).certificate
    best = optimum(torch.einsum("mn,nij->mij", T, matrix(p.K)), p.b, q.beta)
    assert proof.dual <= best * (1 + 1e-7) and proof.primal >= best * (1 - 1e-7)
    assert proof.gap <= tolerance


def test_errors_of_what_follows_count_against_the_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    p, T, noise = program(n=60, gates=12), smoothing(60), random(60, 60, seed=9)
    noise = 1e-5 * noise / torch.linalg.matrix_norm(noise, 2)
    unit = LeastAbsolute(Followed(p.K, Follows(T)), p.b, 1.0)
    beta = 0.1 * unit.largest_strength
    best = optimum(torch.einsum("mn,nij->mij", T, matrix(p.K)), p.b, beta)
    error = 1e-5 / float(torch.linalg.eigvalsh(T + noise)[0])
    rough = LeastAbsolute(Followed(p.K, Follows(T + noise, error)), p.b, beta, target_error=1e-4)
    monkeypatch.setattr("mrirecon.convex.working_absolute.PATIENCE", 4)
    proof = solve(rough, 5e-2).certificate
    assert proof.dual <= best <= proof.primal
    exact = solve(unit.at(beta), 1e-2)
    v, everything = exact.filters, torch.arange(12)
    honest = LeastAbsolute(rough.K, p.b, beta, 1e-4).certify(v, everything)[0]
    silent = LeastAbsolute(Followed(p.K, Follows(T + noise)), p.b, beta).certify(v, everything)[0]
    assert honest.primal > silent.primal and honest.dual < silent.dual
    with pytest.raises(InputError, match="larger tolerance"):
        solve(rough, 1e-6)
    lost = LeastAbsolute(Followed(p.K, Follows(T, 2.0)), p.b, beta)
    assert lost.certify(v, everything)[0].dual == 0  # an error larger than the result proves nothing


def test_the_rounded_loss_has_its_gradient_and_its_excess() -> None:
    loss, r, at = Rounded(random(50).clamp(-1, 1), 0.7), random(50, seed=1), random(50, seed=2)
    expected = loss.value(r) - loss.value(at) - float(loss.gradient(at) @ (r - at))
    assert loss.excess(r, at) == pytest.approx(expected)
    r.requires_grad_()
    theta = (loss.multipliers + 0.7 * r).clamp(-1, 1)
    value = (theta * r - (theta - loss.multipliers).square() / 1.4).sum()
    value.backward()
    torch.testing.assert_close(r.grad, loss.gradient(r.detach()))


def test_impossible_programs_are_refused() -> None:
    p = absolute()
    with pytest.raises(InputError, match="expected one for each"):
        LeastAbsolute(p.K, p.b[:-1], 1.0)
    with pytest.raises(InputError, match="above 0"):
        LeastAbsolute(p.K, p.b, 0.0)
    with pytest.raises(InputError, match="larger tolerance"):
        solve(p, 1e-30)
