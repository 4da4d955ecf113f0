"""The linear operator of a gated denoiser's training: filters in, what they add to all training pixels out.

(K v)_p = sum_i 1[<y_p, u_i> >= 0] <y_p, v_i>        K: (gate, tap) -> (sample), one sample for each real or imaginary
                                                     part of a pixel

It is never held as a matrix: patches are cut from the images block by block, and gates are computed where they are
used. Filters and samples are in the images' precision, sums over samples in double.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mrirecon.denoisers.gated import ROWS, Blocks, correlations_of, filters_of, gates_of
from mrirecon.denoisers.scales.padding import Padding

ENTRIES = 2**24  # of a block of gated patches, 64 MB in single precision


class Patches(Protocol):
    """All patches of a training set, in blocks: the numbers of their samples, and the patches (samples, tap)."""

    @property
    def n(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[slice, Tensor]]: ...


@dataclass(frozen=True)
class PatchRows:
    """Patches that are given one by one, (n, tap)."""

    rows: Tensor

    @property
    def n(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.n, ROWS):
            at = slice(start, min(start + ROWS, self.n))
            yield at, self.rows[at]


@dataclass(frozen=True)
class ImagePatches:
    """The patches of all pixels of real images (*space), each a tensor of its own; they may differ in size."""

    images: Sequence[Tensor]
    kernel_size: int
    padding: Padding

    @property
    def n(self) -> int:
        return sum(image.numel() for image in self.images)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        start = 0
        for image in self.images:
            blocks = Blocks(image[None], self.kernel_size, self.padding)
            for place in blocks.places():  # in the order of memory, so that the samples of a block are consecutive
                Y = blocks.patches(place)
                yield slice(start, start + len(Y)), Y
                start += len(Y)


class Operator(Protocol):
    """K as a program needs it; ``at`` picks some of the gates, by number.

    gates: (gate, tap), in the type and on the device of filters and samples.
    n: samples.
    exact: whether ``gram`` of all samples is K^T K; else it is that or more, for every filter.
    error: bound of ||what forward gives - K v|| / ||what it gives||, and the same where adjoint begins with T q.
    """

    @property
    def gates(self) -> Tensor: ...
    @property
    def n(self) -> int: ...
    @property
    def exact(self) -> bool: ...
    @property
    def error(self) -> float: ...
    def forward(self, v: Tensor, at: Tensor | None = None) -> Tensor: ...
    def adjoint(self, q: Tensor, at: Tensor | None = None) -> Tensor: ...
    def gram(self, at: Tensor, others: Tensor, weights: Tensor | None = None) -> Tensor: ...
    def moments(self) -> Tensor: ...
    def leverages(self) -> Tensor: ...


@dataclass(frozen=True)
class GatedOperator:
    """K, with patches and gates (gate, tap) of one type and device."""

    patches: Patches
    gates: Tensor
    exact: bool = True
    error: float = 0.0

    @property
    def n(self) -> int:
        return self.patches.n

    def forward(self, v: Tensor, at: Tensor | None = None) -> Tensor:
        """K v, (n,)."""
        u = self._gates(at)
        v = v.to(u)
        out = u.new_empty(self.n)
        for samples, Y in self.patches:
            torch.linalg.vecdot(Y, filters_of(Y, u, v), out=out[samples])
        return out

    def adjoint(self, q: Tensor, at: Tensor | None = None) -> Tensor:
        """K^T q, (gate, tap), in double precision."""
        u = self._gates(at)
        total = torch.zeros_like(u, dtype=torch.float64)
        for samples, Y in self.patches:
            total += correlations_of(Y, u, q[samples].to(u))
        return total

    def gram(self, at: Tensor, others: Tensor, weights: Tensor | None = None) -> Tensor:
        """K_at^T diag(weights) K_others, (gate, tap, gate, tap), in double precision.

        weights: (n,), not negative, all 1 unless given. Samples without weight cost nothing.
        """
        d = self.gates.shape[1]
        total = torch.zeros(len(at) * d, len(others) * d, dtype=torch.float64, device=self.gates.device)
        most = max(1, ENTRIES // max(total.shape))
        same = at is others
        for Y, w in self._weighted(weights, most):
            left = self._gated(Y, at)
            right = left if same else self._gated(Y, others)
            total += left.T @ (right if w is None else right.mul(w[:, None]))
        return total.reshape(len(at), d, len(others), d)

    def moments(self) -> Tensor:
        """The patches' second moments Y^T Y, (tap, tap), in double precision: K_i^T K_i or more, for every gate."""
        d = self.gates.shape[1]
        total = torch.zeros(d, d, dtype=torch.float64, device=self.gates.device)
        for _, Y in self.patches:
            total += Y.T @ Y
        return total

    def leverages(self) -> Tensor:
        """y_p^T (Y^T Y)^-1 y_p of every patch, (n,): how much of what is known in its direction is from it, 0 to 1."""
        m, vectors = torch.linalg.eigh(self.moments())
        root = (vectors * m.clamp_min(1e-12 * m[-1]).clamp_min(1e-300).rsqrt()).to(self.gates)
        out = self.gates.new_empty(self.n)
        for samples, Y in self.patches:
            out[samples] = (Y @ root).square().sum(1)
        return out

    def _weighted(self, weights: Tensor | None, most: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Patches with their weights, at most so many at once; where few have a weight, from many blocks at once."""
        if weights is None:
            for _, patches in self.patches:
                yield from ((Y, None) for Y in patches.split(most))
            return
        held: list[tuple[Tensor, Tensor]] = []
        for samples, patches in self.patches:
            on = weights[samples].nonzero()[:, 0]
            held.append((patches[on], weights[samples][on].to(patches)))
            if sum(len(Y) for Y, _ in held) >= min(most, ROWS):
                yield from _joined(held, most)
                held = []
        if held:
            yield from _joined(held, most)

    def _gated(self, Y: Tensor, at: Tensor) -> Tensor:
        return (gates_of(Y, self.gates[at])[:, :, None] * Y[:, None, :]).flatten(1)

    def _gates(self, at: Tensor | None) -> Tensor:
        return self.gates if at is None else self.gates[at]


def _joined(held: list[tuple[Tensor, Tensor]], most: int) -> Iterator[tuple[Tensor, Tensor]]:
    Y, w = (torch.cat(parts) for parts in zip(*held, strict=True))
    return zip(Y.split(most), w.split(most), strict=True)
