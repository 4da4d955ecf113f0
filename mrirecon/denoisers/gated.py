"""Linear filters behind fixed gates, on all patches of images.

out_p = sum_i 1[<y_p, u_i> >= 0] <y_p, v_i> = <y_p, e_p>,  e_p = sum_i 1[<y_p, u_i> >= 0] v_i

with the patch y_p around pixel p, gates u_i that never change, and filters v_i. e_p is the linear filter that pixel p
sees. The sum runs over blocks of pixels and chunks of gates, and the backward pass computes gates again, so memory
does not grow with the number of gates. Sahiner et al., ICLR 2021, arXiv:2012.05169.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mrirecon.denoisers.scales.padding import Padding, folded, pad

ROWS, GATES = 4096, 256  # of a block of gates, 4 MB in single precision: it stays in a core's cache


def gates_of(Y: Tensor, u: Tensor) -> Tensor:
    """Which gates are open, 1 or 0 in the type of Y: (n, gate) of patches Y (n, tap) and gates u (gate, tap)."""
    return (Y @ u.T).ge_(0)


def filters_of(Y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The linear filter e_p that each patch sees, (n, tap), of filters v (gate, tap)."""
    e = torch.zeros_like(Y)
    for chunk, filters in zip(u.split(GATES), v.split(GATES), strict=True):
        e.addmm_(gates_of(Y, chunk), filters)
    return e


def correlations_of(Y: Tensor, u: Tensor, q: Tensor) -> Tensor:
    """The gradient to the filters, sum_p q_p 1[<y_p, u_i> >= 0] y_p: (gate, tap) for q (n,)."""
    qY = q[:, None] * Y
    return torch.cat([gates_of(Y, chunk).T @ qY for chunk in u.split(GATES)])


Place = tuple[int, *tuple[slice, ...]]  # of a block: the image, and a range of each space axis


class Blocks:
    """The patches of real images (n, *space), in blocks of at most ``ROWS`` pixels of one image.

    Pixels and taps are in the order of memory: a filter (*kernel) flattened acts as in torch's convolutions, without
    being turned round.
    """

    def __init__(self, images: Tensor, kernel_size: int, padding: Padding) -> None:
        self.space, self.kernel_size, self.padding = images.shape[1:], kernel_size, padding
        self.ndim = len(self.space)
        self.padded = pad(images[:, None], kernel_size // 2, self.ndim, padding)[:, 0]
        self.taps = list(product(range(kernel_size), repeat=self.ndim))

    def places(self) -> Iterator[Place]:
        ranges: list[list[slice]] = []
        left = ROWS
        for n in reversed(self.space):
            ranges.insert(0, [slice(i, min(i + left, n)) for i in range(0, n, left)])
            left = max(1, left // n)
        for image in range(len(self.padded)):
            for box in product(*ranges):
                yield image, *box

    def patches(self, place: Place) -> Tensor:
        """(pixels of the block, tap)"""
        return torch.stack([self._seen(self.padded, place, tap) for tap in self.taps], -1).flatten(0, -2)

    def add_patches(self, total: Tensor, place: Place, patches: Tensor) -> None:
        """The adjoint of :meth:`patches`, added to ``total`` of the padded images' shape."""
        for number, tap in enumerate(self.taps):
            seen = self._seen(total, place, tap)
            seen.add_(patches[:, number].reshape(seen.shape))

    def unpadded(self, total: Tensor) -> Tensor:
        """The adjoint of padding: (n, *space). Overwrites ``total``."""
        return folded(total[:, None], self.kernel_size // 2, self.ndim, self.padding)[:, 0]

    def _seen(self, padded: Tensor, place: Place, tap: tuple[int, ...]) -> Tensor:
        """What one tap sees of the pixels of a block."""
        image, *box = place
        shifted = [slice(at.start + t, at.stop + t) for at, t in zip(box, tap, strict=True)]
        return padded[image][tuple(shifted)]


class Gated(torch.autograd.Function):
    """The result for real images (n, *space); gradients to images and filters. Gates have none: almost everywhere 0."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, u: Tensor, v: Tensor, kernel_size: int, padding: Padding) -> Tensor:
        ctx.save_for_backward(images, u, v)
        ctx.settings = kernel_size, padding
        out = torch.empty_like(images, memory_format=torch.contiguous_format)
        blocks = Blocks(images, kernel_size, padding)
        for place in blocks.places():
            Y = blocks.patches(place)
            out[place] = torch.linalg.vecdot(Y, filters_of(Y, u, v)).reshape(out[place].shape)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        images, u, v = ctx.saved_tensors
        blocks = Blocks(images, *ctx.settings)
        to_images, _, to_filters = ctx.needs_input_grad[:3]
        total = torch.zeros_like(blocks.padded) if to_images else None
        dv = torch.zeros_like(v) if to_filters else None
        for place in blocks.places():
            Y = blocks.patches(place)
            q = gradient[place].reshape(-1)
            if total is not None:
                blocks.add_patches(total, place, q[:, None] * filters_of(Y, u, v))
            if dv is not None:
                dv += correlations_of(Y, u, q)
        return None if total is None else blocks.unpadded(total), None, dv, None, None


def gated(images: Tensor, u: Tensor, v: Tensor, padding: Padding) -> Tensor:
    """Real images (n, *space) through filters v behind gates u, both (gate, *kernel); the images' shape.

    Never in half precision: a gate's sign would be a matter of rounding.
    """
    with torch.autocast(images.device.type, enabled=False):
        out: Tensor = Gated.apply(images, u.flatten(1), v.flatten(1), u.shape[-1], padding)
        return out
