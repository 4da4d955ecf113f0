"""What a gated denoiser does with an image: at every pixel one linear filter, which the open gates choose.

D(x)_p = <y_p, e_p>,  e_p = delta + sum_i 1[<y_p, u_i> >= 0] v_i

with the patch y_p around pixel p of the real or the imaginary part, gates u_i, filters v_i, and the filter delta that
changes nothing. Patches that open the same gates share e_p: the denoiser clusters, then filters. Sahiner et al., ICLR
2021, arXiv:2012.05169.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mrirecon.convex.relu import gated_of
from mrirecon.denoisers import ConvexDual, TwoLayerReLU
from mrirecon.denoisers.convolution import check_image
from mrirecon.denoisers.denoiser import to_channels
from mrirecon.denoisers.gated import GATES, Blocks, filters_of, gates_of
from mrirecon.errors import InputError
from mrirecon.explain.clusters import clusters_of
from mrirecon.explain.pixels import pixel_numbers

NONE = 255  # the cluster of patches of zeros


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one denoiser does with one image. It says nothing of other images.

    Denoiser and image are not copied: effective filters are computed when asked for, so leave both as they are.

    Filters act as in torch's convolutions, without being turned round: the tap in the middle is the pixel's own. The
    axis ``part`` is 0 for real and 1 for imaginary parts, which are filtered apart.

    denoiser: what is explained; a ReLU network in its gated form.
    image: (map, *space), complex, what the denoiser is given.
    norms: (group,), ||v_i|| of all groups.
    active: (active,), the numbers of the groups whose filter is not zero, the largest norm first.
    gates, filters: (active, *kernel), u_i and v_i of those.
    n_patterns: how many different sets of active gates are open, over all pixels of both parts that have a cluster.
    clusters: (part, map, *space), uint8, the cluster of every pixel, by k-means of its open active gates; 255 where
        the patch is zero, so that all filters give nothing.
    sizes: (cluster,), pixels of each, real and imaginary ones counted apart; the largest cluster is number 0.
    open_share: (cluster, active), the share of a cluster's pixels at which a gate is open.
    """

    denoiser: ConvexDual
    image: Tensor
    norms: Tensor
    active: Tensor
    gates: Tensor
    filters: Tensor
    n_patterns: int
    clusters: Tensor
    sizes: Tensor
    open_share: Tensor

    @property
    def identity(self) -> Tensor:
        """(*kernel), the filter delta that changes nothing."""
        delta = self.denoiser.gates.new_zeros(self.gates.shape[1:])
        delta[tuple(n // 2 for n in delta.shape)] = 1
        return delta

    @property
    def cluster_filters(self) -> Tensor:
        """(cluster, *kernel), the mean of e_p over a cluster's pixels."""
        return self.identity + torch.tensordot(self.open_share, self.filters, 1)

    @torch.no_grad()
    def effective_filters(self, pixels: Sequence[Sequence[int]] | None = None) -> Tensor:
        """The filters e_p: (part, map, pixel, *kernel), or (part, map, *space, *kernel) of all pixels.

        Gates open as they do in the denoiser. All filters of a slice of 640 x 368 are 47 MB for 5 x 5 taps.

        pixels: places, such as (row, column), from 0. None: all.

        Raises InputError for a pixel outside the image.
        """
        space, kernel = self.image.shape[1:], self.gates.shape[1:]
        images = parts_of(self.image)
        n = images[0].numel()
        at = np.arange(n) if pixels is None else pixel_numbers(pixels, space)
        wanted = (np.arange(len(images))[:, None] * n + at).reshape(-1)
        order = wanted.argsort(kind="stable")
        u, v = self.denoiser.gates.flatten(1), self.denoiser.filters.flatten(1)
        e = v.new_empty(len(wanted), v.shape[1])
        for start, Y in _patches(self.denoiser, images):
            here = order[slice(*np.searchsorted(wanted, (start, start + len(Y)), sorter=order))]
            if len(here):
                # Of the whole block, as in the denoiser: another number of patches could round a gate otherwise.
                e[here] = filters_of(Y, u, v)[wanted[here] - start]
        axes = 2, len(self.image), *(space if pixels is None else [len(at)]), *kernel
        return e.reshape(axes).add_(self.identity)


@torch.no_grad()
def explain(denoiser: nn.Module, x: Tensor, clusters: int = 12, seed: int = 0) -> Explanation:
    """Explain what a denoiser does with an image.

    Works in blocks of pixels; what grows with the image is some bytes a pixel.

    denoiser: a ConvexDual, or a TwoLayerReLU, whose gates are its own filters.
    x: (map, *space) or (1, map, *space), complex, what the denoiser is given; in a network see
        :func:`mrirecon.stage_inputs.stage_inputs`.
    clusters: how many, 1 to 255; there are fewer where fewer patterns occur.
    seed: of the clustering, which finds its centres on 20,000 pixels.

    Raises InputError for another denoiser, and for an image that it cannot be given.
    """
    dual = gated_form(denoiser)
    x = x[None] if x.ndim == dual.ndim + 1 else x
    check_image(x, x.shape[1] if x.ndim > 1 else 1, dual.ndim)
    u, v = dual.gates.flatten(1), dual.filters.detach().flatten(1)
    if len(x) != 1 or x.dtype != v.dtype.to_complex() or x.numel() == 0:
        raise InputError(
            f"image of shape {tuple(x.shape)} and {x.dtype}; expected one image (map, *space) of "
            f"{v.dtype.to_complex()}, as the denoiser is of {v.dtype}"
        )
    if not bool(x.isfinite().all()):
        raise InputError("the image holds NaN or infinity; expected finite pixels, as gates know the sign of numbers")
    norms = torch.linalg.vector_norm(v, dim=1)
    if not bool(norms.isfinite().all()):
        raise InputError("the denoiser's filters hold NaN or infinity; its training failed, so train it anew")
    order = norms.argsort(descending=True, stable=True)
    active = order[v[order].any(1)]
    images = parts_of(x[0])
    filled = torch.cat([Y.any(1) for _, Y in _patches(dual, images)])
    n_filled = int(filled.count_nonzero())
    if n_filled == 0:
        raise InputError("the image is zero everywhere, so there is nothing to explain; take another slice")

    def patterns() -> Iterator[Tensor]:
        for start, Y in _patches(dual, images):
            # With all gates, in the denoiser's chunks, so that they open as there.
            bits = torch.cat([gates_of(Y, chunk) for chunk in u.split(GATES)], 1)
            yield bits[filled[start : start + len(Y)]][:, active]

    found = clusters_of(patterns, n_filled, clusters, seed)
    numbers = torch.full_like(filled, NONE, dtype=torch.uint8)
    numbers[filled] = torch.from_numpy(found.numbers).to(x.device)
    return Explanation(
        denoiser=dual,
        image=x[0].detach(),
        norms=norms,
        active=active,
        gates=dual.gates[active],
        filters=dual.filters.detach()[active],
        n_patterns=found.n_patterns,
        clusters=numbers.reshape(2, *x[0].shape),
        sizes=torch.from_numpy(found.sizes).to(x.device),
        open_share=torch.from_numpy(found.means).to(v),
    )


def frequency_response(filters: Tensor, size: int = 64) -> Tensor:
    """|DFT| of filters (n, *kernel), zero-padded: (n, *[size] * ndim), the zero frequency at ``size // 2``.

    1 where a filter keeps a frequency as it is. For the change, leave the identity out.
    """
    kernel = filters.shape[1:]
    if len(filters) == 0:  # which not every FFT takes
        return filters.new_zeros(0, *[size] * len(kernel))
    if size < max(kernel):
        raise InputError(f"a frequency response of {size} for filters of {max(kernel)}; expected at least as many")
    axes = tuple(range(1, filters.ndim))
    transformed = torch.fft.fftn(filters, s=[size] * len(kernel), dim=axes)
    return torch.fft.fftshift(transformed, dim=axes).abs()


def gated_form(denoiser: nn.Module) -> ConvexDual:
    """The denoiser as filters behind gates; raises InputError for one that is not of that kind."""
    if isinstance(denoiser, ConvexDual):
        return denoiser
    if isinstance(denoiser, TwoLayerReLU):
        return gated_of(denoiser)[0]
    raise InputError(
        f"a {type(denoiser).__name__} cannot be explained: it is not one linear filter at every pixel; expected a "
        "ConvexDual or TwoLayerReLU denoiser, for example a network of the card models/pgd_convex"
    )


def parts_of(image: Tensor) -> Tensor:
    """Real and imaginary parts (2 map, *space) of an image (map, *space), as the denoiser filters them."""
    return to_channels(image[None])[0]


def _patches(denoiser: ConvexDual, images: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of patches (pixel, tap) in the order of memory, each with the number of its first pixel."""
    blocks, start = Blocks(images, denoiser.gates.shape[-1], denoiser.padding), 0
    for place in blocks.places():
        Y = blocks.patches(place)
        yield start, Y
        start += len(Y)
