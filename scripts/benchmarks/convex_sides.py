"""Solvers of a gated denoiser's program, as the benchmark runs them: ours, Clarabel, and Adam.

Each takes a problem and a clock that has just started, and shows the clock its iterates. The clock's limit is for those
that have many; one that has only a result is ended from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import cos, pi
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.convex_clock import Clock
from benchmarks.convex_problems import Problem
from mrirecon.convex.gates import distinct_gates
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, PatchRows
from mrirecon.convex.working_set import Solution, solve


def ours(problem: Problem, clock: Clock, precision: str = "float32", tolerance: float = 1e-4) -> None:
    """mrirecon's, to its own certificate; an iterate is what a round starts from."""
    dtype = getattr(torch, precision)
    Y = PatchRows(problem.Y.to(dtype))
    gates = distinct_gates(problem.u.to(dtype), Y)
    assert torch.equal(gates.float(), problem.u), "the problem's gates are distinct already"

    def report(solution: Solution) -> None:
        clock.look(lambda: problem.objective(solution.filters), last=True, go_on=True)
        clock.note(gap=solution.certificate.gap, active=solution.certificate.active)

    with counted() as shares:
        program = LeastSquares(GatedOperator(Y, gates), problem.b.to(dtype), problem.beta)
        solve(program, tolerance, report=report)
    clock.note(certified=clock.now, calls=len(shares), passes=sum(shares))


@contextmanager
def counted() -> Iterator[list[float]]:
    """A list that gets the share of all gates for every call of K or of its transpose."""
    shares: list[float] = []

    def counting(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(self: GatedOperator, x: Tensor, at: Tensor | None = None) -> Tensor:
            shares.append(1.0 if at is None else len(at) / len(self.gates))
            return method(self, x, at)

        return call

    with (
        patch.object(GatedOperator, "forward", counting(GatedOperator.forward)),
        patch.object(GatedOperator, "adjoint", counting(GatedOperator.adjoint)),
    ):
        yield shares


def clarabel(
    problem: Problem, clock: Clock, form: str = "natural", tolerance: float = 1e-6, factor: str = "qdldl"
) -> None:
    """cvxpy with Clarabel: the program as it stands, or of the Gram matrix; it gives no iterate but the last.

    factor: Clarabel's solver of linear equations.
    """
    import cvxpy as cp

    Y, b, u = (x.double().numpy() for x in (problem.Y, problem.b, problem.u))
    K = ((Y @ u.T >= 0)[:, :, None] * Y[:, None, :]).reshape(len(Y), -1)
    v = cp.Variable(u.shape)
    flat = cp.reshape(v, (u.size,), order="C")
    if form == "natural":
        squares = cp.sum_squares(K @ flat - b) / 2
    else:
        squares = cp.quad_form(flat, cp.psd_wrap(K.T @ K)) / 2 - (b @ K) @ flat
    program = cp.Problem(cp.Minimize(squares + problem.beta * cp.sum(cp.norm(v, axis=1))))
    program.solve(
        cp.CLARABEL,
        direct_solve_method=factor,
        tol_gap_abs=tolerance,
        tol_gap_rel=tolerance,
        tol_feas=tolerance,
    )
    found = np.zeros(u.shape) if v.value is None else v.value
    clock.iterations = int(program.solver_stats.num_iters or 1) - 1
    clock.look(lambda: problem.objective(torch.from_numpy(found)), last=True)


def adam(problem: Problem, clock: Clock, rate: float = 1e-2) -> None:
    """Adam on all filters of the gated program, with the patterns in memory; the rate falls to zero with time."""
    Y, b, beta = problem.Y, problem.b, problem.beta
    D = (Y @ problem.u.T >= 0).float()
    v = torch.zeros_like(problem.u, requires_grad=True)

    def loss() -> Tensor:
        r = torch.linalg.vecdot(Y, D @ v) - b
        return r.square().sum() / 2 + beta * (v.square().sum(1) + 1e-16).sqrt().sum()

    descend([v], loss, rate, clock, lambda: clock.look(lambda: problem.objective(v)))


def adam_relu(problem: Problem, clock: Clock, rate: float = 1e-2) -> None:
    """Adam on a ReLU network with weight decay, of as many neurons as there are gates: another, non-convex program.

    1/2 ||relu(Y u^T) v - b||^2 + beta / 2 (||u||^2 + ||v||^2); it begins as `mrirecon.denoisers.TwoLayerReLU` does.
    """
    torch.manual_seed(0)
    Y, b, beta = problem.Y, problem.b, problem.beta
    neurons, taps = problem.u.shape
    u = (0.1 * torch.randn(neurons, taps) / taps**0.5).requires_grad_()
    v = (0.1 * torch.randn(neurons).sign()).requires_grad_()

    def loss(Y: Tensor = Y, b: Tensor = b, u: Tensor = u, v: Tensor = v) -> Tensor:
        decay = u.square().sum() + v.square().sum()
        return ((Y @ u.T).relu() @ v - b).square().sum() / 2 + beta / 2 * decay

    def worth() -> float:
        with torch.no_grad():
            return float(loss(Y.double(), b.double(), u.double(), v.double()))

    descend([u, v], loss, rate, clock, lambda: clock.look(worth))


def descend(
    weights: list[Tensor], loss: Callable[[], Tensor], rate: float, clock: Clock, look: Callable[[], None]
) -> None:
    optimizer = torch.optim.Adam(weights, rate)
    while True:
        optimizer.param_groups[0]["lr"] = rate * (1 + cos(pi * min(1.0, clock.now / clock.limit))) / 2
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        look()
