"""What the convex solver repeats, by the number of patches and gates: K, its transpose, a Gram matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import linear_regression

import numpy as np
import torch

from benchmarks.convex_problems import Size, draw
from benchmarks.measure import Side, alternate
from mrirecon.convex.operator import GatedOperator, PatchRows

Row = dict[str, str | float]


def growth(sizes: Sequence[Size], groups: int, repeats: int = 3) -> list[Row]:
    """Seconds of one pass at each size, and the exponents of patches and gates that fit them best."""
    rows: list[Row] = []
    for size in sizes:
        problem = draw(size)
        K = GatedOperator(PatchRows(problem.Y), problem.u)
        v, at = torch.randn(problem.u.shape, generator=torch.Generator().manual_seed(0)), torch.arange(groups)
        sides: dict[str, Side] = {
            "K_s": partial(K.forward, v),
            "K^T_s": partial(K.adjoint, problem.b),
            "gram_s": partial(K.gram, at, at),
        }
        what: Row = {"table": "growth", "patches": size.patches, "kernel": size.kernel, "gates": size.gates}
        rows.append({**what, **alternate(sides, repeats, warm_up=1)})
        print(rows[-1], flush=True)
    return rows + [
        {"table": "exponents", "of": axis} | {key: exponent(rows, axis, key) for key in ("K_s", "K^T_s", "gram_s")}
        for axis in ("patches", "gates")
    ]


def exponent(rows: Sequence[Row], axis: str, key: str) -> float:
    """Slope of log time over log size, of the rows that differ in this axis alone from the one in the middle."""
    other = "gates" if axis == "patches" else "patches"
    middle = sorted(float(row[other]) for row in rows)[len(rows) // 2]
    chosen = [row for row in rows if row[other] == middle]
    x, y = (np.log([float(row[name]) for row in chosen]) for name in (axis, key))
    return linear_regression(list(x), list(y)).slope
