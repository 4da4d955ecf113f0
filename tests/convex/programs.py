"""Small convex programs of a gated denoiser's training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, PatchRows


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def program(n: int = 60, d: int = 4, gates: int = 12, fraction: float = 0.1, seed: int = 0) -> LeastSquares:
    """Patches whose directions differ in size as those of images do; strength is a fraction of the largest sensible."""
    Y = random(n, d, seed=seed) * torch.logspace(0, -2, d, dtype=torch.float64)
    Y[:, 0] += random(n, seed=seed + 1)
    b = (Y @ random(d, seed=seed + 2)).clamp_min(0) + 0.1 * random(n, seed=seed + 3)
    K = GatedOperator(PatchRows(Y), random(gates, d, seed=seed + 4))
    return LeastSquares(K, b, fraction * float(K.adjoint(b).norm(dim=1).max()))


def matrix(K: GatedOperator) -> Tensor:
    """K as a matrix (n, gate, tap)."""
    Y = torch.cat([Y for _, Y in K.patches])
    return (Y @ K.gates.T >= 0).to(Y)[:, :, None] * Y[:, None, :]


def objective(p: LeastSquares, v: Tensor) -> float:
    """F(v), by the matrix."""
    r = torch.einsum("nij,ij->n", matrix(p.K), v) - p.b
    return float(r @ r) / 2 + p.beta * float(v.norm(dim=1).sum())


@dataclass(frozen=True)
class Follows:
    matrix: Tensor
    error: float = 0.0

    def __call__(self, q: Tensor) -> Tensor:
        return self.matrix @ q


def smoothing(n: int) -> Tensor:
    """A symmetric matrix between 0 and 1, as (A^H A + lam)^-1 lam is in a step of MoDL."""
    root = random(n, n, seed=8)
    return torch.linalg.inv(root.T @ root / n / 0.1 + torch.eye(n, dtype=torch.float64))
