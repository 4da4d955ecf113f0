"""The gated program: its operator, its solvers, and what their certificates say."""

from __future__ import annotations

import pytest
import torch

from mrirecon.convex import operator
from mrirecon.convex.followed import Followed
from mrirecon.convex.group_lasso import minimise_quadratic, quadratic_gap
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, ImagePatches
from mrirecon.convex.path import path
from mrirecon.convex.working_set import solve
from mrirecon.denoisers import ConvexDual
from mrirecon.errors import InputError
from tests.convex.programs import Follows, matrix, objective, program, random, smoothing


@pytest.mark.parametrize("rows", [7, 4096])
def test_the_operator_is_its_matrix(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "ROWS", rows)
    monkeypatch.setattr(operator, "ENTRIES", 200)
    K = program().K
    A, v, q = matrix(K), random(12, 4, seed=5), random(60, seed=6)
    torch.testing.assert_close(K.forward(v), torch.einsum("nij,ij->n", A, v))
    torch.testing.assert_close(K.adjoint(q), torch.einsum("nij,n->ij", A, q))
    at, others = torch.tensor([3, 1, 7]), torch.tensor([2, 3])
    torch.testing.assert_close(K.gram(at, others), torch.einsum("nij,nkl->ijkl", A[:, at], A[:, others]))
    weights = random(60, seed=7).clamp_min(0)
    weighted = torch.einsum("nij,n,nkl->ijkl", A[:, at], weights, A[:, others])
    torch.testing.assert_close(K.gram(at, others, weights), weighted)
    Y = torch.cat([Y for _, Y in K.patches])
    torch.testing.assert_close(K.leverages(), (Y @ torch.linalg.inv(Y.T @ Y) * Y).sum(1))
    torch.testing.assert_close(K.gram(at, at), torch.einsum("nij,nkl->ijkl", A[:, at], A[:, at]))
    torch.testing.assert_close(K.forward(v[at], at), torch.einsum("nij,ij->n", A[:, at], v[at]))


def test_the_operator_of_images_is_the_denoisers_branch() -> None:
    net = ConvexDual(6, 3, padding="reflect").double()
    with torch.no_grad():
        net.filters.copy_(random(6, 3, 3))
    images = [random(7, 9, seed=1), random(5, 6, seed=2)]
    K = GatedOperator(ImagePatches(images, 3, "reflect"), net.gates.flatten(1))
    seen = [net.branch(torch.complex(x, 0 * x)[None, None]).real.flatten() for x in images]
    torch.testing.assert_close(K.forward(net.filters.detach().flatten(1)), torch.cat(seen).detach())


