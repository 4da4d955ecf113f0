"""The laws of linear operators and of scale equivariance, as measurements and as assertions, for ours and for yours.

    assert_linear_operator(sense(maps, mask), x_shape=(2, 1, 33, 20), y_shape=(2, 4, 33, 20))

Each law takes an operator A, x from its domain and y from its range, and returns a relative error, which is of the
order of the rounding error where the operator is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from mrirecon.denoisers.scales.layers import ScaleConv
from mrirecon.denoisers.scales.resampling import low_passed, natural_images, resampled
from mrirecon.errors import InputError
from mrirecon.physics.linop import LinearOperator

Net = TypeVar("Net", bound=nn.Module)
Law = Callable[[LinearOperator, Tensor, Tensor], float]


def adjointness(A: LinearOperator, x: Tensor, y: Tensor) -> float:
    """<A x, y> = <x, A^H y>, as complex numbers."""
    Ax, AHy = A.forward(x), A.adjoint(y)
    difference = torch.vdot(Ax.flatten(), y.flatten()) - torch.vdot(x.flatten(), AHy.flatten())
    scale = max(Ax.norm() * y.norm(), x.norm() * AHy.norm())
    return float(difference.abs() / scale)


def normal_is_adjoint_of_forward(A: LinearOperator, x: Tensor, y: Tensor) -> float:
    """normal(x) = A^H (A x), and the same for the operator's adjoint."""
    return max(
        relative_error(A.normal(x), A.adjoint(A.forward(x))),
        relative_error(A.H.normal(y), A.forward(A.adjoint(y))),
    )


def linearity(A: LinearOperator, x: Tensor, y: Tensor) -> float:
    """A(a u + v) = a A(u) + A(v) with a complex a; for the adjoint and the normal operator too."""
    a = 0.6 - 1.7j
    u, v = x, x.flip(-1) + x.roll(1, -1)
    w, z = y, y.flip(-1) + y.roll(1, -1)
    return max(
        relative_error(A.forward(a * u + v), a * A.forward(u) + A.forward(v)),
        relative_error(A.normal(a * u + v), a * A.normal(u) + A.normal(v)),
        relative_error(A.adjoint(a * w + z), a * A.adjoint(w) + A.adjoint(z)),
    )


def adjoint_of_the_adjoint(A: LinearOperator, x: Tensor, y: Tensor) -> float:
    """A.H maps y as A.adjoint does, and A.H.H maps x as A does."""
    return max(
        relative_error(A.H(y), A.adjoint(y)),
        relative_error(A.H.adjoint(x), A.forward(x)),
        relative_error(A.H.H(x), A(x)),
    )


def gradient_is_adjoint(A: LinearOperator, x: Tensor, y: Tensor) -> float:
    """The gradient of Re <y, A x> is A^H y; of Re <x, A^H y> it is A x; of Re <x, A^H A u> it is A^H A x."""
    return max(
        relative_error(gradient(A.forward, x, y), A.adjoint(y)),
        relative_error(gradient(A.adjoint, y, x), A.forward(x)),
        relative_error(gradient(A.normal, x.flip(-1), x), A.normal(x)),
    )


def change_of_inputs(A: LinearOperator, x: Tensor, y: Tensor) -> float:
    """How far forward, adjoint and normal change what they are given: zero, bit for bit."""
    u, v = x.clone(), y.clone()
    A.forward(u), A.normal(u), A.adjoint(v)
    return max(relative_error(u, x), relative_error(v, y))


LAWS: tuple[Law, ...] = (
    adjointness,
    normal_is_adjoint_of_forward,
    linearity,
    adjoint_of_the_adjoint,
    gradient_is_adjoint,
    change_of_inputs,
)


def assert_linear_operator(
    A: LinearOperator,
    x_shape: Sequence[int],
    y_shape: Sequence[int],
    dtype: torch.dtype = torch.complex64,
    tolerance: float | None = None,
    seed: int = 0,
) -> None:
    """Raise an AssertionError that names the law, its error and the tolerance, unless A obeys all LAWS.

    tolerance: largest relative error; 100 times the rounding unit of ``dtype`` unless given.
    """
    x, y = complex_normal(x_shape, dtype, seed), complex_normal(y_shape, dtype, seed + 1)
    for name, found, expected in (
        ("forward", A.forward(x), y),
        ("adjoint", A.adjoint(y), x),
        ("normal", A.normal(x), x),
    ):
        # Checked before any law, where broadcasting could hide a wrong shape.
        assert found.shape == expected.shape, f"{name}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
        assert found.dtype == dtype, f"{name}: {found.dtype}, expected {dtype}"
    limit = 100 * torch.finfo(dtype).eps if tolerance is None else tolerance
    for law in LAWS:
        error = law(A, x, y)
        assert error <= limit, f"{law.__name__}: relative error {error:.1e} > {limit:.1e} for {type(A).__name__}"


