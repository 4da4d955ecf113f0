"""What programs of both losses share: what they are made of, what they refuse, and what they measure."""

from __future__ import annotations

from functools import cached_property
from math import isfinite
from typing import Self

import torch
from torch import Tensor

from mrirecon.convex.operator import Operator
from mrirecon.errors import InputError


class Stated:
    """K, b (n,) of the type and on the device of K's gates, and the strength beta.

    target_error: bound of ||b - what it stands for||, where b itself was computed with a tolerance.

    Raises InputError for targets that do not fit K, and for a strength without a certificate.
    """

    def __init__(self, K: Operator, b: Tensor, beta: float, target_error: float = 0.0) -> None:
        if b.shape != (K.n,):
            raise InputError(f"targets of shape {tuple(b.shape)} for {K.n} patches; expected one for each")
        if not bool(torch.isfinite(b).all()):
            raise InputError("a target is not finite; the program has no solution")
        if not (isfinite(beta) and beta > 0):
            raise InputError(f"strength {beta}: a certificate needs a number above 0, such as 1e-4")
        self.K, self.b, self.beta, self.target_error = K, b, beta, target_error

    def at(self, beta: float) -> Self:
        """The same program with another strength."""
        return type(self)(self.K, self.b, beta, self.target_error)

    @cached_property
    def moments(self) -> Tensor:
        """Of the patches, (tap, tap); raises InputError where they are too large to be squared."""
        moments = self.K.moments()
        if not bool(torch.isfinite(moments).all()):
            raise InputError("squares of the patches are not finite; look for such pixels in the data")
        return moments

    @cached_property
    def widest(self) -> float:
        """||K_i||, at most, of every group."""
        return float(torch.linalg.eigvalsh(self.moments)[-1]) ** 0.5

    def longest(self, gradient: Tensor, size: float) -> float:
        """The largest ||K_i^T theta|| of all groups, at most, of what K^T gives, (group, tap), for a theta so long."""
        K, d = self.K, gradient.shape[1]
        lost = K.n * torch.finfo(K.gates.dtype).tiny + torch.finfo(torch.float64).tiny ** 0.5  # products too small
        largest = float(gradient.norm(dim=1).max()) + d**0.5 * lost
        if not K.error:
            return largest
        # The error is relative to what T gives, which is shorter than T q by no more than that, and T <= 1.
        return largest + (self.widest * size * K.error / (1 - K.error) if K.error < 1 else float("inf"))

    def residual(self, v: Tensor) -> Tensor:
        """K v - b of filters v (gate, tap)."""
        at = v.any(1).nonzero()[:, 0]
        return self.K.forward(v[at], at) - self.b if len(at) else -self.b


def dot(a: Tensor, b: Tensor) -> float:
    """<a, b>, summed in double precision."""
    return float(torch.linalg.vecdot(a.double(), b.double()))
