"""The program with cone constraints is a two-layer ReLU network's training: on problems small enough to prove it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mrirecon.convex.augmented_lagrangian import solve_cones
from mrirecon.convex.cones import Cones
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, ImagePatches, PatchRows
from mrirecon.convex.relu import decomposed, gated_of, network_of, neurons_of
from mrirecon.convex.working_set import solve
from mrirecon.denoisers import ConvexDual, TwoLayerReLU
from mrirecon.errors import InputError
from tests.convex.programs import program, random


def all_gates(Y: Tensor) -> Tensor:
    """A gate for every pattern that patches of two taps can have, each in the middle of its cone."""
    borders = torch.atan2(Y[:, 1], Y[:, 0])
    angles = torch.cat([borders + torch.pi / 2, borders - torch.pi / 2]).remainder(2 * torch.pi).sort().values
    middles = (angles + torch.cat([angles[1:], angles[:1] + 2 * torch.pi])) / 2
    return torch.stack([middles.cos(), middles.sin()], 1)


def enumerable() -> LeastSquares:
    Y, b = random(24, 2, seed=1), random(24, seed=2)
    return LeastSquares(GatedOperator(PatchRows(Y), all_gates(Y)), b, 0.5)


def network_objective(p: LeastSquares, u: Tensor, v: Tensor) -> Tensor:
    """1/2 ||relu(Y U^T) v - b||^2 + beta / 2 (||U||^2 + ||v||^2), for any number of networks in front."""
    r = torch.einsum("...nj,...j->...n", torch.relu(p.K.patches.rows @ u.mT), v) - p.b
    return r.square().sum(-1) / 2 + p.beta / 2 * (u.square().sum((-1, -2)) + v.square().sum(-1))


def best_training(p: LeastSquares, neurons: int, networks: int = 60) -> float:
    u, v = random(networks, neurons, 2, seed=3).requires_grad_(), random(networks, neurons, seed=4).requires_grad_()
    adam = torch.optim.Adam([u, v], lr=0.05)
    falling = torch.optim.lr_scheduler.ExponentialLR(adam, 0.998)
    for _ in range(3000):
        adam.zero_grad()
        network_objective(p, u, v).sum().backward()
        adam.step()
        falling.step()
    return float(network_objective(p, u, v).detach().min())


def test_the_constrained_optimum_is_the_best_networks() -> None:
    p = enumerable()
    solution = solve_cones(p, 1e-7)
    proof = solution.certificate
    assert abs(proof.gap) <= 1e-7 and proof.violation <= 1e-7
    u, v = neurons_of(solution.w, solution.z)
    assert len(v) == proof.active
    primal = float(network_objective(p, u, v))
    assert primal == pytest.approx(proof.primal, rel=1e-4)
    assert best_training(p, neurons=10) == pytest.approx(proof.primal, rel=1e-4)


def test_the_gated_optimum_is_not_above_the_constrained_one() -> None:
    p = enumerable()
    gated, constrained = solve(p, 1e-8).certificate, solve_cones(p, 1e-6).certificate
    assert gated.primal < constrained.primal * (1 - 1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_constrained_program_is_solved_on_more_taps(seed: int) -> None:
    p = program(n=80, d=4, gates=15, fraction=0.05, seed=seed)
    solution = solve_cones(p, 1e-6)
    assert abs(solution.certificate.gap) <= 1e-6 and solution.certificate.violation <= 1e-6
    u, v = neurons_of(solution.w, solution.z)
    assert float(network_objective(p, u, v)) == pytest.approx(solution.certificate.primal, rel=1e-5)
    assert solve(p).certificate.primal <= solution.certificate.primal


def test_it_agrees_with_cvxpy() -> None:
    cvxpy = pytest.importorskip("cvxpy", reason="cvxpy is in the extra `test`")
    p = program(n=40, d=3, gates=8, fraction=0.05)
    Y, u = p.K.patches.rows, p.K.gates
    D = (Y @ u.T >= 0).double()
    w, z = cvxpy.Variable((8, 3)), cvxpy.Variable((8, 3))
    fit = sum(cvxpy.multiply(D[:, i].numpy(), Y.numpy() @ (w[i] - z[i])) for i in range(8))
    norms = cvxpy.sum(cvxpy.norm(w, axis=1)) + cvxpy.sum(cvxpy.norm(z, axis=1))
    signed = [((2 * D[:, i] - 1)[:, None] * Y).numpy() for i in range(8)]
    kept = [s @ x[i] >= 0 for i, s in enumerate(signed) for x in (w, z)]
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(fit - p.b.numpy()) / 2 + p.beta * norms), kept)
    problem.solve(solver=cvxpy.CLARABEL)
    assert solve_cones(p, 1e-7).certificate.primal == pytest.approx(problem.value, rel=1e-5)


def images() -> tuple[list[Tensor], Cones, ConvexDual]:
    net = ConvexDual(5, 3, strength=0.3, padding="reflect", seed=2).double()
    parts = [random(8, 7, seed=1), random(6, 6, seed=2)]
    return parts, Cones(ImagePatches(parts, 3, "reflect"), net.gates.flatten(1)), net


def branch(net: ConvexDual | TwoLayerReLU, parts: list[Tensor]) -> Tensor:
    return torch.cat([net.branch(torch.complex(x, 0 * x)[None, None]).real.flatten() for x in parts]).detach()


def test_any_gated_denoiser_is_a_relu_network_of_filters_inside_their_cones() -> None:
    parts, cones, net = images()
    with torch.no_grad():
        net.filters.copy_(random(5, 3, 3, seed=7))
    w, z = decomposed(net.filters.detach().flatten(1), cones)
    torch.testing.assert_close(w - z, net.filters.detach().flatten(1))
    assert cones.violation(torch.cat([w, z])) < 1e-12
    relu = network_of(w, z, net)
    torch.testing.assert_close(branch(relu, parts), branch(net, parts))
    assert relu.penalty().item() >= net.penalty().item()


def test_filters_that_are_inside_their_cones_are_left_there() -> None:
    _, cones, net = images()
    inside = net.gates.flatten(1) * torch.tensor([1.0, -1.0, 0.5, 2.0, 0.0])[:, None]  # along the gates
    w, z = decomposed(inside, cones)
    torch.testing.assert_close(w - z, inside)
    assert cones.violation(torch.cat([w, z])) < 1e-12
    lengths, least = w.norm(dim=1) + z.norm(dim=1), inside.norm(dim=1)
    torch.testing.assert_close(lengths, least, rtol=1e-6, atol=1e-9)


def test_a_relu_network_is_mapped_to_filters_and_back() -> None:
    parts, _, _ = images()
    torch.manual_seed(3)
    relu = TwoLayerReLU(6, 3, strength=0.2, padding="reflect").double()
    with torch.no_grad():
        relu.u.normal_()
        relu.v.normal_()
    dual, w, z = gated_of(relu)
    torch.testing.assert_close(branch(dual, parts), branch(relu, parts))
    again = network_of(w, z, dual)
    torch.testing.assert_close(branch(again, parts), branch(relu, parts))
    # The same function at the least weight decay, which is the program's penalty.
    assert again.penalty().item() == pytest.approx(dual.penalty().item())
    assert again.penalty().item() < relu.penalty().item()
    # With the sign that the paper prints for z, the function would be another.
    with torch.no_grad():
        again.v.abs_()
    assert (branch(again, parts) - branch(relu, parts)).abs().max() > 0.1


def test_a_solution_of_zeros_is_a_network_that_does_nothing() -> None:
    like, x = ConvexDual(4, 3), torch.randn(1, 1, 6, 5, dtype=torch.complex64)
    network = network_of(torch.zeros(4, 9), torch.zeros(4, 9), like)
    assert torch.equal(network(x), x) and network.penalty().item() == 0
    p = program(n=60, d=4, gates=5)
    solution = solve_cones(p.at(1.5 * p.largest_strength))
    assert not solution.w.any() and not solution.z.any()
    assert solution.network == pytest.approx(float(p.b @ p.b) / 2)


def test_a_network_without_neurons_is_refused() -> None:
    with pytest.raises(InputError, match="without neurons"):
        gated_of(TwoLayerReLU(0))
