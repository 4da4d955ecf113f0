"""Proofs by sums in single precision: as small as they can be, and never smaller than the truth."""

from __future__ import annotations

import pytest

from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, PatchRows
from mrirecon.convex.working_set import solve
from mrirecon.errors import InputError
from tests.convex.programs import program, random


def single(p: LeastSquares) -> LeastSquares:
    K = GatedOperator(PatchRows(p.K.patches.rows.float()), p.K.gates.float())
    return LeastSquares(K, p.b.float(), p.beta)


def test_single_precision_reaches_the_same_value() -> None:
    p = program(n=200, gates=40)
    found = solve(single(p), 1e-4)
    assert found.certificate.primal == pytest.approx(solve(p).certificate.primal, rel=1e-4)


@pytest.mark.parametrize("detail", [1e-2, 1e-3])
def test_single_precision_proves_small_gaps_of_patches_that_are_much_alike(detail: float) -> None:
    """Their mean is large, and the rounding of the Gram matrix larger than what tells details apart."""
    rows = 2 + detail * random(2000, 16) @ random(16, 16, seed=1)
    K = GatedOperator(PatchRows(rows.float()), random(30, 16, seed=2).float())
    p = LeastSquares(K, random(2000, seed=3).float(), 1.0)
    p = p.at(1e-3 * p.largest_strength)
    K = GatedOperator(PatchRows(p.K.patches.rows.double()), p.K.gates.double())
    best = solve(LeastSquares(K, p.b.double(), p.beta), 1e-9).certificate
    found = solve(p, 1e-5).certificate
    assert best.dual <= found.primal * (1 + 1e-6) <= best.primal * (1 + 2e-5)
    assert found.dual <= best.primal * (1 + 1e-6)


@pytest.mark.parametrize("gates", [12, 400])
@pytest.mark.parametrize("size", [1e-20, 1e-24])
def test_products_below_the_smallest_number_prove_nothing(size: float, gates: int) -> None:
    p = program(gates=gates)
    p = LeastSquares(GatedOperator(PatchRows(p.K.patches.rows * size), p.K.gates), p.b * size, p.beta * size**2)
    with pytest.raises(InputError, match=r"and no further|are so much alike|endlessly short"):
        solve(single(p), 1e-4)
