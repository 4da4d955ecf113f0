"""The gated denoiser, and the ReLU network it is the convex counterpart of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d

from mrirecon.denoisers import ConvexDual, TwoLayerReLU
from mrirecon.denoisers import gated as module
from mrirecon.denoisers.gated import Blocks, gated
from mrirecon.errors import InputError


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def trained(n_gates: int = 7, kernel_size: int = 3, ndim: int = 2, padding: str = "zeros") -> ConvexDual:
    net = ConvexDual(n_gates, kernel_size, ndim=ndim, padding=padding).double()
    with torch.no_grad():
        net.filters.normal_(generator=torch.Generator().manual_seed(1))
    return net


def plain(net: ConvexDual, x: Tensor) -> Tensor:
    """The same with torch's convolutions, all gates at once."""
    convolve = {2: conv2d, 3: conv3d}[net.ndim]
    parts = torch.view_as_real(x).movedim(-1, 0).flatten(0, 2)[:, None]
    opened = convolve(parts, net.gates[:, None], padding="same") >= 0
    out = (opened * convolve(parts, net.filters[:, None], padding="same")).sum(1)
    return x + torch.view_as_complex(out.reshape(2, *x.shape).movedim(0, -1).contiguous())


@pytest.mark.parametrize(("ndim", "shape"), [(2, (13, 10)), (3, (5, 7, 6))])
@pytest.mark.parametrize("n_maps", [1, 2])
def test_it_is_a_sum_of_convolutions_behind_gates(ndim: int, shape: tuple[int, ...], n_maps: int) -> None:
    net, x = trained(ndim=ndim), image(2, n_maps, *shape)
    torch.testing.assert_close(net(x), plain(net, x))


def test_untrained_it_is_the_identity() -> None:
    x = image(1, 1, 9, 8)
    assert torch.equal(ConvexDual(5, 3).double()(x), x)


