"""Unrolled networks: with the identity as denoiser they are the classical methods."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mrirecon.denoisers import ResNet
from mrirecon.errors import InputError
from mrirecon.physics import Problem
from mrirecon.unrolled import ModelBased, ProximalGradient, Unrolled, model_based, proximal_gradient
from tests.conftest import posed


def problem_of(batch: int = 2, n_coils: int = 4, shape: tuple[int, int] = (13, 16), seed: int = 0) -> Problem:
    return posed(shape, batch, n_coils, torch.complex128, seed, sampled=0.6)[0]


def residual(problem: Problem, x: Tensor) -> float:
    return float((problem.A(x) - problem.y).detach().abs().square().sum())


@pytest.mark.parametrize("step_size", [0.5, 1.0, 1.9])
def test_gradient_steps_below_two_never_increase_the_residual(step_size: float) -> None:
    problem = problem_of()
    step = ProximalGradient(nn.Identity(), step_size).double()
    x = problem.AHy
    for _ in range(20):
        after = step(x, problem)
        assert residual(problem, after) <= residual(problem, x) * (1 + 1e-9)
        x = after


def test_a_model_based_step_solves_its_equation() -> None:
    problem, lam = problem_of(), 0.3
    step = ModelBased(nn.Identity(), weight=lam, iterations=200).double()
    x = step(problem.AHy, problem)
    error = problem.A.normal(x) + lam * x - problem.AHy - lam * problem.AHy
    assert float(error.detach().abs().max()) < 1e-6


@pytest.mark.parametrize("build", [proximal_gradient, model_based])
def test_recomputing_activations_changes_no_gradient(build) -> None:
    from mrirecon.unrolled import run

    torch.manual_seed(0)
    net, problem = build(lambda: ResNet(channels=4, n_blocks=1), n_steps=3).double(), problem_of()
    for step in net.steps:  # the last layers start at zero, where no gradient would reach the others
        nn.init.normal_(step.denoiser.last.weight, std=0.1)
    gradients = []
    for activations in ("stored", "recomputed"):
        net.zero_grad()
        run(net.sequence, problem.AHy, problem, activations).abs().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_shared_weights_are_stored_once_and_used_at_every_step() -> None:
    shared = proximal_gradient(lambda: ResNet(channels=4), n_steps=5, share_weights=True)
    apart = proximal_gradient(lambda: ResNet(channels=4), n_steps=5)
    assert len(shared.sequence) == len(apart.sequence) == 5
    assert 5 * len(shared.state_dict()) == len(apart.state_dict())
    assert len({id(step) for step in shared.sequence}) == 1


def test_scaling_the_data_scales_the_image() -> None:
    torch.manual_seed(0)
    net, problem = proximal_gradient(lambda: ResNet(channels=4), n_steps=2).double(), problem_of()
    for step in net.steps:
        nn.init.normal_(step.denoiser.last.weight, std=0.1)
    images = []
    for factor in (1.0, 3e-6):
        scaled, scale = Problem.pose(problem.A, problem.y * factor).scaled()
        images.append(net(scaled) * scale / factor)
    assert float((images[0] - images[1]).detach().abs().max()) < 1e-10


def test_an_empty_slice_stays_empty() -> None:
    problem = problem_of()
    scaled, scale = Problem.pose(problem.A, problem.y * 0).scaled()
    assert not bool(scaled.AHy.any())
    assert float((scale * 1000).max()) < 1e-300, "whatever a network makes of nothing vanishes"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: proximal_gradient(nn.Identity, n_steps=0), "n_steps is 0"),
        (lambda: ModelBased(nn.Identity(), weight=0.0), "weight is 0.0"),
        (lambda: ResNet(kernel_size=4), "kernel_size is 4"),
        (lambda: ResNet(ndim=5), "ndim is 5"),
    ],
)
def test_impossible_settings_are_refused_with_their_value(make, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_steps_of_any_kind_can_be_mixed() -> None:
    problem = problem_of()
    net = Unrolled([ProximalGradient(nn.Identity()), ModelBased(nn.Identity())]).double()
    assert net(problem).shape == problem.AHy.shape
