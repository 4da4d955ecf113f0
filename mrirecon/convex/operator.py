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
    def gram(self, at: Tensor, others: Tensor, part: float = 1.0) -> Tensor: ...
    def moments(self) -> Tensor: ...


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
            total += correlations_of(Y, u, q[samples])
        return total

    def gram(self, at: Tensor, others: Tensor, part: float = 1.0) -> Tensor:
        """K_at^T K_others, (gate, tap, gate, tap), in double precision.

        part: of the samples, drawn at random, the same ones in every call; for an estimate at that part of the time.
        """
        d, draws = self.gates.shape[1], torch.Generator().manual_seed(0)
        total = torch.zeros(len(at) * d, len(others) * d, dtype=torch.float64, device=self.gates.device)
        most = max(1, ENTRIES // max(total.shape))
        same = at is others
        for _, patches in self.patches:
            if part < 1:
                patches = patches[(torch.rand(len(patches), generator=draws) < part).to(patches.device)]
            for Y in patches.split(most):
                left = self._gated(Y, at)
                right = left if same else self._gated(Y, others)
                total += left.T @ right
        return total.reshape(len(at), d, len(others), d) / part

    def moments(self) -> Tensor:
        """The patches' second moments Y^T Y, (tap, tap), in double precision: K_i^T K_i or more, for every gate."""
        d = self.gates.shape[1]
        total = torch.zeros(d, d, dtype=torch.float64, device=self.gates.device)
        for _, Y in self.patches:
            total += Y.T @ Y
        return total

    def _gated(self, Y: Tensor, at: Tensor) -> Tensor:
        return (gates_of(Y, self.gates[at])[:, :, None] * Y[:, None, :]).flatten(1)

    def _gates(self, at: Tensor | None) -> Tensor:
        return self.gates if at is None else self.gates[at]


class Following(Protocol):
    """A symmetric T with 0 <= T <= 1, (n,) to (n,), such as the last part of a MoDL step.

    error: bounds ||what a call gives - T q|| / ||what it gives|| for all calls so far, as of an iterative solver.
    """

    @property
    def error(self) -> float: ...
    def __call__(self, q: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Followed:
    """T K, where what filters give goes through T before it is compared."""

    K: GatedOperator
    T: Following
    exact: bool = False

    @property
    def error(self) -> float:
        return self.T.error

    @property
    def gates(self) -> Tensor:
        return self.K.gates

    @property
    def n(self) -> int:
        return self.K.n

    def forward(self, v: Tensor, at: Tensor | None = None) -> Tensor:
        return self.T(self.K.forward(v, at))

    def adjoint(self, q: Tensor, at: Tensor | None = None) -> Tensor:
        return self.K.adjoint(self.T(q), at)

    def gram(self, at: Tensor, others: Tensor, part: float = 1.0) -> Tensor:
        return self.K.gram(at, others, part)

    def moments(self) -> Tensor:
        return self.K.moments()
