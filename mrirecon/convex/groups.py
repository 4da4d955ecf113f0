"""Some groups of an operator, as a working set has them, and what is done with their filters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.convex.operator import Operator


@dataclass(frozen=True)
class Some:
    """K of a few groups."""

    K: Operator
    at: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.K.gates.dtype

    def forward(self, v: Tensor) -> Tensor:
        return self.K.forward(v, self.at)

    def adjoint(self, q: Tensor) -> Tensor:
        return self.K.adjoint(q, self.at)

    def gram(self, weights: Tensor | None = None) -> Tensor:
        return self.K.gram(self.at, self.at, weights)


def grown_gram(K: Operator, Q: Tensor, old: Tensor, new: Tensor, weights: Tensor | None = None) -> Tensor:
    """The Gram matrix of groups ``old``, which is Q, with groups ``new`` behind them; (gate, tap, gate, tap)."""
    d = Q.shape[1]
    out = Q.new_empty(len(old) + len(new), d, len(old) + len(new), d)
    was, w = slice(0, len(old)), slice(len(old), None)
    out[was, :, was], out[w, :, w] = Q, K.gram(new, new, weights)
    if len(old):
        cross = K.gram(old, new, weights)
        out[was, :, w], out[w, :, was] = cross, cross.permute(2, 3, 0, 1)
    return out


def part(Q: Tensor, at: Tensor) -> Tensor:
    """Q of groups ``at``, in ascending order; not a copy if these are all. Row by row, as Q may fill the memory."""
    if len(at) == len(Q):
        return Q
    out = Q.new_empty(len(at), Q.shape[1], len(at), Q.shape[1])
    for row, group in zip(out, at.tolist(), strict=True):
        torch.index_select(Q[group], 1, at, out=row)
    return out


def times(Q: Tensor, v: Tensor) -> Tensor:
    """Q v of filters v (group, tap) and a matrix (group, tap, group, tap)."""
    return (Q.reshape(v.numel(), v.numel()) @ v.reshape(-1)).reshape(v.shape)


def cut(v: Tensor, y: Tensor, beta: float, least: float) -> Tensor:
    """v without groups that are likely zero at the minimum: much nearer to that than y is to the length beta.

    v, y: (group, tap), filters and gradients on an interior-point method's way. least: odds below which a group goes.
    """
    norms = v.norm(dim=1)
    odds = norms / norms.max().clamp_min(1e-300) / (1 - y.norm(dim=1) / beta)
    return torch.where((odds >= least)[:, None], v, 0.0)
