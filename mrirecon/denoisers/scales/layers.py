"""Layers over features at several scales, a tuple of (batch, channel, *space), the finest scale first.

An image enlarged by the ratio of the axis has the features of the image, enlarged, one place further along the tuple:

    z_i+1(L x) = L z_i(x)

as far as kernels on a grid can (the error of the basis), and but for the ends of the axis, where one place is lost and
one is new. Sosnovik, Szmaja, Smeulders: Scale-Equivariant Steerable Networks, ICLR 2020, arXiv:1910.11093.
"""

from __future__ import annotations

from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from mrirecon.denoisers.scales.basis import Basis
from mrirecon.denoisers.scales.padded import blurred, padded_convolution
from mrirecon.denoisers.scales.padding import PADDINGS, Padding, pad
from mrirecon.errors import InputError

Scales = tuple[Tensor, ...]
Projection = Literal["mean", "max"]


def project(z: Scales, projection: Projection) -> Tensor:
    """Features without the scale axis: the mean over it, or the maximum."""
    if projection == "mean":
        return sum(z[1:], start=z[0]) / len(z) if len(z) > 1 else z[0]
    return reduce(torch.maximum, z)


class ScaleConv(nn.Module):
    """Convolution over position and scale: out_i = bias + sum_j sum_n weight_jn psi_n at scale i * z_i+j.

    Of an image, a tensor, it is the lifting convolution: all scales see the image. With an extent above 1 a scale also
    sees those beside it: the coarser with 2, the finer and the coarser with 3, and so on. Beyond the ends of the axis
    is nothing.

    Args:
        n_in: channels of the features.
        n_out: channels of the result.
        basis: the functions psi_n.
        ndim: space axes.
        extent: number of scales that a result sees.
        rectify: begin with a ReLU of the features.
        padding: how features go on beyond the border, see :mod:`mrirecon.denoisers.scales.padding`.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        basis: Basis,
        ndim: int = 2,
        extent: int = 1,
        rectify: bool = False,
        padding: Padding = "circular",
    ) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise InputError(f"ndim is {ndim}; use 2 for slices or 3 for volumes and 2D + time")
        if min(n_in, n_out) < 1:
            raise InputError(f"{n_in} channels in and {n_out} out; expected at least 1 of each")
        if padding not in PADDINGS:
            raise InputError(f"padding={padding}; expected one of {', '.join(PADDINGS)}")
        if not 1 <= extent <= basis.n_scales:
            raise InputError(f"extent is {extent}; expected 1 to {basis.n_scales}, the number of scales")
        self.ndim, self.extent, self.rectify, self.padding = ndim, extent, rectify, padding
        taps = basis.taps(ndim)
        self.n_scales, self.steps, n = basis.n_scales, basis.steps, len(taps[0])
        # The first scale of the same taps, by scale.
        self._same = tuple(next(j for j in range(i + 1) if taps[j] is taps[i]) for i in range(self.n_scales))
        for i, (sampled, blur) in enumerate(zip(taps, basis.blurs, strict=True)):
            # Kept in checkpoints too: weights mean nothing without the functions that they were trained with.
            if self._same[i] == i:
                self.register_buffer(f"functions_{i}", sampled.to(torch.get_default_dtype()))
            self.register_buffer(f"blur_{i}", blur.to(torch.get_default_dtype()))
        bound = (n_in * extent * n) ** -0.5  # as torch has it for an ordinary convolution
        self.weight = nn.Parameter(torch.empty(extent, n_out, n_in, n).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound))
        self._kept: tuple[object, list[Tensor]] = (None, [])

    def forward(self, z: Tensor | Scales) -> Scales:
        if self.rectify:
            z = torch.relu(z) if isinstance(z, Tensor) else tuple(torch.relu(x) for x in z)
        alike = isinstance(z, Tensor) and self.extent == 1
        if isinstance(z, Tensor):
            z = (z,) * self.n_scales
        if len(z) != self.n_scales:
            raise InputError(
                f"features at {len(z)} scales for a convolution over {self.n_scales}; see mrirecon.denoisers.scales"
            )
        kernels = self.kernels()
        reach = [step * (kernel.shape[-1] // 2) for step, kernel in zip(self.steps, kernels, strict=True)]
        found: list[Tensor] = []
        shared: Tensor | None = None
        for i, kernel in enumerate(kernels):
            near, blur = z[self._seen(i)], self.get_buffer(f"blur_{i}")
            x = near[0] if len(near) == 1 else torch.cat(near, 1)
            if alike and len(blur) > 1:  # the result may be a view, and is not given away
                if shared is None:
                    shared = pad(x.detach(), max(reach), self.ndim, self.padding)
                wide = shared
            else:
                wide = pad(x.detach(), reach[i], self.ndim, self.padding)
            x = padded_convolution(x, wide, kernel, self.bias, self.steps[i], self.padding)
            found.append(blurred(x, blur, self.padding) if len(blur) > 1 else x)
        return tuple(found)

    def kernels(self) -> list[Tensor]:
        """The kernels (out, in * scales seen, *kernel) of each scale; kept while the network is only evaluated.

        Weights changed through ``.data`` leave no trace: call ``train`` or ``eval`` after it.
        """
        w, kind = self.weight, self.weight.device.type
        changing = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        # Weights put in its place for one call may come to lie where others lay, and are not kept.
        if changing or cast or not isinstance(w, nn.Parameter) or w.is_inference():
            return self._made()
        state = (w.data_ptr(), w._version, w.device, w.dtype)
        if self._kept[0] != state:
            self._kept = (state, self._made())
        return self._kept[1]

    def train(self, mode: bool = True) -> ScaleConv:
        self._kept = (None, [])  # weights may have changed without a trace, as fused optimisers and `.data` do it
        return super().train(mode)

    def _made(self) -> list[Tensor]:
        made: dict[tuple[int, int, int], Tensor] = {}
        keys = []
        for i, same in enumerate(self._same):
            seen, before = self._seen(i), (self.extent - 1) // 2
            keys.append((same, seen.start - i + before, seen.stop - i + before))
            if keys[-1] not in made:
                made[keys[-1]] = self._kernel(*keys[-1])
        return [made[key] for key in keys]

    def _kernel(self, i: int, first: int, after: int) -> Tensor:
        """Of the functions of scale i and of the weights for some of the scales seen."""
        functions = self.get_buffer(f"functions_{i}")
        weight = self.weight[first:after].movedim(0, 1).flatten(1, 2)  # (out, scales * in, n)
        kernel = (weight @ functions.flatten(1)).unflatten(-1, functions.shape[1:])
        # oneDNN is faster with channels last, as in ResNet.
        return kernel.movedim(1, -1).contiguous().movedim(-1, 1) if self.ndim == 2 else kernel

    def _seen(self, i: int) -> slice:
        """The scales that the result at scale i sees."""
        return slice(max(i - (self.extent - 1) // 2, 0), min(i + self.extent // 2 + 1, self.n_scales))

    def extra_repr(self) -> str:
        sizes = ", ".join(str(self.get_buffer(f"functions_{i}").shape[-1]) for i in self._same)
        steps = ", ".join(map(str, self.steps))
        shape = f"{tuple(self.weight.shape)}, kernels of {sizes} taps, {steps} pixels apart"
        return f"{shape}, extent={self.extent}, padding={self.padding}"
