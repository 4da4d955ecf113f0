"""What counts against a solution: errors of targets and of what follows the filters, each by itself."""

from __future__ import annotations

import pytest
import torch

from mrirecon.convex.followed import Followed
from mrirecon.convex.least_absolute import LeastAbsolute
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.working_set import solve
from mrirecon.errors import InputError
from tests.convex.programs import Follows, objective, program, random, smoothing

EVERYTHING = torch.arange(12)


def test_the_worst_targets_within_their_error_are_what_is_certified() -> None:
    """The primal value is the largest, and the dual one the smallest, that any targets so near have."""
    p, error, v = program(), 0.05, 0.1 * random(12, 4)
    proof = LeastSquares(p.K, p.b, p.beta, error).certify(v, EVERYTHING)[0]
    r = p.K.forward(v) - p.b
    toward = error * r / r.norm()
    assert proof.primal == pytest.approx(objective(type(p)(p.K, p.b - toward, p.beta), v), rel=1e-12)
    largest = float(p.K.adjoint(r).norm(dim=1).max())
    s = max(min(-float(r @ p.b) / float(r @ r), p.beta / largest), -p.beta / largest)
    theta = s * r
    duals = [-float(theta @ theta) / 2 - float(theta @ (p.b + sign * toward)) for sign in (-1, 1)]
    assert proof.dual == pytest.approx(min(duals), rel=1e-12) and min(duals) < max(duals)


def test_the_worst_targets_count_under_absolute_loss() -> None:
    p, error, v = program(), 0.05, 0.1 * random(12, 4)
    plain, proof = (LeastAbsolute(p.K, p.b, p.beta, e).certify(v, EVERYTHING)[0] for e in (0.0, error))
    for seed in range(20):
        noise = random(60, seed=seed).sign()
        other = LeastAbsolute(p.K, p.b + error * noise / noise.norm(), p.beta)
        assert proof.primal >= other.objective(v)
    # Signs that are all wrong in one way are the worst there are.
    r = p.K.forward(v) - p.b
    worst = LeastAbsolute(p.K, p.b - error * r.sign() / 60**0.5, p.beta).objective(v)
    assert proof.primal == pytest.approx(worst, rel=1e-9)
    assert proof.dual < plain.dual


@pytest.mark.parametrize("kind", [LeastSquares, LeastAbsolute])
def test_errors_of_what_follows_count_in_the_primal_and_in_the_dual(
    kind: type[LeastSquares] | type[LeastAbsolute],
) -> None:
    p, error, v = program(), 1e-2, 0.1 * random(12, 4)
    same = torch.eye(60, dtype=torch.float64)
    plain, proof = (kind(Followed(p.K, Follows(same, e)), p.b, p.beta).certify(v, EVERYTHING)[0] for e in (0.0, error))
    r = p.K.forward(v) - p.b
    # What K gives is no longer than r and b together, and may be off by a part of that, along the residual.
    off = error * (float(r.norm()) + float(p.b.norm()))
    loss = (float(r.norm()) + off) ** 2 / 2 if kind is LeastSquares else float(r.abs().sum()) + 60**0.5 * off
    assert proof.primal == pytest.approx(loss + p.beta * float(v.norm(dim=1).sum()), rel=1e-12)
    assert kind(Followed(p.K, Follows(same, error)), p.b, p.beta).objective(v) == proof.primal
    # The dual point is allowed only if no gradient, as wrong as it may be, exceeds beta: so it is shorter.
    widest = float(torch.linalg.eigvalsh(p.K.moments())[-1]) ** 0.5
    theta = r if kind is LeastSquares else r.sign()
    largest = float(p.K.adjoint(theta).norm(dim=1).max()) + widest * float(theta.norm()) * error / (1 - error)
    s = p.beta / largest
    quadratic = s * s * float(r @ r) / 2 if kind is LeastSquares else 0.0
    assert proof.dual == pytest.approx(-quadratic - s * float(theta @ p.b), rel=1e-9)
    assert proof.dual < plain.dual


def test_errors_of_what_follows_count_against_the_solution() -> None:
    p = program(n=60, gates=12)
    T, noise = smoothing(60), random(60, 60, seed=9)
    noise = 1e-5 * noise / torch.linalg.matrix_norm(noise, 2)
    beta = 0.1 * float(p.K.adjoint(T @ p.b).norm(dim=1).max())
    exact = solve(LeastSquares(Followed(p.K, Follows(T)), p.b, beta), 1e-8).certificate
    error = 1e-5 / float(torch.linalg.eigvalsh(T + noise)[0])
    rough = LeastSquares(Followed(p.K, Follows(T + noise, error)), p.b, beta)
    solution = solve(rough, 2e-2)
    assert 1e-5 < solution.certificate.gap <= 2e-2
    assert solution.certificate.dual <= exact.dual + 1e-8 * exact.primal
    assert solution.certificate.primal >= exact.primal * (1 - 1e-8)
    with pytest.raises(InputError, match="larger tolerance"):
        solve(rough, 1e-6)