@pytest.mark.parametrize("fraction", [0.9, 0.3, 0.03, 0.001])
@pytest.mark.parametrize("first", [8, 1500])
def test_a_solution_is_certified(fraction: float, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a working set of two groups at first, and with all."""
    monkeypatch.setattr("mrirecon.convex.working_set.FIRST", first)
    p = program(n=200, gates=40, fraction=fraction)
    solution = solve(p, 1e-9)
    v, proof = solution.filters, solution.certificate
    assert objective(p, v) == pytest.approx(proof.primal)
    assert proof.gap + 1e-14 >= 0 and proof.gap <= 1e-9
    assert proof.active == int((v.norm(dim=1) > 0).sum()) < 40
    for seed in range(20):  # no other point is below the dual value
        assert objective(p, v + 10.0 ** (-seed / 2) * random(40, 4, seed=seed)) >= proof.dual
    assert proof.subgradient < 1e-3 * p.beta


def test_above_the_largest_sensible_strength_nothing_is_active() -> None:
    solution = solve(program(fraction=1.0001))
    assert torch.equal(solution.filters, torch.zeros(12, 4, dtype=torch.float64))
    assert solution.certificate.gap < 1e-12 and solution.certificate.active == 0


def test_a_warm_start_gives_the_same_optimum() -> None:
    p = program(n=200, gates=40, fraction=0.05)
    cold, warm = solve(p, 1e-10), solve(p, 1e-10, start=solve(program(n=200, gates=40, fraction=0.1)).filters)
    torch.testing.assert_close(warm.filters, cold.filters, rtol=1e-4, atol=1e-6)


def test_one_problem_has_one_answer() -> None:
    assert torch.equal(solve(program(n=200, gates=40)).filters, solve(program(n=200, gates=40)).filters)


@pytest.mark.parametrize("dense", [0, 4000])
def test_what_follows_the_filters_is_part_of_the_program(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the Gram matrix as metric, and without."""
    monkeypatch.setattr("mrirecon.convex.working_squares.DENSE", dense)
    p = program(n=60, gates=12)
    T = smoothing(60)
    K = Followed(p.K, Follows(T))
    program_ = LeastSquares(K, p.b, 0.1 * float(K.adjoint(p.b).norm(dim=1).max()))
    solution = solve(program_, 1e-7)
    A = torch.einsum("mn,nij->mij", T, matrix(p.K)).flatten(1)
    expected = minimise_quadratic(
        (A.T @ A).reshape(12, 4, 12, 4), (A.T @ p.b).reshape(12, 4), program_.beta, float(p.b @ p.b) / 2, 1e-10
    )
    r = A @ expected.reshape(-1) - p.b
    least = float(r @ r) / 2 + program_.beta * float(expected.norm(dim=1).sum())
    assert solution.certificate.dual <= least * (1 + 1e-9)
    assert solution.certificate.primal == pytest.approx(least, rel=1e-7)


def test_a_large_working_set_is_solved_without_its_gram_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    p = program(n=200, gates=40, fraction=0.05)
    best = solve(p, 1e-9).certificate.primal
    monkeypatch.setattr("mrirecon.convex.working_squares.DENSE", 30)
    monkeypatch.setattr("mrirecon.convex.working_set.FIRST", 20)
    solution = solve(p, 1e-5)
    assert solution.certificate.gap <= 1e-5
    assert solution.certificate.primal == pytest.approx(best, rel=1e-5)


def test_an_ill_conditioned_quadratic_is_solved_to_its_gap() -> None:
    A = random(40, 24, seed=3) @ torch.diag(torch.logspace(0, -5, 24, dtype=torch.float64)) @ random(24, 24, seed=4)
    b = random(40, seed=5)
    Q, c, constant = (A.T @ A).reshape(8, 3, 8, 3), (A.T @ b).reshape(8, 3), float(b @ b) / 2
    for fraction in (0.5, 1e-2, 1e-4):
        beta = fraction * float(c.norm(dim=1).max())
        v = minimise_quadratic(Q, c, beta, constant, 1e-9)
        Qv = (A.T @ A @ v.reshape(-1)).reshape(8, 3)
        assert -1e-14 < quadratic_gap(v, Qv, c, beta, constant) <= 1e-9


def test_it_agrees_with_cvxpy() -> None:
    cvxpy = pytest.importorskip("cvxpy", reason="cvxpy is in the extra `test`")
    p = program(n=80, gates=10, fraction=0.05)
    A, v = matrix(p.K).flatten(1).numpy(), cvxpy.Variable((10, 4))
    loss = cvxpy.sum_squares(A @ cvxpy.vec(v, order="C") - p.b.numpy()) / 2
    problem = cvxpy.Problem(cvxpy.Minimize(loss + p.beta * cvxpy.sum(cvxpy.norm(v, axis=1))))
    problem.solve(solver=cvxpy.CLARABEL)
    solution = solve(p, 1e-9)
    assert solution.certificate.primal == pytest.approx(problem.value, rel=1e-5)
    torch.testing.assert_close(solution.filters, torch.tensor(v.value), rtol=1e-3, atol=1e-4)


def test_a_path_is_what_each_strength_gives_alone() -> None:
    p = program(n=200, gates=40)
    strengths = [fraction * p.largest_strength for fraction in (1.0, 0.3, 0.1, 0.03)]
    solutions = list(path(p, strengths, 1e-9))
    assert [s.certificate.active for s in solutions] == sorted(s.certificate.active for s in solutions)
    assert solutions[0].certificate.active == 0 < solutions[1].certificate.active
    for beta, solution in zip(strengths, solutions, strict=True):
        alone = solve(p.at(beta), 1e-9)
        assert solution.certificate.gap <= 1e-9
        assert solution.certificate.primal == pytest.approx(alone.certificate.primal, rel=1e-8)
        torch.testing.assert_close(solution.filters, alone.filters, rtol=1e-3, atol=1e-6)


def test_a_volume_is_a_program_too() -> None:
    net = ConvexDual(10, 3, ndim=3, padding="circular").double()
    image = random(5, 6, 7)
    K = GatedOperator(ImagePatches([image], 3, "circular"), net.gates.flatten(1))
    b = image.flatten() * 0.2 + 0.1 * random(210, seed=1)
    p = LeastSquares(K, b, 0.1 * float(K.adjoint(b).norm(dim=1).max()))
    solution = solve(p, 1e-8)
    assert solution.certificate.gap <= 1e-8 and 0 < solution.certificate.active < 10
    with torch.no_grad():
        net.filters.copy_(solution.filters.reshape(net.filters.shape))
        r = net.branch(torch.complex(image, 0 * image)[None, None]).real.flatten() - b
    value = float(r @ r) / 2 + p.beta * float(solution.filters.norm(dim=1).sum())
    assert value == pytest.approx(solution.certificate.primal, rel=1e-10)


def test_impossible_programs_are_refused() -> None:
    p = program()
    with pytest.raises(InputError, match="expected one for each"):
        LeastSquares(p.K, p.b[:-1], 1.0)
    with pytest.raises(InputError, match="above 0"):
        LeastSquares(p.K, p.b, 0.0)
    with pytest.raises(InputError, match="not finite"):
        LeastSquares(p.K, p.b * torch.inf, 1.0)
    with pytest.raises(InputError, match="larger tolerance"):
        solve(p, 1e-30)


def test_what_is_not_finite_is_never_certified() -> None:
    p = program()
    p.K.patches.rows[3, 1] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        solve(p)
    with pytest.raises(InputError, match="NaN or infinite"):
        solve(program(), start=torch.full((12, 4), torch.nan))
