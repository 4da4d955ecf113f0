"""Steps undone in the backward pass: the gradient of stored activations, at the memory of one step, or a refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mrirecon.denoisers import Contractive, Denoiser, ResNet
from mrirecon.errors import InputError
from mrirecon.inversion import TOLERANCE, inverse_errors, relative_error
from mrirecon.physics import Problem
from mrirecon.training.link import Local
from mrirecon.training.stages import stage_losses, stages_of
from mrirecon.unrolled import Activations, ModelBased, ProximalGradient, Unrolled, model_based, proximal_gradient, run
from tests.conftest import peak_of_saved, posed

BUILDS: dict[str, Callable[..., Unrolled]] = {
    "modl": lambda **more: model_based(denoiser, weight=4.0, **more),
    "pgd": lambda **more: proximal_gradient(denoiser, step_size=0.5, **more),
}


def denoiser() -> Contractive:
    return Contractive(channels=6, n_layers=3)


def problem_of(dtype: torch.dtype = torch.complex64, batch: int = 2, n_coils: int = 4) -> Problem:
    return posed((11, 14), batch, n_coils, dtype)[0].scaled()[0]


def network(build: Callable[..., Unrolled], **more: object) -> Unrolled:
    torch.manual_seed(0)
    net = build(**more)
    for step in net.steps:  # the last layers start at zero, where no gradient would reach the others
        nn.init.normal_(step.denoiser.layers[-1].weight, std=0.1)
    return net


def gradients(net: Unrolled, problem: Problem, activations: Activations, bf16: bool = False) -> list[Tensor]:
    """Of the starting image and of all weights."""
    net.zero_grad()
    x = problem.AHy.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = run(net.sequence, x, problem, activations)
    (y - 1).abs().mean().backward()
    return [x.grad, *(p.grad.clone() for p in net.parameters())]


def worst(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((x - y).norm() / y.norm()) for x, y in zip(a, b, strict=True))


def whole(a: list[Tensor], b: list[Tensor]) -> float:
    return float(sum((x - y).norm() ** 2 for x, y in zip(a, b, strict=True)) / sum(y.norm() ** 2 for y in b)) ** 0.5


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("more", [{"n_steps": 1}, {"n_steps": 6}, {"n_steps": 4, "share_weights": True}], ids=str)
def test_gradients_are_those_of_stored_activations(name: str, more: dict[str, object]) -> None:
    net = network(BUILDS[name], **more)
    single = [gradients(net, problem_of(), a) for a in ("inverted", "stored")]
    assert worst(*single) < 1e-3, "measured 2e-5 and below"
    net, problem = net.double(), problem_of(torch.complex128)
    double = [gradients(net, problem, a) for a in ("inverted", "stored")]
    # The conjugate gradients of a MoDL step stop at a residual of 1e-6, whatever the precision.
    assert whole(*double) < (1e-12 if name == "pgd" else 1e-6)


def test_stages_learn_as_with_stored_activations() -> None:
    net, problem = network(BUILDS["modl"], n_steps=6), problem_of()
    found = []
    for activations in ("inverted", "stored"):
        net.zero_grad()
        outputs = stage_losses(net, problem, lambda x: (x - 1).abs().mean(), stages_of(6, 3), Local(), activations)
        for output in outputs:
            output.loss.backward()
        found.append([p.grad.clone() for p in net.parameters()])
    assert worst(*found) < 1e-3


def test_weights_that_do_not_learn_get_no_gradient() -> None:
    net, problem = network(BUILDS["pgd"], n_steps=3), problem_of()
    net.steps[1].requires_grad_(False)
    for activations in ("inverted", "stored"):
        net.zero_grad()
        run(net.sequence, problem.AHy, problem, activations).abs().mean().backward()
        assert [p.grad is not None for p in net.parameters()] == [p.requires_grad for p in net.parameters()]
    with torch.no_grad():
        assert not run(net.sequence, problem.AHy, problem, "inverted").requires_grad


@pytest.mark.parametrize("name", BUILDS)
def test_the_memory_does_not_grow_with_the_number_of_steps(name: str) -> None:
    problem = problem_of()

    def saved(n_steps: int, activations: Activations) -> int:
        net = network(BUILDS[name], n_steps=n_steps)
        return peak_of_saved(lambda: run(net.sequence, problem.AHy, problem, activations).abs().mean().backward())

    assert saved(8, "inverted") == saved(2, "inverted") < saved(2, "stored") < saved(8, "stored") / 3


class Halved(Denoiser):
    """D(x) = x / 2, which notes whether autocast was on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return x * self.weight

    def inverse(self, y: Tensor) -> Tensor:
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return y / self.weight


