"""A stage's program is what `fit` minimises, for every step that is affine in its filters and both losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mrirecon.convex.certificate import Certificate
from mrirecon.convex.least_absolute import LeastAbsolute
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.working_set import solve
from mrirecon.denoisers import ConvexDual, ResNet
from mrirecon.errors import InputError
from mrirecon.losses import L1, L2, SSIM, Loss, PartsL1
from mrirecon.physics import Problem, sense
from mrirecon.training.convex_stage import Sample, program_of, stage_program
from mrirecon.unrolled import ModelBased, OneShot, ProximalGradient
from tests.conftest import posed

LOSSES = (L2(), PartsL1())
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


def samples_of_two_maps() -> list[Sample]:
    g = torch.Generator().manual_seed(5)
    columns, x = (torch.randn(shape, dtype=torch.complex128, generator=g) for shape in ((9, 8, 3, 2), (1, 2, 9, 8)))
    maps = torch.linalg.qr(columns).Q.permute(3, 2, 0, 1)[None]  # orthonormal across sets
    mask = (torch.rand(1, 1, 1, 8, generator=g) < 0.6).double()
    A = sense(maps, mask, 2)
    problem = Problem.pose(A, A(x))
    return [Sample(problem.AHy, problem, x)]


def training_objective(step: nn.Module, slices: list[Sample], loss: Loss) -> Tensor:
    losses = [loss(step(s.x, s.problem), s.target, torch.ones(1)) for s in slices]
    return torch.stack(losses).mean() + step.denoiser.penalty()


@pytest.mark.parametrize("slices", [samples(), samples_of_two_maps()], ids=["one_map", "two_maps"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("kind", STEPS)
def test_the_program_is_the_training_objective_and_its_gradient(kind: str, loss: Loss, slices: list[Sample]) -> None:
    step = step_of(kind)
    program = stage_program(step, slices, cg_tolerance=1e-12, dtype=torch.float64, kind=program_of(loss))
    with torch.no_grad():
        step.denoiser.gates.copy_(program.K.gates.reshape(8, 3, 3))
        step.denoiser.filters.normal_(generator=torch.Generator().manual_seed(3))
    v = step.denoiser.filters.detach().flatten(1)
    expected = training_objective(step, slices, loss)
    proof, gradient = program.certify(v, torch.arange(8))
    assert proof.primal == pytest.approx(expected.item(), rel=1e-6)  # the step itself ends at a tolerance
    expected.backward()
    penalised = gradient + program.beta * v / v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(penalised, step.denoiser.filters.grad.flatten(1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("kind", STEPS)
def test_no_training_gets_below_the_certified_bound(kind: str, loss: Loss) -> None:
    """An ordinary optimiser, from the solution and from elsewhere."""
    step, slices = step_of(kind), samples()
    program = stage_program(step, slices, cg_tolerance=1e-9, dtype=torch.float64, kind=program_of(loss))
    solution = solve(program, 1e-3 if loss in LOSSES[1:] else 1e-5)
    with torch.no_grad():
        step.denoiser.gates.copy_(program.K.gates.reshape(8, 3, 3))
    for start in (solution.filters.reshape(8, 3, 3), torch.zeros(8, 3, 3)):
        with torch.no_grad():
            step.denoiser.filters.copy_(start)
        adam = torch.optim.Adam([step.denoiser.filters], lr=6e-3)
        for _ in range(30):
            adam.zero_grad()
            value = training_objective(step, slices, loss)
            assert value.item() >= solution.certificate.dual
            value.backward()
            adam.step()
    assert value.item() <= solution.certificate.primal * 1.05


@pytest.mark.parametrize("kind", [LeastSquares, LeastAbsolute])
def test_a_loose_tolerance_of_modl_widens_the_gap(kind: type[LeastSquares] | type[LeastAbsolute]) -> None:
    """Of the first certificate of a run, too: its own calls are what its errors are measured in."""
    step, slices = step_of("model_based"), samples()
    v, everything = torch.randn(8, 9, generator=torch.Generator().manual_seed(0)).double(), torch.arange(8)

    def proof(tolerance: float, filters: Tensor) -> Certificate:
        program = stage_program(step, slices, cg_tolerance=tolerance, dtype=torch.float64, kind=kind)
        return program.certify(filters, everything)[0]

    exact = stage_program(step, slices, cg_tolerance=1e-12, dtype=torch.float64, kind=kind)
    best = solve(exact, 1e-2)
    for filters in (0 * v, v, best.filters):
        tight, loose, looser = (proof(tolerance, filters) for tolerance in (1e-10, 1e-4, 1e-2))
        assert tight.primal < loose.primal < looser.primal
        assert max(tight.dual, loose.dual, looser.dual) <= best.certificate.primal
        if not filters.any():
            assert tight.gap < loose.gap < looser.gap < 1


def test_what_is_no_convex_program_is_refused() -> None:
    with pytest.raises(InputError, match="ResNet is no convex program"):
        stage_program(OneShot(ResNet(4)), samples())
    with pytest.raises(InputError, match="not known to be affine"):
        stage_program(nn.Identity(), samples())
    with pytest.raises(InputError, match="no slice to train on"):
        stage_program(step_of("one_shot"), [])


@pytest.mark.parametrize("loss", [L1(), SSIM()], ids=lambda loss: type(loss).__name__)
def test_other_losses_are_refused_with_those_that_have_a_program(loss: Loss) -> None:
    with pytest.raises(InputError, match=r"losses\.L2 or mrirecon\.losses\.PartsL1"):
        program_of(loss)


def test_images_that_are_not_finite_are_named() -> None:
    slices = samples()
    slices[1].x[0, 0, 3, 3] = torch.nan
    with pytest.raises(InputError, match="training slice 2, as this stage gets it, is not finite"):
        stage_program(step_of("one_shot"), slices)
