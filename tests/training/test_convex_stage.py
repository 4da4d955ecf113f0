"""A stage's program is what `fit` minimises with loss L2, for every step that is affine in its filters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mrirecon.convex.working_set import solve
from mrirecon.denoisers import ConvexDual, ResNet
from mrirecon.errors import InputError
from mrirecon.losses import L2
from mrirecon.training import convex_stage
from mrirecon.training.convex_stage import Sample, stage_program
from mrirecon.unrolled import ModelBased, OneShot, ProximalGradient
from tests.conftest import posed

STEPS = ("one_shot", "proximal_gradient", "model_based")


def step_of(kind: str, strength: float = 0.01) -> nn.Module:
    denoiser = ConvexDual(8, 3, strength=strength).double()
    step = {
        "one_shot": lambda: OneShot(denoiser),
        "proximal_gradient": lambda: ProximalGradient(denoiser, 0.7),
        "model_based": lambda: ModelBased(denoiser, 0.1, iterations=200),
    }[kind]()
    return step.double()


def samples(seed: int = 1) -> list[Sample]:
    """Slices of two sizes."""
    found = []
    for number, shape in enumerate([(12, 10), (9, 14), (12, 10)]):
        problem, target = posed(shape, batch=1, dtype=torch.complex128, seed=seed + number)
        noise = torch.randn(target.shape, dtype=target.dtype, generator=torch.Generator().manual_seed(number))
        found.append(Sample(problem.AHy + 0.1 * noise, problem, target))
    return found


def training_objective(step: nn.Module, slices: list[Sample]) -> Tensor:
    losses = [L2()(step(s.x, s.problem), s.target, torch.ones(1)) for s in slices]
    return torch.stack(losses).mean() + step.denoiser.penalty()


@pytest.mark.parametrize("kind", STEPS)
def test_the_program_is_the_training_objective_and_its_gradient(kind: str) -> None:
    step, slices = step_of(kind), samples()
    program = stage_program(step, slices, cg_tolerance=1e-12, dtype=torch.float64)
    with torch.no_grad():
        step.denoiser.gates.copy_(program.K.gates.reshape(8, 3, 3))
        step.denoiser.filters.normal_(generator=torch.Generator().manual_seed(3))
    v = step.denoiser.filters.detach().flatten(1)
    expected = training_objective(step, slices)
    proof, gradient = program.certify(v, torch.arange(8))
    assert proof.primal == pytest.approx(expected.item(), rel=1e-7)
    expected.backward()
    penalised = gradient + program.beta * v / v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(penalised, step.denoiser.filters.grad.flatten(1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", STEPS)
def test_no_training_gets_below_the_certified_bound(kind: str) -> None:
    """An ordinary optimiser, from the solution and from elsewhere."""
    step, slices = step_of(kind), samples()
    program = stage_program(step, slices, cg_tolerance=1e-9, dtype=torch.float64)
    solution = solve(program, 1e-5)
    with torch.no_grad():
        step.denoiser.gates.copy_(program.K.gates.reshape(8, 3, 3))
    for start in (solution.filters.reshape(8, 3, 3), torch.zeros(8, 3, 3)):
        with torch.no_grad():
            step.denoiser.filters.copy_(start)
        adam = torch.optim.Adam([step.denoiser.filters], lr=3e-3)
        for _ in range(60):
            adam.zero_grad()
            value = training_objective(step, slices)
            assert value.item() >= solution.certificate.dual
            value.backward()
            adam.step()
    assert value.item() <= solution.certificate.primal * 1.05


def test_a_loose_tolerance_of_modl_widens_the_gap() -> None:
    step, slices = step_of("model_based"), samples()
    gaps = []
    for tolerance in (1e-10, 1e-4):
        program = stage_program(step, slices, cg_tolerance=tolerance, dtype=torch.float64)
        proof, _ = program.certify(torch.zeros(8, 9, dtype=torch.float64), torch.arange(0))
        gaps.append(proof.gap)
    assert gaps[0] < gaps[1] < gaps[0] + 0.1


def test_what_is_no_convex_program_is_refused() -> None:
    with pytest.raises(InputError, match="ResNet is no convex program"):
        stage_program(OneShot(ResNet(4)), samples())
    with pytest.raises(InputError, match="not known to be affine"):
        stage_program(nn.Identity(), samples())
    with pytest.raises(InputError, match="no slice to train on"):
        stage_program(step_of("one_shot"), [])


def test_a_program_larger_than_the_memory_is_refused_with_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convex_stage, "SHARE", 1e-12)
    with pytest.raises(InputError, match=r"volume_sample_rate"):
        stage_program(step_of("one_shot"), samples())
