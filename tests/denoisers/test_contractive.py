"""The residual CNN that can be undone: what holds its branch below 1, and its inverse."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mrirecon.denoisers import Contractive, contractive
from mrirecon.denoisers.contractive import norm_bound
from mrirecon.errors import InputError


def trained(factor: float = 1.0, **more: object) -> Contractive:
    """With weights and biases as after training, and multiplied by a factor."""
    torch.manual_seed(0)
    net = Contractive(**{"channels": 8, **more})
    with torch.no_grad():
        for conv in net.layers:
            conv.weight.copy_(torch.randn_like(conv.weight) * 0.3 * factor)
            conv.bias.copy_(torch.randn_like(conv.bias) * 0.1)
    return net


def image(*shape: int, dtype: torch.dtype = torch.complex64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def measured_norm(weight: Tensor, size: int = 32) -> float:
    """Norm of the zero-padded convolution on an image of that size, by power iteration."""
    ndim, pad = weight.ndim - 2, weight.shape[-1] // 2
    conv, back = [getattr(torch.nn.functional, f"conv{t}{ndim}d") for t in ("", "_transpose")]
    x = torch.randn(1, weight.shape[1], *[size] * ndim, dtype=weight.dtype)
    for _ in range(200):
        x = back(conv(x / x.norm(), weight, padding=pad), weight, padding=pad)
    return float(x.norm()) ** 0.5


@pytest.mark.parametrize(
    ("shape", "size"), [((8, 8, 3, 3), 32), ((2, 9, 3, 3), 32), ((7, 2, 5, 5), 32), ((4, 4, 1, 1), 8)]
)
def test_the_bound_of_a_convolution_is_above_its_norm_and_near_it(shape: tuple[int, ...], size: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64)
    norm, bound = measured_norm(weight, size), float(norm_bound(weight))
    assert norm <= bound < 1.12 * norm


def test_the_bound_holds_for_smooth_and_for_equal_singular_values_and_in_three_dimensions() -> None:
    smooth = torch.ones(4, 4, 3, 3, dtype=torch.float64)  # norm 36, of a constant image without end
    assert 36 <= float(norm_bound(smooth)) < 36 * 1.08
    centre = torch.zeros(6, 6, 3, 3, dtype=torch.float64)
    centre[:, :, 1, 1] = torch.eye(6)  # the identity: all singular values are 1, where the squarings are worst
    assert 1 <= float(norm_bound(centre)) < 1.12
    solid = torch.randn(5, 4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert measured_norm(solid, 10) <= float(norm_bound(solid)) < 1.3 * measured_norm(solid, 10)
    assert float(norm_bound(torch.zeros(2, 3, 3, 3))) < 1e-30


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_no_convolution_exceeds_its_share_of_the_lipschitz_constant(factor: float) -> None:
    net = trained(factor, lipschitz=0.8, n_layers=5)
    for kernel in net.kernels():
        assert 0.85 * 0.8**0.2 < measured_norm(kernel.detach()) <= 0.8**0.2 * (1 + 1e-5)


def test_small_weights_are_used_as_they_are() -> None:
    net = trained(0.01)
    assert all(torch.equal(kernel, conv.weight) for kernel, conv in zip(net.kernels(), net.layers, strict=True))


def test_the_gradient_is_that_of_the_held_network() -> None:
    net = trained(channels=3, n_layers=3).double()
    x = image(1, 1, 5, 6, dtype=torch.complex128)
    net(x).abs().square().sum().backward()
    for name, p in net.named_parameters():
        direction = torch.randn_like(p)
        values = []
        for step in (1e-6, -2e-6, 1e-6):  # there, back beyond, and home
            with torch.no_grad():
                p.add_(step * direction)
                values.append(float(net(x).abs().square().sum()))
        expected = (values[0] - values[1]) / 2e-6
        assert float((p.grad * direction).sum()) == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("n_layers", [2, 5])
def test_the_branch_is_a_contraction_however_large_the_weights(n_layers: int) -> None:
    net = trained(100.0, n_layers=n_layers, lipschitz=0.8)
    ratios = []
    with torch.no_grad():
        for seed, step in enumerate((1e-2, 1.0, 100.0)):
            x, d = image(1, 1, 32, 32, seed=seed), image(1, 1, 32, 32, seed=seed + 9)
            for _ in range(20):  # differences that pass well are kept, as in a power iteration
                d = d * (step / d.norm())
                change = net.branch(x + d) - net.branch(x)
                ratios.append(float(change.norm() / d.norm()))
                d = change
    assert 1e-3 < max(ratios) < 0.8


def test_the_branch_comes_near_its_constant_where_all_layers_agree() -> None:
    net = trained(100.0, lipschitz=0.8)
    with torch.no_grad():
        for conv in net.layers:  # positive weights amplify a positive constant most, and no ReLU stops it
            conv.weight.abs_()
        x = torch.full((1, 1, 64, 64), 1 + 1j)
        assert 0.5 < float((net.branch(2 * x) - net.branch(x)).norm() / x.norm()) < 0.8


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize(
    ("shape", "more"), [((2, 1, 17, 14), {}), ((2, 2, 9, 9), {"n_maps": 2}), ((2, 1, 5, 6, 7), {"ndim": 3})], ids=str
)
def test_the_inverse_undoes_the_denoiser(shape: tuple[int, ...], more: dict[str, int], dtype: torch.dtype) -> None:
    net = trained(10.0, **more).to(dtype.to_real())
    x = image(*shape, dtype=dtype)
    with torch.no_grad():
        y = net(x)
        back = net.inverse(y)
    assert y.shape == x.shape and y.dtype == dtype
    assert float((y - x).norm() / x.norm()) > 0.01, "this is not the identity"
    assert float((back - x).norm() / x.norm()) < (2e-6 if dtype == torch.complex64 else 1e-13)


@pytest.mark.parametrize(("ndim", "shape"), [(2, (11, 14)), (3, (5, 6, 7))])
def test_an_untrained_network_is_the_identity(ndim: int, shape: tuple[int, ...]) -> None:
    x = image(2, 1, *shape)
    net = Contractive(channels=4, ndim=ndim)
    assert torch.equal(net(x), x) and torch.equal(net.inverse(x), x)


def test_a_slice_is_treated_alike_alone_and_in_company() -> None:
    net, x = trained(10.0), image(3, 1, 12, 13)
    x[1] *= 50
    with torch.no_grad():
        for f in (net, net.inverse):
            alone = torch.cat([f(item) for item in x.split(1)])
            assert torch.allclose(f(x), alone, rtol=0, atol=1e-6 * float(x.abs().max()))


def test_norms_are_found_once_for_all_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(contractive, "norm_bound", lambda w: calls.append(w) or norm_bound(w))
    net, x = trained(), image(1, 1, 8, 8)
    with torch.inference_mode():
        net(x)
    net(x).abs().sum().backward()
    net.inverse(x)
    assert len(calls) == 5
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    kernels = net.kernels()
    assert len(calls) == 10
    assert all(torch.equal(a, b) for a, b in zip(kernels, copy.deepcopy(net).kernels(), strict=True))


def test_activations_can_be_recomputed_when_the_norms_were_found_in_the_forward_pass() -> None:
    """What finding them saved was missed in the recomputation, which has them; so every batch ended in an error."""
    net, x = trained(), image(2, 1, 9, 12)
    gradients = []
    for run in (net, lambda x: checkpoint(net, x, use_reentrant=False)):
        net._slopes = (None, [])
        net.zero_grad()
        run(x).abs().sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_same_weights_give_the_same_image_after_saving_and_loading() -> None:
    net, other, x = trained(10.0), Contractive(channels=8), image(2, 1, 12, 13)
    other(x)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    assert {name.split(".")[0] for name in net.state_dict()} == {"layers"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lipschitz": 1.0}, "lipschitz is 1.0"),
        ({"lipschitz": 0.0}, "lipschitz is 0.0"),
        ({"n_layers": 1}, "n_layers=1"),
        ({"sweeps": 0}, "sweeps=0"),
        ({"kernel_size": 2}, "kernel_size is 2"),
        ({"ndim": 4}, "ndim is 4"),
    ],
)
def test_impossible_settings_are_refused_with_their_value(settings: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Contractive(**settings)


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="denoiser with n_maps=1, ndim=2"):
        Contractive(channels=2)(image(1, 2, 8, 8))
