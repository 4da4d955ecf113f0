"""The scale-equivariant denoiser: what it commutes with, and that it is a denoiser like the others."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from mrirecon.checkpoint import build, load, record
from mrirecon.denoisers import ResNet, ScaleEquivariant
from mrirecon.denoisers.scales import (
    Basis,
    Dilated,
    Hermite,
    ScaleConv,
    Zoomed,
)
from mrirecon.denoisers.scales.padding import PADDINGS, Padding
from mrirecon.errors import InputError
from mrirecon.physics import Problem, sense
from mrirecon.testing import assert_scale_equivariant, relative_error, scale_equivariance_error, unit_gain
from mrirecon.unrolled import model_based, proximal_gradient
from tests.conftest import posed

SMALL = Zoomed(2, 1.5)
BASES = [Dilated(), Zoomed()]
Kept = Callable[[Callable[[Tensor], Tensor], Tensor], int]


def random(shape: tuple[int, ...], dtype: torch.dtype = torch.complex64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def denoiser(seed: int = 0, **settings: Any) -> ScaleEquivariant:
    """One that is not the identity."""
    torch.manual_seed(seed)
    net = ScaleEquivariant(**settings)
    torch.nn.init.normal_(net.last.weight)
    return net


@pytest.mark.parametrize(("ndim", "shape"), [(2, (11, 14)), (3, (6, 7, 8))])
@pytest.mark.parametrize("n_maps", [1, 2])
def test_an_untrained_network_is_the_identity(ndim: int, shape: tuple[int, ...], n_maps: int) -> None:
    x = random((2, n_maps, *shape))
    assert torch.equal(ScaleEquivariant(3, 2, n_maps=n_maps, ndim=ndim, basis=SMALL)(x), x)


@pytest.mark.parametrize("basis", BASES)
def test_features_of_an_enlarged_image_are_the_enlarged_features_one_place_further_on(basis: Basis) -> None:
    torch.manual_seed(0)
    lifting, second = (unit_gain(ScaleConv(*settings)) for settings in ((2, 8, basis), (8, 8, basis, 2, 1, True)))

    def lifted(x: Tensor) -> tuple[Tensor, ...]:
        return lifting(torch.cat([x.real, x.imag], 1))

    for f, bound in ((lifted, 0.01), (lambda x: second(lifted(x)), 0.02)):
        for places in (-1, 1, 2):
            assert_scale_equivariant(f, bound, [basis.ratio**places], places=places)
        assert scale_equivariance_error(f, basis.ratio, places=0) > 0.02, "at the same place they differ"


def test_the_denoiser_is_steadier_under_changes_of_scale_than_an_ordinary_one_and_not_by_its_layout_alone() -> None:
    makers = {
        "equivariant": lambda: ScaleEquivariant(32, 16),
        "one scale": lambda: ScaleEquivariant(32, 32, basis=Dilated(1)),
        "ordinary": lambda: ResNet(32),
    }
    logs = dict.fromkeys(makers, 0.0)
    cases = list(product((0.8, 1.25, 2.0), range(4)))
    for (scale, seed), (name, make) in product(cases, makers.items()):
        torch.manual_seed(seed)
        error = scale_equivariance_error(unit_gain(make()).branch, scale)
        logs[name] += float(torch.tensor(error).log()) / len(cases)
    assert logs["equivariant"] < logs["ordinary"] - torch.tensor(5.0).log()
    assert logs["equivariant"] < logs["one scale"] - torch.tensor(1.8).log()


def test_a_denoiser_of_volumes_commutes_with_scale_and_an_ordinary_one_does_not() -> None:
    torch.manual_seed(0)
    ours = unit_gain(ScaleEquivariant(8, 4, n_blocks=1, ndim=3, basis=Dilated(3)))
    plain = unit_gain(ResNet(8, n_blocks=1, ndim=3))
    where = {"scales": (0.8, 1.25), "shape": (1, 1, 40, 40, 40), "border": 12}
    assert_scale_equivariant(ours.branch, 0.035, **where)
    with pytest.raises(AssertionError, match=r"scale 0.8: equivariance error .* > 0.035 \(.* of it from resampling\)"):
        assert_scale_equivariant(plain.branch, 0.035, **where)


@pytest.mark.parametrize("extent", [1, 2, 3])
@pytest.mark.parametrize("projection", ["mean", "max"])
def test_shifting_the_image_shifts_the_result(extent: int, projection: Literal["mean", "max"]) -> None:
    net = denoiser(channels=4, extent=extent, projection=projection, normalize=True, basis=Zoomed(3, 1.4)).double()
    x = random((2, 1, 21, 30), torch.complex128)
    assert relative_error(net(x.roll((3, -5), (-2, -1))), net(x).roll((3, -5), (-2, -1))) < 1e-13


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_the_interior_is_shifted_whatever_the_padding(padding: Literal["reflect", "zeros"]) -> None:
    net = denoiser(channels=4, n_blocks=1, basis=SMALL, padding=padding)
    x = random((1, 1, 40, 40))
    inside = (..., slice(10, -10), slice(10, -10))
    assert relative_error(net(x.roll((2, 3), (-2, -1)))[inside], net(x).roll((2, 3), (-2, -1))[inside]) < 1e-6


def test_mirrored_padding_makes_a_constant_image_a_constant_image() -> None:
    result = denoiser(channels=4, basis=SMALL, padding="reflect")(torch.full((1, 1, 12, 13), 1 + 2j))
    assert relative_error(result, result[..., :1, :1].expand_as(result)) < 1e-6


def test_it_can_be_differentiated_for_every_image_of_a_batch_by_itself() -> None:
    net = denoiser(channels=3, hidden=2, n_blocks=1, basis=Dilated(2)).double()
    x = random((3, 1, 8, 9), torch.complex128)

    def energy(x: Tensor) -> Tensor:
        return net(x[None]).abs().square().sum()

    found = torch.func.vmap(torch.func.grad(energy))(x)
    assert relative_error(found[1], torch.func.grad(energy)(x[1])) < 1e-13


@pytest.mark.parametrize("settings", [{}, {"extent": 2, "normalize": True, "projection": "max"}, {"ndim": 3}])
def test_gradients_are_those_of_differences(settings: dict[str, Any]) -> None:
    net = denoiser(channels=2, hidden=2, n_blocks=1, basis=SMALL, **settings).double()
    shape = (1, 1, 5, 6) if net.ndim == 2 else (1, 1, 5, 5, 6)
    x = random(shape, torch.complex128).requires_grad_()
    assert torch.autograd.gradcheck(net, x)
    weight = net.blocks[0].second.weight
    direction = torch.randn_like(weight)
    (slope,) = torch.autograd.grad(net(x).abs().square().sum(), weight)
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            weight += step * direction
            values.append(float(net(x).abs().square().sum()))
            weight -= step * direction
    assert float((slope * direction).sum()) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_an_image_is_denoised_alike_alone_and_in_a_batch() -> None:
    net = denoiser(channels=4, normalize=True, basis=SMALL).double()
    x = random((3, 1, 17, 20), torch.complex128)
    assert relative_error(net(x)[1:2], net(x[1:2])) < 1e-14


def test_kernels_are_made_once_while_only_evaluated_and_anew_for_new_weights() -> None:
    net = denoiser(channels=4, basis=SMALL).eval()
    x = random((1, 1, 16, 16))
    with torch.no_grad():
        conv = net.blocks[0].lifting
        first, kernels = net(x), conv.kernels()
        assert conv.kernels() is kernels
        for parameter in net.parameters():
            parameter.mul_(2)
        assert conv.kernels() is not kernels
        assert relative_error(net(x), first) > 0.1
    assert relative_error(net(x), net.train()(x)) < 1e-6


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Bytes kept for the backward pass, as the benchmark counts them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    measure = importlib.import_module("benchmarks.measure")
    return lambda net, x: int(measure.kept_bytes(lambda: net(x), ()))


def test_as_much_is_kept_for_the_backward_pass_as_by_an_ordinary_network_of_as_many_features(kept: Kept) -> None:
    x = random((1, 1, 200, 200))
    assert kept(denoiser(channels=32, hidden=16), x) < 1.01 * kept(ResNet(32), x)


def test_weights_are_saved_with_the_functions_they_were_trained_with(tmp_path: Path) -> None:
    basis = Hermite(n_scales=2, kernel_size=11)
    net = denoiser(channels=4, basis=basis)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    again = ScaleEquivariant(channels=4, basis=basis)
    again.load_state_dict(torch.load(tmp_path / "weights.pt"))
    x = random((1, 1, 16, 17))
    assert torch.equal(again(x), net(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        ScaleEquivariant(channels=4, basis=Hermite(n_scales=2, kernel_size=13)).load_state_dict(net.state_dict())


def test_a_checkpoint_is_read_with_the_basis_it_was_trained_with(tmp_path: Path) -> None:
    basis = {"class_path": "mrirecon.denoisers.scales.Hermite", "init_args": {"n_scales": 2, "kernel_size": 11}}
    sizes = {"channels": 2, "hidden": 2, "n_blocks": 1, "basis": basis}
    card = {
        "class_path": "mrirecon.unrolled.proximal_gradient",
        "init_args": {
            "n_steps": 2,
            "denoiser": {"class_path": "mrirecon.denoisers.ScaleEquivariant", "init_args": sizes},
        },
    }
    net = unit_gain(build(card, tmp_path))
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "mrirecon": record(card, {})}, tmp_path / "hermite.ckpt")
    problem, _ = posed((19, 22))
    assert torch.equal(load(tmp_path / "hermite.ckpt").net(problem), net.eval()(problem))


def test_validation_sees_the_weights_of_a_fused_optimizer() -> None:
    net = denoiser(channels=4, basis=SMALL)
    x = random((1, 1, 16, 16))
    optimizer = torch.optim.Adam(net.parameters(), 0.1, fused=True)  # which raises no version
    for _ in range(3):
        net.train()(x).abs().sum().backward()
        optimizer.step()
        with torch.no_grad():
            assert relative_error(net.eval()(x), net.train()(x)) < 1e-6


def test_evaluation_under_autocast_and_in_inference_mode_leaves_nothing_behind() -> None:
    net = denoiser(channels=4, basis=SMALL).eval()
    x = random((1, 1, 16, 16))
    with torch.no_grad():
        expected = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert relative_error(net(x), expected) < 0.05
        assert torch.equal(net(x), expected)
    with torch.inference_mode():
        assert torch.equal(net(x), expected)
        assert denoiser(channels=4, basis=SMALL).eval()(x).shape == x.shape


@pytest.mark.parametrize("make", [proximal_gradient, model_based])
def test_it_fits_every_unrolled_step(make: Any) -> None:
    problem, _ = posed((19, 22))
    net = make(lambda: denoiser(channels=2, hidden=2, n_blocks=1, basis=SMALL), n_steps=2)
    net(problem).abs().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_it_fits_the_steps_of_volumes() -> None:
    maps = random((1, 1, 2, 6, 7, 8))
    A = sense(maps / maps.abs().square().sum(2, keepdim=True).sqrt(), torch.ones(1, 1, 1, 1, 8), ndim=3)
    for make in (proximal_gradient, model_based):
        net = make(lambda: denoiser(channels=2, hidden=2, n_blocks=1, ndim=3, basis=Dilated(2)), n_steps=2)
        assert net(Problem.pose(A, A(random((1, 1, 6, 7, 8))))).shape == (1, 1, 6, 7, 8)


def test_an_ensemble_and_a_network_without_data_are_evaluated_as_any_other() -> None:
    nets = [denoiser(channels=4, hidden=2, n_blocks=1, basis=Dilated(2)) for _ in range(2)]
    weights, buffers = torch.func.stack_module_state(nets)
    x = random((1, 1, 12, 10))

    def one(weights: Any, buffers: Any) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(nets[0], (weights, buffers), (x,))
        return result

    for mode in (torch.enable_grad(), torch.no_grad()):
        with mode:
            found = torch.func.vmap(one)(weights, buffers)
            assert all(relative_error(y, net(x)) < 1e-5 for y, net in zip(found, nets, strict=True))
    assert nets[0].to("meta")(x.to("meta")).shape == x.shape


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, by torch
def test_it_compiles_without_a_break_in_the_graph_and_keeps_no_more(kept: Kept) -> None:
    net = denoiser(channels=8, hidden=4, basis=Dilated(3))
    x = random((1, 1, 48, 48))
    compiled = torch.compile(net, backend="aot_eager_decomp_partition", fullgraph=True)
    gradients = [torch.autograd.grad(f(x).abs().square().sum(), list(net.parameters())) for f in (compiled, net)]
    assert all(relative_error(a, b) < 1e-5 for a, b in zip(*gradients, strict=True))
    assert kept(compiled, x) < 1.1 * kept(net, x)


@pytest.mark.parametrize("padding", PADDINGS)
def test_it_trains_in_half_precision(padding: Padding) -> None:
    net = denoiser(channels=8, hidden=4, n_blocks=1, padding=padding, normalize=True)
    x = random((1, 1, 128, 128))
    expected = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x)  # oneDNN's blur of few channels never came back
    found.abs().sum().backward()
    assert relative_error(found, expected) < 0.05
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_weights_given_for_one_call_are_those_used() -> None:
    net = denoiser(channels=16, hidden=8, n_blocks=1, basis=SMALL).eval()
    x = random((1, 1, 16, 16))
    with torch.no_grad():
        for factor in (1.0, 2.0, 3.0, 0.5):
            weights = {name: factor * value for name, value in net.named_parameters()}
            found = torch.func.functional_call(net, weights, x)
            again = denoiser(channels=16, hidden=8, n_blocks=1, basis=SMALL)
            again.load_state_dict({**net.state_dict(), **weights})
            assert relative_error(found, again(x)) < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels=0"),
        ({"extent": 9}, "extent is 9; expected 1 to"),
        ({"ndim": 5}, "ndim is 5"),
        ({"projection": "sum"}, "projection=sum"),
        ({"padding": "same"}, "padding=same"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScaleEquivariant(**settings)


def test_an_image_smaller_than_the_kernels_is_refused_with_a_way_out() -> None:
    with pytest.raises(InputError, match="fewer scales or padding: zeros"):
        ScaleEquivariant(2)(random((1, 1, 1, 40)))
    with pytest.raises(InputError, match="2 scales for a convolution over 4"):
        ScaleConv(2, 2, Zoomed(4, 1.5))((torch.zeros(1, 2, 9, 9),) * 2)
