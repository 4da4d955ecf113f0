"""The regularisation path: the program for one strength after the other, each started where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from mrirecon.convex.working_set import Program, Solution, solve


def path(program: Program, strengths: Sequence[float], tolerance: float = 1e-5) -> Iterator[Solution]:
    """Solutions for strengths beta, in the order given; falling ones are the quicker, as groups join by and by.

    ``largest_strength`` of the program is where the first group does.
    """
    start: Tensor | None = None
    for beta in strengths:
        solution = solve(program.at(beta), tolerance, start)
        start = solution.filters
        yield solution
