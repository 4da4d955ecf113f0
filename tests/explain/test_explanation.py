"""What an explanation claims of a denoiser, by other routes to the same numbers."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mrirecon.denoisers import ConvexDual, ResNet, TwoLayerReLU
from mrirecon.denoisers import gated as gated_module
from mrirecon.errors import InputError
from mrirecon.explain import NONE, Explanation, explain, frequency_response
from mrirecon.explain import clusters as clusters_module
from mrirecon.physics import Problem, sense
from mrirecon.stage_inputs import stage_inputs
from mrirecon.unrolled import ProximalGradient, Unrolled, model_based, one_shot, proximal_gradient

MODES = {"zeros": "constant", "reflect": "reflect", "circular": "wrap"}
SPACES = {2: (13, 10), 3: (5, 7, 6)}


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def trained(n_gates: int = 7, ndim: int = 2, padding: str = "zeros", zeros: tuple[int, ...] = ()) -> ConvexDual:
    net = ConvexDual(n_gates, 3, ndim=ndim, padding=padding).double()
    with torch.no_grad():
        net.filters.normal_(generator=torch.Generator().manual_seed(1))
        net.filters[list(zeros)] = 0
    return net


def patches(x: Tensor, padding: str) -> np.ndarray:
    """(part, map, *space, *kernel) of an image (map, *space), by numpy."""
    parts = np.stack([x.real.numpy(), x.imag.numpy()])
    ndim = parts.ndim - 2
    padded = np.pad(parts, [(0, 0)] * 2 + [(1, 1)] * ndim, mode=MODES[padding])
    return np.lib.stride_tricks.sliding_window_view(padded, [3] * ndim, tuple(range(2, ndim + 2)))


def opened(explanation: Explanation, padding: str = "zeros") -> np.ndarray:
    """(part, map, *space, active), by numpy."""
    taps = tuple(range(-explanation.gates.ndim + 1, 0))
    inner = [np.tensordot(patches(explanation.image, padding), u, (taps, taps)) for u in explanation.gates.numpy()]
    return np.stack(inner, -1) >= 0


def check_law(net: nn.Module, x: Tensor, padding: str) -> None:
    e = explain(net, x).effective_filters().numpy()
    taps = tuple(range(2 + x.ndim - 1, e.ndim))
    result = (patches(x, padding) * e).sum(taps)
    with torch.no_grad():
        np.testing.assert_allclose(result[0] + 1j * result[1], net(x[None])[0].numpy(), atol=1e-12)


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("ndim", SPACES)
@pytest.mark.parametrize("n_maps", [1, 2])
def test_at_every_pixel_the_effective_filter_gives_what_the_denoiser_gives(
    ndim: int, padding: str, n_maps: int
) -> None:
    check_law(trained(ndim=ndim, padding=padding), image(n_maps, *SPACES[ndim]), padding)


@pytest.mark.parametrize("ndim", SPACES)
def test_so_it_does_for_a_relu_network(ndim: int) -> None:
    torch.manual_seed(0)
    net = TwoLayerReLU(6, 3, ndim=ndim, padding="reflect").double()
    with torch.no_grad():
        net.u.normal_()
        net.v.normal_()
        net.v[2] = 0
    check_law(net, image(1, *SPACES[ndim]), "reflect")
    assert sorted(explain(net, image(1, *SPACES[ndim])).active.tolist()) == [0, 1, 3, 4, 5]


def test_filters_of_some_pixels_are_those_of_all_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_module, "ROWS", 11)
    net, x = trained().float(), image(2, 13, 10).to(torch.complex64)
    explanation = explain(net, x)
    everywhere = explanation.effective_filters()
    pixels = [(12, 9), (0, 0), (5, 3), (0, 0)]
    rows, columns = zip(*pixels, strict=True)
    assert torch.equal(explanation.effective_filters(pixels), everywhere[:, :, rows, columns])
    assert explanation.effective_filters([]).shape == (2, 2, 0, 3, 3)


def test_active_groups_are_those_that_are_not_zero_the_strongest_first() -> None:
    net = trained(9, zeros=(0, 4, 8))
    with torch.no_grad():
        net.filters[5] *= 1e-170  # of which the square is zero
    explanation = explain(net, image(1, 13, 10))
    assert sorted(explanation.active.tolist()) == [1, 2, 3, 5, 6, 7]
    norms = [float(f.norm()) for f in net.filters.detach()]
    assert explanation.norms.tolist() == pytest.approx(norms)
    assert explanation.active.tolist() == sorted([1, 2, 3, 5, 6, 7], key=lambda i: -norms[i])
    assert torch.equal(explanation.filters, net.filters[explanation.active])
    assert torch.equal(explanation.gates, net.gates[explanation.active])


@pytest.mark.parametrize(("ndim", "space"), [(2, (40, 30)), (3, (8, 12, 10))])
def test_pixels_of_one_pattern_are_in_one_cluster_and_patterns_are_counted(ndim: int, space: tuple[int, ...]) -> None:
    x = image(1, *space)
    x = torch.complex(2 * x.real.round() + 1, x.imag.sign())  # of few values, so that many patches are equal
    explanation = explain(trained(6, ndim), x, clusters=5)
    bits, numbers = opened(explanation).reshape(-1, 6), explanation.clusters.numpy().reshape(-1)
    patterns, inverse = np.unique(bits, axis=0, return_inverse=True)
    assert explanation.n_patterns == len(patterns) > 5
    assert all(len(np.unique(numbers[inverse.reshape(-1) == i])) == 1 for i in range(len(patterns)))
    assert len(explanation.sizes) == 5 and explanation.sizes.tolist() == sorted(explanation.sizes.tolist())[::-1]
    assert explanation.sizes.tolist() == [np.count_nonzero(numbers == i) for i in range(5)]


def test_a_cluster_has_the_mean_pattern_and_the_mean_filter_of_its_pixels() -> None:
    explanation = explain(trained(9, zeros=(3,)), image(2, 23, 20), clusters=4)
    bits, e = opened(explanation), explanation.effective_filters()
    for number in range(4):
        inside = explanation.clusters == number
        np.testing.assert_allclose(explanation.open_share[number].numpy(), bits[inside.numpy()].mean(0))
        torch.testing.assert_close(explanation.cluster_filters[number], e[inside].mean(0))


def test_clusters_are_nearer_than_a_random_partition_of_the_pixels() -> None:
    explanation = explain(trained(30), image(1, 60, 50), clusters=6)
    bits, numbers = opened(explanation).astype(float), explanation.clusters.numpy()
    near = np.square(bits - explanation.open_share.numpy()[numbers]).sum(-1).mean()
    assert near < 0.75 * np.square(bits - bits.mean((0, 1, 2, 3))).sum(-1).mean()


@pytest.mark.parametrize("sample", [100, 20_000])
def test_clusters_follow_from_the_seed_and_not_from_blocks(sample: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters_module, "SAMPLE", sample)
    net, x = trained(12), image(1, 41, 30)
    whole, again, other = explain(net, x, 5), explain(net, x, 5), explain(net, x, 5, seed=1)
    monkeypatch.setattr(gated_module, "ROWS", 17)
    monkeypatch.setattr("mrirecon.explain.explanation.GATES", 5)
    cut = explain(net, x, 5)
    assert torch.equal(whole.clusters, again.clusters) and torch.equal(whole.clusters, cut.clusters)
    assert torch.equal(whole.open_share, cut.open_share) and whole.n_patterns == cut.n_patterns
    assert not torch.equal(whole.clusters, other.clusters)


@pytest.mark.parametrize(("clusters", "expected"), [(1, 1), (2, 2), (12, 3), (255, 3)])
def test_there_are_never_more_clusters_than_patterns(clusters: int, expected: int) -> None:
    net = trained(2)
    with torch.no_grad():
        net.gates.zero_()
        net.gates[0, 1, 1] = net.gates[1, 0, 0] = 1
    x = torch.tensor([[[-1, 1], [1, -1]]], dtype=torch.complex128)  # its imaginary part is zero
    explanation = explain(net, x, clusters)
    assert len(explanation.sizes) == expected and int(explanation.sizes.sum()) == 4


def test_without_active_groups_it_is_the_identity_in_one_cluster() -> None:
    explanation = explain(ConvexDual(5, 3).double(), image(1, 9, 8))
    assert len(explanation.active) == 0 and explanation.n_patterns == 1 and explanation.sizes.tolist() == [144]
    assert torch.equal(explanation.cluster_filters[0], explanation.identity)
    assert (explanation.effective_filters() == explanation.identity).all()


def test_patches_of_zeros_have_no_cluster() -> None:
    x = image(1, 13, 10)
    x[:, :, 5:] = 0
    x = torch.complex(x.real, torch.zeros_like(x.real))
    numbers = explain(trained(), x, 4).clusters
    assert (numbers[0, :, :, 6:] == NONE).all() and (numbers[1] == NONE).all() and (numbers[0, :, :, :6] < 4).all()


@pytest.mark.parametrize(("ndim", "size"), [(2, 64), (2, 7), (3, 10)])
def test_a_frequency_response_is_the_direct_transform_and_keeps_energy(ndim: int, size: int) -> None:
    filters = torch.randn(2, *[5] * ndim, dtype=torch.float64)
    found = frequency_response(filters, size)
    assert found.shape == (2, *[size] * ndim)
    energy = found.square().flatten(1).mean(1)
    torch.testing.assert_close(energy, filters.square().flatten(1).sum(1))
    frequencies, taps = (torch.arange(size) - size // 2).double() / size, torch.arange(5).double()
    waves = torch.exp(-2j * torch.pi * frequencies[:, None] * taps).to(torch.complex128)
    direct = filters.to(torch.complex128)
    for _ in range(ndim):
        direct = torch.tensordot(direct, waves, ([1], [1]))
    torch.testing.assert_close(found, direct.abs())
    middle = found[(slice(None), *[size // 2] * ndim)]
    torch.testing.assert_close(middle, filters.flatten(1).sum(1).abs())


def problem() -> Problem:
    maps = image(1, 1, 3, 12, 9)
    maps = maps / maps.abs().square().sum(2, keepdim=True).sqrt()
    A = sense(maps, (torch.rand(1, 1, 1, 9, generator=torch.Generator().manual_seed(0)) < 0.5).double())
    return Problem.pose(A, A(image(1, 1, 12, 9, seed=2))).scaled()[0]


@pytest.mark.parametrize("share", [False, True])
def test_a_stage_is_explained_with_the_image_that_its_denoiser_is_given(share: bool) -> None:
    posed = problem()
    for make in (proximal_gradient, model_based):
        net = make(trained, n_steps=3, share_weights=share).double()
        x = posed.AHy
        with torch.no_grad():
            for step, (denoiser, given) in zip(net.sequence, stage_inputs(net, posed), strict=True):
                z = x
                if isinstance(step, ProximalGradient):
                    z = x - step.step_size * (posed.A.normal(x) - posed.AHy)
                assert denoiser is step.denoiser and torch.equal(given, z)
                x = step(x, posed)
    ((_, given),) = stage_inputs(one_shot(trained), posed)
    assert torch.equal(given, posed.AHy)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_steps_without_a_denoiser_are_named() -> None:
    with pytest.raises(InputError, match=r"stage 1 \(Identity\) has no denoiser"):
        next(stage_inputs(Unrolled([nn.Identity()]), problem()))


@pytest.mark.parametrize(
    ("x", "clusters", "says"),
    [
        (image(1, 9, 8), 0, "clusters is 0"),
        (image(1, 9, 8), 256, "expected 1 to 255"),
        (image(2, 1, 9, 8), 12, "expected one image"),
        (image(1, 9, 8).real, 12, "float64; expected one image"),
        (image(1, 9, 8).to(torch.complex64), 12, "complex128, as the denoiser is of torch.float64"),
        (image(1, 9, 8) * torch.nan, 12, "the image holds NaN"),
        (image(1, 9, 8) * 0, 12, "zero everywhere"),
        (image(1, 0, 8), 12, "expected one image"),
        (image(9, 8), 12, "space axes"),
        (image(8), 12, "space axes"),
    ],
)
def test_what_cannot_be_explained_is_said(x: Tensor, clusters: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        explain(trained(), x, clusters)


def test_other_denoisers_and_broken_ones_are_refused() -> None:
    with pytest.raises(InputError, match="a ResNet cannot be explained"):
        explain(ResNet(4), image(1, 9, 8))
    with pytest.raises(InputError, match="without neurons"):
        explain(TwoLayerReLU(0), image(1, 9, 8))
    net = trained()
    with torch.no_grad():
        net.filters[0, 0, 0] = torch.inf
    with pytest.raises(InputError, match="training failed"):
        explain(net, image(1, 9, 8))


@pytest.mark.parametrize("pixel", [(9, 0), (0, 8), (-1, 0), (10**15, 3), (1,), (1, 2, 3)])
def test_a_pixel_outside_the_image_is_refused(pixel: tuple[int, ...]) -> None:
    explanation = explain(trained(), image(1, 9, 8))
    with pytest.raises(InputError, match=r"is not in the image of 9 x 8; expected 2 numbers from 0 to 8,7"):
        explanation.effective_filters([(0, 0), pixel])
    assert prod(explanation.clusters.shape) == 144
