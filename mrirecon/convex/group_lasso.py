"""The group lasso of a dense quadratic, to any accuracy in some ten Newton steps.

min_v  1/2 v^T Q v - c^T v + beta sum_i ||v_i||        Q (group, tap, group, tap), c and v (group, tap)

As a second-order cone program, with s_i = (t_i, v_i), t_i >= ||v_i||, and its dual variable z_i = (beta, y_i),
||y_i|| <= beta, the minimum is where Q v - c = y and s_i o z_i = 0. A primal-dual interior-point method follows
s_i o z_i = mu (1, 0) to mu = 0 with Nesterov and Todd's scaling and Mehrotra's corrector. Its Newton system has as many
rows as v, and it needs no more steps where Q is ill-conditioned or beta small, which is where gradients crawl.
Nesterov and Todd 1998, doi:10.1137/S1052623495290209; Vandenberghe, "The CVXOPT linear and quadratic cone program
solvers", 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrirecon.errors import InputError

MOST = 60  # Newton steps; five to eleven are usual, for gaps of 1e-4 to 1e-8


def minimise_quadratic(
    Q: Tensor, c: Tensor, beta: float, constant: float, tolerance: float, guess: Tensor | None = None
) -> Tensor:
    """The minimiser v, (group, tap), to the tolerance; groups that are zero there come out zero.

    Q: (group, tap, group, tap), symmetric and positive semi-definite, in double precision as c is.
    beta: > 0.
    constant: what has to be added to the quadratic so that its least value is 0 or more: 1/2 ||b||^2 for a problem
        1/2 ||A v - b||^2. The gap is relative to values with it.
    tolerance: on the relative duality gap. Where rounding ends the path within ten times of it, what was reached.
    guess: which groups may not be zero, (group,) bool, all unless given. Fewer are quicker; missing ones are found.

    Raises InputError where rounding keeps the gap further above the tolerance.
    """
    v = torch.zeros_like(c)
    if constant <= 0 or len(c) == 0:
        return v
    on = torch.ones_like(c[:, 0], dtype=torch.bool) if guess is None else guess.clone()
    while True:
        v, y, gap = _solved_on(on, Q, c, beta, constant, tolerance / 2)
        wanted = ~on & (_gradient(v, Q, c).norm(dim=1) > beta)
        if gap <= tolerance or not bool(wanted.any()):
            break
        on |= wanted
    if gap > 10 * tolerance:
        raise InputError(
            f"the program of {len(c)} groups was solved to a relative gap of {gap:.1e} and no further, {tolerance:.1e} "
            "was asked for; rounding does not allow it: ask for a larger tolerance or use a larger strength"
        )
    # A group is zero at the minimum if v is much nearer to that, relative to the longest, than y is to the length beta.
    norms = v.norm(dim=1)
    odds = norms / norms.max() / (1 - y.norm(dim=1) / beta)
    for cut in (1.0, 1e-2, 1e-4):
        fewer = on & (odds >= cut)
        if bool((fewer == on).all()):
            break
        sparse, _, reached = _solved_on(fewer, Q, c, beta, constant, tolerance / 2)
        if reached <= max(tolerance, 2 * gap):
            return sparse
    return v


def _solved_on(
    on: Tensor, Q: Tensor, c: Tensor, beta: float, constant: float, tolerance: float
) -> tuple[Tensor, Tensor, float]:
    """The program with only some groups not zero: v and y of all, and the gap for all."""
    if bool(on.all()):
        return _central_path(Q, c, beta, constant, tolerance)
    at = on.nonzero()[:, 0]
    v, y = torch.zeros_like(c), torch.zeros_like(c)
    v[at], y[at], _ = _central_path(Q[at][:, :, at], c[at], beta, constant, tolerance)
    return v, y, _gap(v, Q, c, beta, constant)


def _central_path(Q: Tensor, c: Tensor, beta: float, constant: float, tolerance: float) -> tuple[Tensor, Tensor, float]:
    """v, y and the relative gap where that is at most ``tolerance``, or where it was least."""
    w = len(c)
    zero = torch.zeros_like(c)
    if w == 0:
        return zero, zero, 0.0
    s, z = (torch.cat([torch.full_like(c[:, :1], size), zero], 1) for size in (constant / (beta * w), beta))
    found = zero, zero, float("inf")
    for _ in range(MOST):
        newton = _Newton(Q, c, s, z)
        if newton.failed:
            break
        ds, dz = newton.direction(-_product(newton.lam, newton.lam))
        left = 1 - min(_longest(s, ds), _longest(z, dz))
        aim = -_product(newton.lam, newton.lam) - _product(newton.W.undo(ds), newton.W(dz))
        aim[:, 0] += left**3 * float((s * z).sum()) / w
        ds, dz = newton.direction(aim)
        step = 0.99 * min(_longest(s, ds), _longest(z, dz))
        s, z = s + step * ds, z + step * dz
        gap = _gap(s[:, 1:], Q, c, beta, constant)
        if gap < found[2]:
            found = s[:, 1:], z[:, 1:], gap
        if gap <= tolerance:
            break
    return found


def _gap(v: Tensor, Q: Tensor, c: Tensor, beta: float, constant: float) -> float:
    return relative_gap(v, _gradient(v, Q, c) + c, c, beta, constant)


def _gradient(v: Tensor, Q: Tensor, c: Tensor) -> Tensor:
    return (Q.reshape(c.numel(), -1) @ v.reshape(-1)).reshape(c.shape) - c


class _Newton:
    """The Newton system at s and z (group, 1 + tap): factored once, solved for the predictor and the corrector."""

    def __init__(self, Q: Tensor, c: Tensor, s: Tensor, z: Tensor) -> None:
        w, d = c.shape
        Q = Q.reshape(w * d, w * d)
        self.Q, self.s, self.z = Q, s, z
        self.W = _Scaling(s, z)
        self.lam = self.W(z)
        self.residual = (Q @ s[:, 1:].reshape(-1)).reshape(w, d) - c - z[:, 1:]
        # W^2 without its first row and column is eta^2 (I + 2 u u^T); the system has the inverse of that.
        u, eta = self.W.vector[:, 1:], self.W.eta[:, :, None]
        bent = u[:, :, None] * u[:, None, :] / (1 + 2 * u.square().sum(1))[:, None, None]
        self.inverse = (torch.eye(d).to(c) - 2 * bent) / eta.square()
        H, own = Q.clone(), torch.arange(w, device=c.device)
        H.view(w, d, w, d)[own, :, own] += self.inverse
        self.factor, info = torch.linalg.cholesky_ex(H)
        self.failed = bool(info) or not bool(torch.isfinite(self.lam).all())

    def direction(self, aim: Tensor) -> tuple[Tensor, Tensor]:
        """ds and dz with lam o (W^-1 ds + W dz) = aim, and with the stationarity that is still missing."""
        wanted = self.W(_quotient(self.lam, aim))[:, 1:]
        right = (self.inverse @ wanted[:, :, None])[:, :, 0] - self.residual
        dv = torch.cholesky_solve(right.reshape(-1, 1), self.factor)
        # The rest from what does not involve W, which is ill-conditioned near the minimum: stationarity, and
        # <s, dz> + <z, ds> = aim_0.
        dy = (self.Q @ dv).reshape(right.shape) + self.residual
        dv = dv.reshape(right.shape)
        dt = (aim[:, :1] - (self.s[:, 1:] * dy + self.z[:, 1:] * dv).sum(1, keepdim=True)) / self.z[:, :1]
        return torch.cat([dt, dv], 1), torch.cat([torch.zeros_like(dt), dy], 1)


def relative_gap(v: Tensor, Qv: Tensor, c: Tensor, beta: float, constant: float) -> float:
    """(primal - dual) / primal of a least-squares problem with 1/2 ||b||^2 = constant.

    The dual point is the residual r, scaled to fit: -1/2 ||s r||^2 - s <r, b> with ||s A_i^T r|| <= beta.
    """
    vQv, cv = float((v * Qv).sum()), float((c * v).sum())
    rr, rb = vQv - 2 * cv + 2 * constant, cv - 2 * constant
    largest = float((Qv - c).norm(dim=1).max())
    s = min(max(-rb / rr, -beta / largest), beta / largest) if rr > 0 and largest > 0 else 0.0
    primal = rr / 2 + beta * float(v.norm(dim=1).sum())
    return (primal + s * s * rr / 2 + s * rb) / primal if primal > 0 else 0.0


# Second-order cones, one in each row: a = (a_0, a_1), inside where a_0 > ||a_1||.


def _determinant(a: Tensor) -> Tensor:
    norm = a[:, 1:].norm(dim=1, keepdim=True)
    return (a[:, :1] - norm) * (a[:, :1] + norm)


def _product(a: Tensor, b: Tensor) -> Tensor:
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


def _longest(a: Tensor, da: Tensor) -> float:
    """The largest step, at most 1, with which no a + step da leaves its cone."""
    first, second = _determinant(a), a[:, :1] * da[:, :1] - (a[:, 1:] * da[:, 1:]).sum(1, keepdim=True)
    third = da[:, :1].square() - da[:, 1:].square().sum(1, keepdim=True)
    root = second.square() - first * third
    below = root.clamp_min(0).sqrt() - second
    step = torch.where((root >= 0) & (below > 0), first / below.clamp_min(1e-300), torch.inf)
    return min(1.0, float(step.min()))
