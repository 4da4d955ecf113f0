"""Second-order cones of filters and their gradients, for interior-point methods.

Rows a = (a_0, a_1) with a_0 >= ||a_1||: s_i = (t_i, v_i), t_i >= ||v_i||, and its dual z_i = (beta, y_i), ||y_i|| <=
beta. s_i o z_i = 0 says that y_i = -beta v_i / ||v_i||, or that v_i is zero. Nesterov and Todd 1998,
doi:10.1137/S1052623495290209; Vandenberghe, "The CVXOPT linear and quadratic cone program solvers", 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Centring:
    """The linearised s o z = aim at s and z (group, 1 + tap) inside their cones."""

    def __init__(self, s: Tensor, z: Tensor) -> None:
        self.s, self.z = s, z
        self.W = _Scaling(s, z)
        self.lam = self.W(z)
        # W^2 without its first row and column is eta^2 (I + 2 u u^T); the Newton system has the inverse of that.
        u, eta = self.W.vector[:, 1:], self.W.eta[:, :, None]
        bent = u[:, :, None] * u[:, None, :] / (1 + 2 * u.square().sum(1))[:, None, None]
        self.inverse = (torch.eye(u.shape[1]).to(u) - 2 * bent) / eta.square()
        self.failed = not bool(torch.isfinite(self.lam).all())

    def predictor(self) -> Tensor:
        """The aim with which s o z would be zero."""
        return -product(self.lam, self.lam)

    def corrector(self, ds: Tensor, dz: Tensor, mu: float) -> Tensor:
        """The aim s o z = mu (1, 0), with the second order of the predictor's step. Mehrotra 1992."""
        aim = self.predictor() - product(self.W.undo(ds), self.W(dz))
        aim[:, 0] += mu
        return aim

    def right(self, aim: Tensor) -> Tensor:
        """What an aim adds to the right-hand side of the system for dv, whose matrix has ``inverse`` as blocks."""
        wanted = self.W(_quotient(self.lam, aim))[:, 1:]
        return (self.inverse @ wanted[:, :, None])[:, :, 0]

    def completed(self, aim: Tensor, dv: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
        """ds and dz of dv and dy, by <s, dz> + <z, ds> = aim_0: without W, ill-conditioned near the minimum."""
        dt = (aim[:, :1] - (self.s[:, 1:] * dy + self.z[:, 1:] * dv).sum(1, keepdim=True)) / self.z[:, :1]
        return torch.cat([dt, dv], 1), torch.cat([torch.zeros_like(dt), dy], 1)


def _determinant(a: Tensor) -> Tensor:
    norm = a[:, 1:].norm(dim=1, keepdim=True)
    return (a[:, :1] - norm) * (a[:, :1] + norm)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a o b = (<a, b>, a_0 b_1 + b_0 a_1)"""
    return torch.cat([(a * b).sum(1, keepdim=True), a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:]], 1)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """x with a o x = b"""
    first = (a[:, :1] * b[:, :1] - (a[:, 1:] * b[:, 1:]).sum(1, keepdim=True)) / _determinant(a)
    return torch.cat([first, (b[:, 1:] - first * a[:, 1:]) / a[:, :1]], 1)


class _Scaling:
    """Nesterov and Todd's W, the symmetric matrix with W z = W^-1 s: a size eta and a vector of determinant 1."""

    def __init__(self, s: Tensor, z: Tensor) -> None:
        ds, dz = _determinant(s), _determinant(z)
        s, z = s / ds.sqrt(), z / dz.sqrt()
        gamma = ((1 + (s * z).sum(1, keepdim=True)) / 2).sqrt()
        self.eta, self.vector = (ds / dz) ** 0.25, (s + _mirrored(z)) / (2 * gamma)

    def __call__(self, a: Tensor) -> Tensor:
        """W a"""
        return self.eta * _turned(a, self.vector)

    def undo(self, a: Tensor) -> Tensor:
        """W^-1 a"""
        return _turned(a, _mirrored(self.vector)) / self.eta


def _mirrored(a: Tensor) -> Tensor:
    return torch.cat([a[:, :1], -a[:, 1:]], 1)


def _turned(a: Tensor, vector: Tensor) -> Tensor:
    first, rest = vector[:, :1], vector[:, 1:]
    along = (rest * a[:, 1:]).sum(1, keepdim=True)
    return torch.cat([first * a[:, :1] + along, a[:, 1:] + rest * (a[:, :1] + along / (1 + first))], 1)


def longest(a: Tensor, da: Tensor) -> float:
    """The largest step, at most 1, with which no a + step da leaves its cone."""
    first, second = _determinant(a), a[:, :1] * da[:, :1] - (a[:, 1:] * da[:, 1:]).sum(1, keepdim=True)
    third = da[:, :1].square() - da[:, 1:].square().sum(1, keepdim=True)
    root = second.square() - first * third
    below = root.clamp_min(0).sqrt() - second
    step = torch.where((root >= 0) & (below > 0), first / below.clamp_min(1e-300), torch.inf)
    return min(1.0, float(step.min()))
