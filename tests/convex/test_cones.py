"""Constraints that join as they are broken, projections on cones, and exact zeros."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from mrirecon.convex import operator
from mrirecon.convex.augmented_lagrangian import solve_cones
from mrirecon.convex.cones import Cones
from mrirecon.convex.followed import Followed
from mrirecon.convex.kept import Kept
from mrirecon.convex.relu import neurons_of
from mrirecon.errors import InputError
from tests.convex.programs import program, random


def constraints(cones: Cones, group: int) -> Tensor:
    """All rows (2 D - I) y of a group's cone, (n, tap)."""
    Y = torch.cat([Y for _, Y in cones.patches])
    u = cones.u[group % len(cones.u)]
    return torch.where(Y @ u >= 0, 1.0, -1.0)[:, None] * Y


@pytest.mark.parametrize("rows", [7, 4096])
def test_the_constraints_that_are_broken_most_are_found(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "ROWS", rows)
    p = program(n=60, d=4, gates=6)
    cones, x, at = Cones(p.K.patches, p.K.gates), random(3, 4, seed=5), torch.tensor([1, 7, 4])
    numbers, found, values = cones.worst(x, at, 5)
    for i, group in enumerate(at.tolist()):
        C = constraints(cones, group)
        C = C / C.norm(dim=1, keepdim=True)
        expected, order = (C @ x[i]).sort()
        torch.testing.assert_close(values[i], expected[:5])
        assert numbers[i].tolist() == order[:5].tolist()
        torch.testing.assert_close(found[i], C[order[:5]])


def test_a_patch_of_zeros_is_no_constraint() -> None:
    p = program(n=20, d=3, gates=4)
    p.K.patches.rows[:19] = 0
    _, _, values = Cones(p.K.patches, p.K.gates).worst(random(4, 3), torch.arange(4), 3)
    assert torch.isfinite(values).sum(1).tolist() == [1] * 4


def test_a_price_is_the_length_of_the_projection_on_the_cone() -> None:
    p = program(n=300, d=5, gates=8)
    cones = Cones(p.K.patches, p.K.gates)
    kept, h, at = Kept(cones, 16), random(16, 5, seed=6), torch.arange(16)
    x = kept.priced(h, at, 0.0)
    for group in range(16):
        C = constraints(cones, group)
        _, length = nnls(C.T.numpy(), -h[group].numpy(), maxiter=10_000)
        assert float(x[group].norm()) == pytest.approx(length, abs=1e-6)
        assert float((C @ x[group]).min()) > -1e-6
    assert 0 < kept.rows.shape[1] < 100  # of 300 constraints
    torch.testing.assert_close(h + (kept.multipliers[at][:, None, :] @ kept.rows[at])[:, 0], x)


def test_a_price_below_the_limit_is_enough() -> None:
    p = program(n=300, d=5, gates=8)
    kept, h = Kept(Cones(p.K.patches, p.K.gates), 16), random(16, 5, seed=6)
    limit = 0.5 * float(h.norm(dim=1).mean())
    exact = Kept(kept.cones, 16).priced(h, torch.arange(16), 0.0).norm(dim=1)
    found = kept.priced(h, torch.arange(16), limit).norm(dim=1)
    assert torch.equal(found <= limit, exact <= limit)
    torch.testing.assert_close(found[found > limit], exact[found > limit], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("fraction", [0.3, 0.03])
def test_groups_that_are_not_active_are_exactly_zero(fraction: float) -> None:
    p = program(n=400, d=4, gates=20, fraction=fraction)
    solution = solve_cones(p, 1e-6)
    x = torch.cat([solution.w, solution.z])
    on = x.norm(dim=1) > 0
    assert solution.certificate.active == int(on.sum()) < 20
    assert float(x[on].norm(dim=1).min()) > 1e-4 * float(x.norm(dim=1).max())
    # Their prices, from all constraints, allow nothing else; and those of active groups are beta.
    r = p.K.forward(solution.w - solution.z) - p.b
    g = p.K.adjoint(r)
    cones = Cones(p.K.patches, p.K.gates)
    for group, pull in enumerate(torch.cat([g, -g])):
        _, price = nnls(constraints(cones, group).T.numpy(), pull.numpy(), maxiter=10_000)
        assert price == pytest.approx(p.beta, rel=1e-3) if on[group] else price <= p.beta * (1 + 1e-3)


def test_the_objective_is_certified_from_below_at_every_round() -> None:
    p = program(n=200, d=4, gates=15, fraction=0.05)
    seen = []
    best = solve_cones(p, 1e-8, seen.append).certificate
    assert len(seen) > 2
    assert all(proof.dual <= best.primal * (1 + 1e-7) for proof in seen)
    assert seen[-1] == best


def test_the_network_it_is_mapped_to_has_the_objective_that_is_certified() -> None:
    p = program(n=300, d=4, gates=15, fraction=0.05)
    solution = solve_cones(p, 1e-6)
    u, v = neurons_of(solution.w, solution.z)
    r = (p.K.patches.rows @ u.T).relu() @ v - p.b
    decay = p.beta / 2 * float(u.square().sum() + v.square().sum())
    assert solution.network == pytest.approx(float(r @ r) / 2 + decay, rel=1e-12)
    assert solution.network == pytest.approx(solution.certificate.primal, rel=1e-6)


def test_a_violation_is_that_of_all_groups_together() -> None:
    p = program(n=50, d=4, gates=3)
    cones, x = Cones(p.K.patches, p.K.gates), random(6, 4, seed=2)
    values = torch.stack([constraints(cones, group) @ x[group] for group in range(6)])
    expected = (-values).clamp_min(0).norm() / values.norm(dim=1).max()
    assert 0 < cones.violation(x) == pytest.approx(float(expected), rel=1e-12)


def test_the_gram_matrix_is_that_of_groups_which_were_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    p, taken = program(n=200, d=4, gates=200, fraction=0.3), []
    gram = type(p.K).gram
    monkeypatch.setattr(
        type(p.K), "gram", lambda K, at, others, *rest: taken.append(len(at)) or gram(K, at, others, *rest)
    )
    solve_cones(p, 1e-5)
    assert 0 < sum(taken) < 120


def test_single_precision_reaches_the_same_value() -> None:
    p = program(n=200, d=4, gates=15)
    single = type(p)(type(p.K)(type(p.K.patches)(p.K.patches.rows.float()), p.K.gates.float()), p.b.float(), p.beta)
    assert solve_cones(single, 1e-4).certificate.primal == pytest.approx(solve_cones(p).certificate.primal, rel=3e-4)


def test_constraints_are_refused_for_modl() -> None:
    p = program()

    class Same:
        error = 0.0

        def __call__(self, q: Tensor) -> Tensor:
            return q

    with pytest.raises(InputError, match="not for MoDL"):
        solve_cones(type(p)(Followed(p.K, Same()), p.b, p.beta))