@pytest.mark.parametrize(("ndim", "shape"), [(2, (13, 10)), (3, (5, 7, 6))])
@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
def test_chunks_of_gates_and_blocks_of_pixels_change_nothing(
    ndim: int, shape: tuple[int, ...], padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def results() -> list[Tensor]:
        net, x = trained(ndim=ndim, padding=padding), image(2, 1, *shape).requires_grad_()
        out = net(x)
        out.abs().square().sum().backward()
        assert x.grad is not None and net.filters.grad is not None
        return [out.detach(), x.grad, net.filters.grad]

    whole = results()
    monkeypatch.setattr(module, "GATES", 3)
    monkeypatch.setattr(module, "ROWS", 11)
    for a, b in zip(results(), whole, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
def test_gradients_are_those_of_differences(padding: str) -> None:
    u = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    v = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    x = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    # No patch lies within the differences of a gate's border, where the function jumps.
    assert torch.autograd.gradcheck(lambda x, v: gated(x, u, v, padding), (x, v), eps=1e-7)


def test_patches_and_their_adjoint_are_adjoint() -> None:
    images = torch.randn(2, 5, 6, dtype=torch.float64)
    blocks = Blocks(images, 3, "reflect")
    q = [torch.randn_like(blocks.patches(place)) for place in blocks.places()]
    total = torch.zeros_like(blocks.padded)
    for place, some in zip(blocks.places(), q, strict=True):
        blocks.add_patches(total, place, some)
    forward = sum(float((blocks.patches(place) * some).sum()) for place, some in zip(blocks.places(), q, strict=True))
    assert float((blocks.unpadded(total) * images).sum()) == pytest.approx(forward)


def test_what_training_keeps_does_not_grow_with_the_number_of_gates() -> None:
    def kept(n_gates: int) -> int:
        """Numbers that the backward pass needs, beside gates and filters."""
        sizes: list[int] = []
        net, x = ConvexDual(n_gates, 3), torch.ones(1, 1, 320, 320, dtype=torch.complex64)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            net(x)
        return sum(sizes) - net.gates.numel() - net.filters.numel()

    assert kept(5000) == kept(50)


def test_exchanging_real_and_imaginary_part_exchanges_those_of_the_result() -> None:
    net, x = trained(), image(1, 1, 12, 9)
    exchanged = torch.complex(x.imag, x.real)
    out = net(exchanged)
    torch.testing.assert_close(torch.complex(out.imag, out.real), net(x))


def test_conjugation_and_rotation_of_the_phase_do_not_commute_with_it() -> None:
    net, x = trained(), image(1, 1, 12, 9)
    assert (net(x.conj().resolve_conj()) - net(x).conj()).abs().max() > 0.1
    assert (net(1j * x) - 1j * net(x)).abs().max() > 0.1


def test_shifting_the_image_shifts_the_result() -> None:
    net, x = trained(padding="circular"), image(1, 1, 12, 9)
    torch.testing.assert_close(net(x.roll((2, 3), (-2, -1))), net(x).roll((2, 3), (-2, -1)))


def test_an_item_of_a_batch_does_not_know_of_the_others() -> None:
    net, x = trained(), image(3, 1, 12, 9)
    for i in range(3):
        assert torch.equal(net(x)[i], net(x[i : i + 1])[0])


def test_what_is_not_finite_stays_in_its_neighbourhood_and_is_seen() -> None:
    net, x = trained(), image(1, 1, 12, 9)
    spoilt = x.clone()
    spoilt[..., 5, 5] = torch.nan
    out = net(spoilt)
    assert torch.isnan(out[..., 4:7, 4:7]).all()
    assert torch.equal(out[..., :4, :], net(x)[..., :4, :])


def test_gates_follow_from_the_seed() -> None:
    torch.manual_seed(1)
    a, b, c = ConvexDual(4, 3, seed=3), ConvexDual(4, 3, seed=3), ConvexDual(4, 3, seed=4)
    assert torch.equal(a.gates, b.gates) and not torch.equal(a.gates, c.gates)
    b.load_state_dict(c.state_dict())
    assert torch.equal(b.gates, c.gates)


def test_the_penalty_is_the_group_lasso_and_has_a_gradient_at_zero() -> None:
    net = trained()
    expected = net.strength * sum(float(f.norm()) for f in net.filters.detach())
    assert net.penalty().item() == pytest.approx(expected)
    untrained = ConvexDual(4, 3)
    untrained.penalty().backward()
    assert untrained.filters.grad is not None and torch.equal(untrained.filters.grad, torch.zeros(4, 3, 3))


def test_gates_are_as_exact_under_autocast() -> None:
    net, x = trained().float(), image(1, 1, 12, 9).to(torch.complex64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = net(x)
    assert torch.equal(inside, net(x))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_relu_network_is_gated_by_its_own_filters(ndim: int) -> None:
    torch.manual_seed(0)
    relu = TwoLayerReLU(5, 3, ndim=ndim).double()
    net = trained(5, 3, ndim=ndim)
    with torch.no_grad():
        relu.u.normal_()
        relu.v.normal_()
        net.gates.copy_(relu.u)
        net.filters.copy_(relu.u * relu.v.reshape(-1, *[1] * ndim))
    x = image(2, 1, *[6] * ndim)
    torch.testing.assert_close(relu(x), net(x))
    assert net.penalty().item() <= relu.penalty().item()


@pytest.mark.parametrize("denoiser", [ConvexDual, TwoLayerReLU])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kernel_size": 4}, "must be odd"),
        ({"strength": -1.0}, "strength is -1.0"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"ndim": 4}, "use 2 for slices"),
        ({"padding": "mirror"}, "zeros"),
    ],
)
def test_impossible_settings_are_refused(denoiser: type, settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        denoiser(**settings)


def test_too_few_gates_and_the_wrong_image_are_refused() -> None:
    with pytest.raises(InputError, match="n_gates is 0"):
        ConvexDual(0)
    with pytest.raises(InputError, match="space axes"):
        ConvexDual(3, 3)(image(1, 1, 4, 4, 4))
