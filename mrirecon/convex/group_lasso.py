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

from mrirecon.convex.certificate import relative_gap
from mrirecon.convex.groups import cut, part, times
from mrirecon.convex.newton_steps import NewtonSteps
from mrirecon.convex.refined import refined
from mrirecon.convex.second_order import Centring, longest
from mrirecon.errors import InputError

NEAR = 0.3  # relative gap of a start from which Newton steps are tried first
SHARP = 1e-3  # relative gap from which they settle which groups are zero
MOST = 60  # Newton steps; five to eleven are usual, for gaps of 1e-4 to 1e-8


def minimise_quadratic(
    Q: Tensor,
    c: Tensor,
    beta: float,
    constant: float,
    tolerance: float,
    guess: Tensor | None = None,
    start: Tensor | None = None,
    newton: NewtonSteps | None = None,
) -> Tensor:
    """The minimiser v, (group, tap), to the tolerance; groups that are zero there come out zero.

    Q: (group, tap, group, tap), symmetric and positive semi-definite, in double precision as c is.
    beta: > 0.
    constant: what has to be added to the quadratic so that its least value is 0 or more: 1/2 ||b||^2 for a problem
        1/2 ||A v - b||^2. The gap is relative to values with it.
    tolerance: on the relative duality gap. Where rounding ends the path within ten times of it, what was reached.
    guess: which groups may not be zero, (group,) bool, all unless given. Fewer are quicker; missing ones are found.
    start: filters (group, tap) near the minimum, from which a few Newton steps are tried first.
    newton: steps for this Q, to use the last factor of another call again; its own unless given.

    Raises InputError where rounding keeps the gap further above the tolerance.
    """
    v = torch.zeros_like(c)
    if constant <= 0 or len(c) == 0:
        return v
    newton = NewtonSteps(Q) if newton is None else newton
    assert newton.Q is Q

    def gap_of(v: Tensor) -> float:
        return _gap(v, Q, c, beta, constant)

    def path_of(on: Tensor) -> tuple[Tensor, Tensor, float]:
        newton.factor = None  # the memory is needed for factors of the path
        return _solved_on(on, Q, c, beta, constant, tolerance / 2)

    if start is not None and gap_of(start) <= NEAR:
        v, gap = refined(start, newton, c, beta, gap_of, tolerance)
        if gap <= tolerance:
            return v
    on = torch.ones_like(c[:, 0], dtype=torch.bool) if guess is None else guess.clone()
    while True:
        v, y, gap = path_of(on)
        wanted = ~on & ((times(Q, v) - c).norm(dim=1) > beta)
        if gap <= tolerance or not bool(wanted.any()):
            break
        if tolerance <= SHARP:  # often a few are missing, which Newton steps add
            sparse, reached = refined(cut(v, y, beta, 1.0), newton, c, beta, gap_of, tolerance)
            if reached <= tolerance:
                return sparse
        on |= wanted
    if gap > 10 * tolerance:
        raise InputError(
            f"the program of {len(c)} groups was solved to a relative gap of {gap:.1e} and no further, {tolerance:.1e} "
            "was asked for; rounding does not allow it: use double precision, a larger tolerance, or a larger strength"
        )
    enough = max(tolerance, 2 * gap)
    for least in (1.0, 1e-2, 1e-4):
        fewer = cut(v, y, beta, least)
        if bool((fewer.any(1) == on).all()):
            break
        sparse, reached = refined(fewer, newton, c, beta, gap_of, enough) if gap <= SHARP else (fewer, float("inf"))
        if reached > enough:
            sparse, _, reached = path_of(fewer.any(1))
        if reached <= enough:
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
    v[at], y[at], _ = _central_path(part(Q, at), c[at], beta, constant, tolerance)
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
        system = _Newton(Q, c, s, z)
        if system.failed:
            break
        ds, dz = system.direction(system.cones.predictor())
        left = 1 - min(longest(s, ds), longest(z, dz))
        ds, dz = system.direction(system.cones.corrector(ds, dz, left**3 * float((s * z).sum()) / w))
        step = 0.99 * min(longest(s, ds), longest(z, dz))
        s, z = s + step * ds, z + step * dz
        del system  # before the next is factored
        gap = _gap(s[:, 1:], Q, c, beta, constant)
        if gap < found[2]:
            found = s[:, 1:], z[:, 1:], gap
        if gap <= tolerance:
            break
    return found


def _gap(v: Tensor, Q: Tensor, c: Tensor, beta: float, constant: float) -> float:
    return quadratic_gap(v, times(Q, v), c, beta, constant)


class _Newton:
    """The Newton system at s and z (group, 1 + tap): factored once, solved for the predictor and the corrector."""

    def __init__(self, Q: Tensor, c: Tensor, s: Tensor, z: Tensor) -> None:
        w, d = c.shape
        Q = Q.reshape(w * d, w * d)
        self.Q, self.cones = Q, Centring(s, z)
        self.residual = (Q @ s[:, 1:].reshape(-1)).reshape(w, d) - c - z[:, 1:]
        H, own = Q.clone(), torch.arange(w, device=c.device)
        H.view(w, d, w, d)[own, :, own] += self.cones.inverse
        self.factor, info = torch.linalg.cholesky_ex(H)
        self.failed = bool(info) or self.cones.failed

    def direction(self, aim: Tensor) -> tuple[Tensor, Tensor]:
        """ds and dz with lam o (W^-1 ds + W dz) = aim, and with the stationarity that is still missing."""
        right = self.cones.right(aim) - self.residual
        dv = torch.cholesky_solve(right.reshape(-1, 1), self.factor)
        dy = (self.Q @ dv).reshape(right.shape) + self.residual
        return self.cones.completed(aim, dv.reshape(right.shape), dy)


def quadratic_gap(v: Tensor, Qv: Tensor, c: Tensor, beta: float, constant: float) -> float:
    """The relative duality gap of a least-squares problem with 1/2 ||b||^2 = constant.

    The dual point is the residual r, scaled to fit: -1/2 ||s r||^2 - s <r, b> with ||s A_i^T r|| <= beta.
    """
    vQv, cv = float((v * Qv).sum()), float((c * v).sum())
    rr, rb = vQv - 2 * cv + 2 * constant, cv - 2 * constant
    largest = float((Qv - c).norm(dim=1).max())
    s = min(max(-rb / rr, -beta / largest), beta / largest) if rr > 0 and largest > 0 else 0.0
    primal = rr / 2 + beta * float(v.norm(dim=1).sum())
    return relative_gap(primal, -s * s * rr / 2 - s * rb)
