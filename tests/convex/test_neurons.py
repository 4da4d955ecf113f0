"""Gates that are grown: the network's objective, its descent, and what the ascents find."""

from __future__ import annotations

import pytest
import torch

from mrirecon.convex import operator
from mrirecon.convex.augmented_lagrangian import solve_cones
from mrirecon.convex.gates import different_gates
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.neurons import Neurons, _merged, _weighted, evaluated, grown
from mrirecon.convex.operator import GatedOperator
from tests.convex.programs import program, random
from tests.convex.test_relu import enumerable, network_objective


@pytest.mark.parametrize("rows", [7, 4096])
def test_the_objective_and_its_gradient_are_autograds(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "ROWS", rows)
    p = program()
    u, v = random(5, 4, seed=7).requires_grad_(), random(5, seed=8).requires_grad_()
    expected = network_objective(p, u, v)
    expected.backward()
    value, r, du, dv = evaluated(p, p.K.patches, u.detach(), v.detach())
    assert value == pytest.approx(expected.item())
    torch.testing.assert_close(r, (torch.relu(p.K.patches.rows @ u.T) @ v - p.b).detach())
    torch.testing.assert_close(du, u.grad)
    torch.testing.assert_close(dv, v.grad)


def several() -> LeastSquares:
    """A program whose targets are those of several neurons."""
    p = program(n=300, d=4)
    u, v = random(6, 4, seed=11), random(6, seed=12)
    b = torch.relu(p.K.patches.rows @ u.T) @ v
    return LeastSquares(p.K, b, 0.002 * float(p.K.adjoint(b).norm(dim=1).max()))


def test_the_network_that_is_grown_is_the_best_of_all() -> None:
    """Where all gates can be listed: objective, and price of every direction."""
    p = enumerable()
    best = solve_cones(p, 1e-7).certificate.primal
    neurons = grown(p, 1e-3, starts=50)
    assert neurons.objective == pytest.approx(best, rel=1e-3)
    _, r, _, _ = evaluated(p, p.K.patches, neurons.u, neurons.v)
    angles = torch.linspace(0, 2 * torch.pi, 20_000, dtype=torch.float64)
    every = torch.stack([angles.cos(), angles.sin()], 1)
    dearest = float((torch.relu(p.K.patches.rows @ every.T).T @ r).abs().max()) / p.beta
    assert neurons.price <= dearest * (1 + 1e-6) <= 1.005


def test_behind_grown_gates_the_program_is_not_above_the_network() -> None:
    p = program(n=300, d=4, fraction=0.03)
    neurons = grown(p, starts=30, rounds=6)
    gates = different_gates(neurons.gates, p.K.patches)
    solution = solve_cones(LeastSquares(GatedOperator(p.K.patches, gates), p.b, p.beta), 1e-6)
    assert solution.certificate.primal <= neurons.objective * (1 + 1e-6)
    assert solution.certificate.primal < solve_cones(p, 1e-4).certificate.primal  # behind random ones


def test_every_round_lowers_the_objective_and_one_seed_has_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrirecon.convex.neurons.JOINING", 1)
    p = several()
    seen: list[Neurons] = []
    last = grown(p, starts=20, rounds=5, seed=3, report=seen.append)
    values = [neurons.objective for neurons in seen]
    assert len(values) > 3 and values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(p.bb / 2)
    again = grown(p, starts=20, rounds=5, seed=3)
    assert torch.equal(last.u, again.u) and torch.equal(last.directions, again.directions)
    lengths = last.u.norm(dim=1)
    torch.testing.assert_close(lengths, last.v.abs())


def test_above_the_largest_sensible_strength_no_neuron_grows() -> None:
    p = program(fraction=50.0)
    neurons = grown(p)
    assert len(neurons.v) == 0 and neurons.price < 1


def test_twins_are_one_direction() -> None:
    u = torch.nn.functional.normalize(random(3, 4, seed=1), dim=1)
    assert torch.equal(_merged(torch.cat([u, u[:2]])), u)


def test_weights_are_the_best_for_their_directions() -> None:
    p = program(n=100)
    directions = torch.nn.functional.normalize(random(6, 4, seed=1), dim=1)
    u, v = _weighted(p, p.K.patches, directions)
    assert 0 < len(v) <= 6
    value = evaluated(p, p.K.patches, u, v)[0]
    hidden = torch.relu(p.K.patches.rows @ directions.T)
    weights = torch.zeros(6, dtype=torch.float64)
    for j, d in enumerate(directions):
        (match,) = ((torch.nn.functional.normalize(u, dim=1) - d).norm(dim=1) < 1e-9,)
        weights[j] = (v[match] * u[match].norm(dim=1)).sum()

    def objective(w: torch.Tensor) -> float:
        return float((hidden @ w - p.b).square().sum() / 2 + p.beta * w.abs().sum())

    assert value == pytest.approx(objective(weights))
    for seed in range(20):
        assert objective(weights + 10.0 ** (-seed / 4) * random(6, seed=seed)) >= value * (1 - 1e-5)


def test_gates_of_one_pattern_and_dead_ones_are_left_out() -> None:
    p = program()
    gates = torch.cat([p.K.gates[:3], 2 * p.K.gates[:2], p.K.gates[3:4]])
    found = different_gates(gates, p.K.patches)
    assert torch.equal(found, p.K.gates[:4])
