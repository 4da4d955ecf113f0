"""A two-layer denoiser behind fixed gates, whose training is a convex program.

D(x) = x + sum_i 1[conv(x, u_i) >= 0] conv(x, v_i)    on real and imaginary parts apart, gates u_i fixed

It is the convex counterpart of the ReLU network x + sum_j v_j relu(conv(x, u_j)): linear in what it learns, so a convex
loss of the image plus the group lasso beta sum_i ||v_i|| is a convex function of the filters. Sahiner et al., ICLR
2021, arXiv:2012.05169; gates as in Mishkin et al., ICML 2022, arXiv:2202.01331.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor, nn

from mrirecon.denoisers.convolution import CONVOLVE, check_image
from mrirecon.denoisers.denoiser import Denoiser, to_channels, to_complex
from mrirecon.denoisers.gated import gated
from mrirecon.denoisers.scales.padding import PADDINGS, Padding, pad
from mrirecon.errors import InputError


class ConvexDual(Denoiser):
    """Filters behind fixed random gates, learned by `mrirecon convex-fit` to a certificate or by any optimiser.

    The real and the imaginary part of every map are samples of their own for one real denoiser: exchanging the parts
    exchanges those of the result. Conjugation and rotation of the phase do not commute with it, as gates know signs.
    Untrained it is the identity.

    Args:
        n_gates: gates, and filters behind them.
        kernel_size: odd width of gates and filters.
        strength: beta of the group lasso beta sum_i ||v_i|| that training adds to the loss; 0 or more.
        ndim: 2 for slices, 3 for volumes and 2D + time.
        padding: how the image goes on beyond its border: zeros, reflect or circular.
        seed: of the gates, drawn from a normal distribution. `mrirecon convex-fit` knows the training data and draws
            its own for every stage, from their statistics if asked, without duplicates and dead ones; by
            ``mrirecon.convex.gates.distinct_gates``, which any patches can be given to.
    """

    gates: Tensor

    def __init__(
        self,
        n_gates: int = 500,
        kernel_size: int = 5,
        strength: float = 1e-4,
        ndim: int = 2,
        padding: Padding = "zeros",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_settings(kernel_size, strength, ndim, padding)
        if n_gates < 1:
            raise InputError(f"n_gates is {n_gates}; expected at least 1, usually some hundreds")
        self.ndim, self.strength, self.padding = ndim, strength, padding
        generator = torch.Generator().manual_seed(seed)
        shape = n_gates, *[kernel_size] * ndim
        self.register_buffer("gates", torch.randn(shape, generator=generator))
        self.filters = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the image; linear in the filters."""
        return on_parts(x, self.ndim, lambda parts: gated(parts, self.gates, self.filters, self.padding))

    def penalty(self) -> Tensor:
        """beta sum_i ||v_i||."""
        return self.strength * torch.linalg.vector_norm(self.filters.flatten(1), dim=1).sum()


class TwoLayerReLU(Denoiser):
    """x + sum_j v_j relu(conv(x, u_j)), on real and imaginary parts apart: what :class:`ConvexDual` is compared with.

    Args:
        n_neurons: neurons, of a filter u_j and a weight v_j each.
        kernel_size, ndim, padding: as for :class:`ConvexDual`.
        strength: beta of the weight decay beta / 2 sum_j (||u_j||^2 + v_j^2) that training adds to the loss. At its
            least it is the group lasso beta sum_j ||u_j|| |v_j|.
    """

    def __init__(
        self,
        n_neurons: int = 100,
        kernel_size: int = 5,
        strength: float = 1e-4,
        ndim: int = 2,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        check_settings(kernel_size, strength, ndim, padding)
        if n_neurons < 0:
            raise InputError(f"n_neurons is {n_neurons}; expected 0 or more")
        self.ndim, self.strength, self.padding = ndim, strength, padding
        taps = kernel_size**ndim
        # Both layers of one length, as they are at the least of the penalty; so small that it starts near the identity.
        self.u = nn.Parameter(0.1 * torch.randn(n_neurons, *[kernel_size] * ndim) / taps**0.5)
        self.v = nn.Parameter(0.1 * torch.randn(n_neurons).sign())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """What is added to the image."""
        return on_parts(x, self.ndim, self._real)

    def _real(self, parts: Tensor) -> Tensor:
        if len(self.v) == 0:  # the identity; convolutions without channels are refused
            return torch.zeros_like(parts)
        size, padded = self.u.shape[-1], parts[:, None]
        padded = pad(padded, size // 2, self.ndim, self.padding)
        hidden = torch.relu(CONVOLVE[self.ndim](padded, self.u[:, None]))
        return torch.einsum("nj...,j->n...", hidden, self.v)

    def penalty(self) -> Tensor:
        """beta / 2 sum_j (||u_j||^2 + v_j^2)."""
        return self.strength / 2 * (self.u.square().sum() + self.v.square().sum())


def on_parts(x: Tensor, ndim: int, act: Callable[[Tensor], Tensor]) -> Tensor:
    """A complex image with ``act`` on its real and imaginary parts (parts, *space), of all items and maps."""
    check_image(x, x.shape[1] if x.ndim > 1 else 1, ndim)
    parts = to_channels(x)
    return to_complex(act(parts.flatten(0, 1)).unflatten(0, parts.shape[:2]))


def check_settings(kernel_size: int, strength: float, ndim: int, padding: Padding) -> None:
    """Raises InputError for what neither denoiser can be."""
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise InputError(f"kernel_size is {kernel_size}; it must be odd, such as 5, so that pixels stay in place")
    if not (isfinite(strength) and strength >= 0):
        raise InputError(f"strength is {strength}; expected 0 or more, such as 1e-4")
    if ndim not in CONVOLVE:
        raise InputError(f"ndim is {ndim}; use 2 for slices or 3 for volumes and 2D + time")
    if padding not in PADDINGS:
        raise InputError(f"padding is {padding!r}; expected one of {', '.join(PADDINGS)}")
