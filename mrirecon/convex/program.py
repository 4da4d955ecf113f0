"""What programs of both losses share: what they refuse, and what they measure."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from mrirecon.convex.operator import Operator
from mrirecon.errors import InputError


def check_program(K: Operator, b: Tensor, beta: float) -> None:
    """Raises InputError for targets that do not fit K, and for a strength without a certificate."""
    if b.shape != (K.n,):
        raise InputError(f"targets of shape {tuple(b.shape)} for {K.n} patches; expected one for each")
    if not bool(torch.isfinite(b).all()):
        raise InputError("a target is not finite; the program has no solution")
    if not (isfinite(beta) and beta > 0):
        raise InputError(f"strength {beta}: a certificate needs a number above 0, such as 1e-4")


def widest(K: Operator) -> float:
    """||K_i||, at most, of every group."""
    return float(torch.linalg.eigvalsh(K.moments())[-1]) ** 0.5


def gradient_error(K: Operator, widest: float, size: float) -> float:
    """How far what K^T gives of a vector as long as ``size`` may be off, at most, in any group."""
    # The error is relative to what T gives, which is shorter than T q by no more than that, and T <= 1.
    return widest * size * K.error / (1 - K.error) if K.error < 1 else float("inf")


def dot(a: Tensor, b: Tensor) -> float:
    """<a, b>, summed in double precision."""
    return float(torch.linalg.vecdot(a.double(), b.double()))
