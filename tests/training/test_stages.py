"""Where the gradient stops: stages against ordinary back-propagation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mrirecon.denoisers import Denoiser, ResNet
from mrirecon.errors import InputError
from mrirecon.physics import Problem
from mrirecon.training.link import Local
from mrirecon.training.stages import stage_losses, stages_of
from mrirecon.unrolled import Activations, Unrolled, proximal_gradient, run
from tests.conftest import peak_of_saved, posed
from tests.training.workers import Noisy


@pytest.fixture
def problem() -> Problem:
    return posed((10, 12))[0]


@pytest.fixture
def net() -> Unrolled:
    torch.manual_seed(0)
    net = proximal_gradient(lambda: ResNet(channels=4, n_blocks=1), n_steps=6)
    for step in net.steps:
        nn.init.normal_(step.denoiser.last.weight, std=0.05)
    return net


def loss(x: Tensor) -> Tensor:
    return (x - 1).abs().mean()


def gradients(
    net: Unrolled, problem: Problem, steps_per_stage: int | None, activations: Activations = "stored"
) -> list[Tensor]:
    net.zero_grad()
    for output in stage_losses(net, problem, loss, stages_of(6, steps_per_stage), Local(), activations):
        output.loss.backward()
    return [p.grad.clone() for p in net.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_one_stage_is_ordinary_back_propagation_bit_for_bit(net: Unrolled, problem: Problem) -> None:
    staged = gradients(net, problem, None)
    net.zero_grad()
    loss(net(problem)).backward()
    assert equal(staged, [p.grad for p in net.parameters()])
    assert equal(staged, gradients(net, problem, None, "recomputed"))
    assert equal(staged, gradients(net, problem, 6))


@pytest.mark.parametrize("steps_per_stage", [1, 2, 4])
def test_a_stage_learns_from_its_own_loss_alone(net: Unrolled, problem: Problem, steps_per_stage: int) -> None:
    staged = gradients(net, problem, steps_per_stage)
    alone, x = [], problem.AHy
    for stage in stages_of(6, steps_per_stage):
        net.zero_grad()
        for step in net.sequence[stage]:
            x = step(x, problem)
        loss(x).backward()
        alone += [p.grad.clone() for step in net.sequence[stage] for p in step.parameters()]
        x = x.detach()
    assert equal(staged, alone)
    assert not equal(staged, gradients(net, problem, None))


@pytest.mark.parametrize("steps_per_stage", [1, 2, 4])
def test_no_gradient_crosses_the_border_of_a_stage(net: Unrolled, problem: Problem, steps_per_stage: int) -> None:
    stages = stages_of(6, steps_per_stage)
    for output in stage_losses(net, problem, loss, stages, Local()):
        net.zero_grad()
        output.loss.backward()
        reached = {i for i, step in enumerate(net.steps) for p in step.parameters() if p.grad is not None}
        assert reached == set(range(6)[stages[output.stage]])


def test_only_trained_stages_run_and_learn(net: Unrolled, problem: Problem) -> None:
    (output,) = stage_losses(net, problem, loss, stages_of(6, 2), Local(), trained=range(1, 2))
    output.loss.backward()
    assert [step.step_size.grad is not None for step in net.steps] == [False, False, True, True, False, False]
    assert torch.equal(output.image, run(net.sequence[:4], problem.AHy, problem))


def test_random_numbers_of_a_stage_depend_on_its_seed_and_number_alone(problem: Problem) -> None:
    net = proximal_gradient(Noisy, n_steps=3)

    def images(seed: int, trained: range | None = None) -> list[Tensor]:
        torch.rand(3)  # whatever else draws
        return [
            o.image for o in stage_losses(net, problem, loss, stages_of(3, 1), Local(), "stored", (seed, 4), trained)
        ]

    first = images(1)
    assert equal(first, images(1)) and not equal(first, images(2))
    assert equal(first[2:], images(1, range(2, 3)))


def test_the_stages_cover_every_step_once() -> None:
    for n in range(1, 9):
        for k in range(1, n + 1):
            assert [i for stage in stages_of(n, k) for i in range(n)[stage]] == list(range(n))


@pytest.mark.parametrize("k", [0, -1, 7])
def test_stages_that_do_not_fit_are_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"steps_per_stage={k} does not fit a network of 6 steps"):
        stages_of(6, k)


def test_only_one_stage_keeps_its_activations(net: Unrolled, problem: Problem) -> None:
    def saved(steps_per_stage: int | None) -> int:
        return peak_of_saved(lambda: gradients(net, problem, steps_per_stage))

    assert saved(1) < saved(None) / 4


class Regularised(Denoiser):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight

    def penalty(self) -> Tensor:
        return self.weight.square()


def test_a_penalty_belongs_to_the_stage_of_its_denoiser_and_counts_once(problem: Problem) -> None:
    apart = proximal_gradient(Regularised, n_steps=2)
    shared = proximal_gradient(Regularised, n_steps=2, share_weights=True)
    for net, penalties in ((apart, [4.0, 4.0]), (shared, [4.0, 4.0])):
        values = list(stage_losses(net, problem, lambda x: x.real.sum() * 0, stages_of(2, 1), Local()))
        assert [float(v.loss.detach()) for v in values] == penalties
    (whole,) = stage_losses(shared, problem, lambda x: x.real.sum() * 0, stages_of(2), Local())
    assert float(whole.loss.detach()) == 4.0