@pytest.mark.parametrize("bf16", [True, False])
def test_the_way_back_has_the_autocast_of_the_way_there(bf16: bool) -> None:
    net = proximal_gradient(Halved, n_steps=2, step_size=0.5)
    gradients(net, problem_of(), "inverted", bf16)
    assert [step.denoiser.seen for step in net.steps] == [[bf16] * 3] * 2


def test_gradients_of_bfloat16_convolutions_agree_to_their_precision() -> None:
    net, problem = network(BUILDS["modl"], n_steps=3), problem_of()
    assert whole(gradients(net, problem, "inverted", True), gradients(net, problem, "stored", True)) < 1e-2


def refused(net: Unrolled, words: str) -> None:
    problem = problem_of()
    with pytest.raises(InputError, match=words):
        run(net.sequence, problem.AHy, problem, "inverted")


def test_steps_that_cannot_be_undone_are_refused_before_they_run() -> None:
    refused(proximal_gradient(denoiser, step_size=1.0), r"step_size is 1, but .* singular at t = 1.* at most 0\.5")
    refused(proximal_gradient(ResNet, step_size=0.5), "ResNet has no inverse.*Contractive.*recomputed")
    refused(model_based(ResNet, weight=4.0), "ResNet has no inverse")
    refused(model_based(nn.Identity, weight=4.0), "Identity has no inverse")
    refused(Unrolled([nn.Bilinear(1, 1, 1)]), "a step Bilinear has no inverse")
    with pytest.raises(InputError, match="ResNet has no inverse"):
        ResNet(channels=2).inverse(problem_of().AHy)


def test_maps_that_want_a_gradient_are_refused() -> None:
    problem = problem_of()
    problem.AHy.requires_grad_()
    with pytest.raises(InputError, match="gives no gradient of the data"):
        run(network(BUILDS["modl"]).sequence, problem.AHy, problem, "inverted")


def test_a_wrong_reconstruction_of_the_input_is_refused_with_its_error() -> None:
    net, problem = model_based(denoiser, n_steps=2, weight=0.05, iterations=5), problem_of()
    y = run(net.sequence, problem.AHy, problem, "inverted")
    with pytest.raises(InputError, match=r"relative error of \d.*at most 0\.001.*weight"):
        y.abs().mean().backward()
    assert inverse_errors(net.sequence, problem.AHy, problem)[0] > TOLERANCE


def test_an_image_that_is_not_finite_is_refused() -> None:
    net, problem = network(BUILDS["pgd"], n_steps=2), problem_of()
    x = problem.AHy.clone()
    x[0, 0, 3, 4] = torch.nan
    with pytest.raises(InputError, match="relative error of nan"):
        run(net.sequence, x, problem, "inverted").abs().mean().backward()


def test_the_error_is_that_of_the_worst_item_and_an_empty_item_is_no_error() -> None:
    x = torch.ones(3, 1, 4, 4, dtype=torch.complex64)
    x[0] = 0
    y = x.clone()
    y[2] *= 1.5
    assert relative_error(x, x) == 0 and relative_error(y, x) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("step", "limit"),
    [
        (lambda: ProximalGradient(denoiser(), 0.5), 3e-6),
        (lambda: ProximalGradient(denoiser(), 0.9), 3e-5),
        (lambda: ModelBased(denoiser(), weight=4.0), 3e-6),
        (lambda: ModelBased(denoiser(), weight=0.5), 3e-5),
    ],
)
def test_one_step_comes_back_to_single_precision(step: Callable[[], nn.Module], limit: float) -> None:
    problem = problem_of()
    (error,) = inverse_errors([step()], problem.AHy, problem)
    assert error < limit


def test_errors_are_listed_in_the_order_of_the_steps_and_grow_on_the_way_back() -> None:
    net, problem = network(BUILDS["pgd"], n_steps=8), problem_of()
    errors = inverse_errors(net.sequence, problem.AHy, problem)
    assert len(errors) == 8 and errors[-1] < errors[0] < TOLERANCE
