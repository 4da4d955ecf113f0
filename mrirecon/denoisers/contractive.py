"""A residual CNN that can be undone, because its branch is held to be a contraction.

D(x) = x + B(x),  B = C_n relu( C_{n-1} ... relu( C_1(x) ) ),  ||B(x) - B(x')|| <= L ||x - x'||,  L < 1

The network is that of GLEAM's MoDL experiments (RevNet, Ozturkler et al. 2022, arXiv:2207.08393), there without
anything that keeps L below 1. Held as in invertible residual networks (Behrmann et al., ICML 2019, arXiv:1811.00995);
the bound of a convolution's norm by Gram iteration (Delattre et al., ICML 2023, arXiv:2305.16173).
"""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi
from typing import cast

import torch
from torch import Tensor, nn

from mrirecon.denoisers.convolution import CONVOLVE, Conv, check_image, convolution
from mrirecon.denoisers.denoiser import Denoiser, to_channels, to_complex
from mrirecon.errors import InputError

_POINTS = 12  # frequencies an axis, for each degree of the kernel as a polynomial
_SQUARINGS = 5


class Contractive(Denoiser):
    """Residual CNN with an inverse, for ``activations: inverted``.

    Every kernel is used at min(1, c / sigma) times its weights, with c^n_layers = ``lipschitz`` and sigma a bound of
    the convolution's norm (:func:`norm_bound`). The price is a weaker denoiser: the bounds of single layers rarely meet
    in one image, so the branch as a whole is held well below ``lipschitz``. Removing white noise from blocks, a small
    one left 5 times the squared error that a ResNet left after as many batches.

    The last convolution starts at zero, so an untrained network is the identity.

    Args:
        channels: features of every convolution but the last.
        n_layers: convolutions, with a ReLU between any two.
        n_maps: map sets of the image (1 for SENSE, 2 for soft SENSE).
        ndim: 2 for slices, 3 for volumes and 2D + time.
        kernel_size: odd width of every convolution.
        lipschitz: L, above 0 and below 1; the inverse takes at most log(error) / log(L) sweeps.
        sweeps: largest number of sweeps of the inverse; 64 reach 1e-6 at L = 0.8.
    """

    def __init__(
        self,
        channels: int = 64,
        n_layers: int = 5,
        n_maps: int = 1,
        ndim: int = 2,
        kernel_size: int = 3,
        lipschitz: float = 0.8,
        sweeps: int = 64,
    ) -> None:
        super().__init__()
        if channels < 1 or n_layers < 2 or n_maps < 1 or sweeps < 1:
            found = f"channels={channels}, n_layers={n_layers}, n_maps={n_maps}, sweeps={sweeps}"
            raise InputError(f"{found}; expected at least 1, 2, 1 and 1")
        if not 0 < lipschitz < 1:
            raise InputError(
                f"lipschitz is {lipschitz}; it must lie between 0 and 1, such as 0.8, for an inverse to be"
            )

        self.n_maps, self.ndim, self.sweeps = n_maps, ndim, sweeps
        self.norm = lipschitz ** (1 / n_layers)
        widths = [2 * n_maps, *[channels] * (n_layers - 1), 2 * n_maps]
        self.layers = nn.ModuleList(convolution(n_in, n_out, ndim, kernel_size) for n_in, n_out in pairwise(widths))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)  # faster, as in ResNet
        self._slopes: tuple[object, list[Tensor]] = (None, [])

    def forward(self, x: Tensor) -> Tensor:
        check_image(x, self.n_maps, self.ndim)
        return x + self.branch(x)

    def branch(self, x: Tensor) -> Tensor:
        """B(x), the image that is added."""
        z = to_channels(x)
        for k, (conv, kernel) in enumerate(zip(self._convolutions, self.kernels(), strict=True)):
            z = CONVOLVE[self.ndim](torch.relu(z) if k else z, kernel, conv.bias, padding=kernel.shape[-1] // 2)
        return to_complex(z)

    def inverse(self, y: Tensor) -> Tensor:
        """x with D(x) = y, as the fixed point of x <- y - B(x).

        An item of the batch is finished where a sweep changes it by less than ten times the rounding error. Under
        autocast the branch is rounded to 8 bits of mantissa on the way back as it was on the way there, and the fixed
        point is found to about that precision of B(x).
        """
        x, going = y, torch.ones(len(y), dtype=torch.bool, device=y.device)
        enough = 10 * torch.finfo(y.dtype).eps * torch.linalg.vector_norm(y.flatten(1), dim=1)
        for _ in range(self.sweeps):
            previous, x = x, torch.where(going.view(-1, *[1] * (y.ndim - 1)), y - self.branch(x), x)
            going = ~(torch.linalg.vector_norm((x - previous).flatten(1), dim=1) <= enough)
            if not going.any():
                break
        return x

    @property
    def _convolutions(self) -> list[Conv]:
        return cast(list[Conv], list(self.layers))

    def kernels(self) -> list[Tensor]:
        """The weights as they are used, with a graph to the weights where gradients are on.

        sigma is homogeneous in the weights and so, after Euler, their inner product with its own gradient. That
        gradient is found anew only when a weight has changed: within a batch never, and the backward pass meets the
        network of the forward pass. (Writing to ``weight.data`` in place goes unnoticed until the next other change.)
        """
        weights = [conv.weight for conv in self._convolutions]
        state = [(w.data_ptr(), w._version, w.device, w.dtype) for w in weights]
        if self._slopes[0] != state:
            self._slopes = (state, [_slope(w) for w in weights])
        sigmas = [(slope * w).sum() for slope, w in zip(self._slopes[1], weights, strict=True)]
        return [w * (self.norm / sigma.clamp_min(self.norm)) for w, sigma in zip(weights, sigmas, strict=True)]


def _slope(weight: Tensor) -> Tensor:
    """The gradient of :func:`norm_bound`, fit for use in a graph even if it is first asked for during validation."""
    # Hooks of its own keep its tensors from activation checkpointing, which would miss them in the recomputation, where
    # the slope is known.
    kept_here = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    with torch.inference_mode(False), torch.enable_grad(), kept_here:
        w = weight.detach().clone().requires_grad_()
        return torch.autograd.grad(norm_bound(w), w)[0]


def norm_bound(weight: Tensor) -> Tensor:
    """Upper bound of the norm of a zero-padded convolution: at most some percent above that of images without end.

    weight: (out, in, *kernel), of a square kernel; the bound is a scalar with a gradient, and zero for zero weights.

    On an image without end the norm is the largest singular value of the kernel's symbol, the out x in matrix
    K(w) = sum_j weight_j exp(-i w j), over all frequencies w; zero padding only cuts pieces out of that image. On a
    grid of frequencies :func:`_largest_singular_value` bounds the singular values. Between its points, u^H K v is a
    trigonometric polynomial of degree d = (kernel - 1) / 2 along every axis; with m points an axis its maximum is at
    most 1 / cos(pi d / m) times that on the grid, along each (after M. Riesz). Here that is 1.035 an axis.
    """
    axes, degree = tuple(range(2, weight.ndim)), (weight.shape[-1] - 1) // 2
    m = max(1, _POINTS * degree)
    with torch.autocast(weight.device.type, enabled=False):
        w = weight if weight.dtype == torch.float64 else weight.float()
        K = torch.fft.rfftn(w, s=[m] * len(axes), dim=axes).flatten(2).movedim(2, 0)  # half of them: w is real
        with torch.no_grad():
            worst = _largest_singular_value(K).argmax()
        # The graph holds one frequency: only the largest has a share in the gradient.
        return _largest_singular_value(K[worst].unsqueeze(0))[0].to(weight.dtype) / cos(pi * degree / m) ** len(axes)


def _largest_singular_value(K: Tensor) -> Tensor:
    """Upper bound of the largest singular value of each matrix (batch, n, m): (batch,).

    s squarings K <- K^H K / ||K||_F^2 turn the Frobenius norm into (sum_i sigma_i^p)^(1/p), p = 2^(s+1): above the
    largest by up to 7 % for 64 equal singular values, by 0.1 % for random kernels.
    """
    if K.shape[1] < K.shape[2]:
        K = K.mH  # the smaller Gram matrix
    tiny = torch.finfo(K.dtype).tiny
    log_sigma = torch.zeros((), dtype=K.real.dtype, device=K.device)
    for n in range(_SQUARINGS):
        length = torch.linalg.matrix_norm(K, keepdim=True).clamp_min(tiny)
        log_sigma = log_sigma + length.flatten().log() / 2**n
        K = K / length
        K = K.mH @ K
    return (log_sigma + torch.linalg.matrix_norm(K).clamp_min(tiny).log() / 2**_SQUARINGS).exp()