def complex_normal(shape: Sequence[int], dtype: torch.dtype = torch.complex64, seed: int = 0) -> Tensor:
    """Complex Gaussian noise of unit variance, the same for the same seed."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def relative_error(value: Tensor, reference: Tensor) -> float:
    """||value - reference|| / ||reference||; the norm of the value itself where the reference is zero."""
    value, reference = value.detach(), reference.detach()
    scale = reference.norm()
    return float((value - reference).norm() / (scale if scale > 0 else 1))


def gradient(f: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor) -> Tensor:
    """The gradient of Re <direction, f(.)> at a point."""
    point = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(torch.vdot(direction.flatten(), f(point).flatten()).real, point)
    return found


def scale_equivariance_error(
    f: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    scale: float,
    shape: Sequence[int] = (2, 1, 144, 144),
    places: int = 0,
    border: int = 32,
    images: Callable[[float], Tensor] | None = None,
) -> float:
    """||L f(x) - f(L x)||^2 / ||L f(x)||^2, where L enlarges by ``scale`` about the centre.

    L is trigonometric interpolation. The images have no frequency above 0.9 of what the coarser of the two grids can
    hold, and the results are compared below that, as aliasing would say nothing of f; a border is left out, where L has
    no image to show. Give the residual branch of a denoiser, as the identity commutes perfectly.

    Args:
        f: from images (batch, map, *space) to images or features (batch, channel, *space), or to a tuple of these, one
            for each scale of an axis.
        scale: above 1 enlarges, below 1 makes smaller.
        shape: of the images.
        places: of a tuple f(L x), how many places further along it what f(x) has at a place is expected: 1 where
            ``scale`` is the ratio of the axis. What one of the two lacks is left out.
        border: pixels left out on every side; at least the reach of f, which is 32 of the default ScaleEquivariant.
        images: makes the images for a band, in parts of the Nyquist frequency; complex64 of 1 / f spectrum on the CPU
            unless given. For an f on another device, or of another type, ``lambda band: natural_images(shape,
            band).to("cuda")`` with ``mrirecon.denoisers.scales.resampling.natural_images``.
    """
    ndim, band = len(shape) - 2, 0.9 * min(1.0, scale)
    if min(shape[2:]) <= 2 * border:
        raise InputError(
            f"images of {tuple(shape[2:])} pixels leave nothing inside a border of {border}; enlarge shape"
        )
    x = natural_images(shape, band) if images is None else images(band)
    with torch.no_grad():
        results, seen = ((y,) if isinstance(y, Tensor) else y for y in (f(x), f(resampled(x, scale, ndim))))

    def inside(y: Tensor) -> Tensor:
        for axis in range(-ndim, 0):
            y = y.narrow(axis, border, y.shape[axis] - 2 * border)
        return y

    error = energy = 0.0
    first = max(-places, 0)
    for result, other in zip(results[first:], seen[first + places :], strict=False):
        wanted = inside(low_passed(resampled(result, scale, ndim), band / scale, ndim))
        error += float((inside(low_passed(other, band / scale, ndim)) - wanted).abs().square().sum())
        energy += float(wanted.abs().square().sum())
    if not energy > 0:
        raise InputError(
            f"f is zero in all that is compared; expected random or trained weights (the last of an untrained denoiser "
            f"are zero), and fewer places than {places} where f has fewer scales"
        )
    return error / energy


def resampling_error(
    scale: float,
    shape: Sequence[int] = (2, 1, 144, 144),
    border: int = 32,
    images: Callable[[float], Tensor] | None = None,
) -> float:
    """What :func:`scale_equivariance_error` is of a ReLU, which commutes with L: the part that is not due to f."""

    def relu(x: Tensor) -> Tensor:
        return torch.view_as_complex(torch.view_as_real(x).relu())

    return scale_equivariance_error(relu, scale, shape, 0, border, images)


def assert_scale_equivariant(
    f: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    tolerance: float,
    scales: Sequence[float] = (0.7, 0.8, 0.9, 1.1, 1.25, 1.4),
    shape: Sequence[int] = (2, 1, 144, 144),
    places: int = 0,
    border: int = 32,
    images: Callable[[float], Tensor] | None = None,
) -> None:
    """Raise an AssertionError that names the scale where :func:`scale_equivariance_error` is above ``tolerance``."""
    for scale in scales:
        error = scale_equivariance_error(f, scale, shape, places, border, images)
        assert error <= tolerance, (
            f"scale {scale:g}: equivariance error {error:.2g} > {tolerance:.2g} "
            f"({resampling_error(scale, shape, border, images):.1g} of it from resampling)"
        )


def unit_gain(net: Net) -> Net:
    """The network with random weights that keep the variance of what a ReLU has halved, and without biases.

    A bias makes a constant image, which commutes with every change of scale and would hide an error.
    """
    for module in net.modules():
        if isinstance(module, ScaleConv):
            nn.init.normal_(module.weight, std=(2 / module.weight[:, 0].numel()) ** 0.5)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return net
