"""Programs on a GPU have the solutions that they have on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mrirecon.convex.augmented_lagrangian import solve_cones
from mrirecon.convex.gates import distinct_gates, fingerprints
from mrirecon.convex.least_absolute import LeastAbsolute
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.neurons import grown
from mrirecon.convex.operator import GatedOperator, PatchRows
from mrirecon.convex.working_set import solve
from tests.convex.programs import program, random

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
Kind = type[LeastSquares] | type[LeastAbsolute]


def both(kind: Kind, n: int = 300) -> list[LeastSquares | LeastAbsolute]:
    p = program(n=n, gates=20)
    beta = 0.1 * kind(p.K, p.b, 1.0).largest_strength
    return [
        kind(GatedOperator(PatchRows(p.K.patches.rows.to(device)), p.K.gates.to(device)), p.b.to(device), beta)
        for device in ("cpu", "cuda")
    ]


@pytest.mark.parametrize("kind", [LeastSquares, LeastAbsolute])
@pytest.mark.parametrize("few", ["exact", "sampled", "first_order"])
def test_solutions_agree(kind: Kind, few: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if few == "sampled":
        monkeypatch.setattr("mrirecon.convex.metric.SAMPLED", 100)
    if few == "first_order":
        for name in ("working_squares", "working_absolute"):
            monkeypatch.setattr(f"mrirecon.convex.{name}.DENSE", 0)
    tolerance = 1e-2 if few == "first_order" and kind is LeastAbsolute else 1e-5
    on_cpu, on_cuda = (solve(p, tolerance) for p in both(kind))
    assert on_cuda.filters.device.type == "cuda" and on_cuda.certificate.gap <= tolerance
    assert on_cuda.certificate.primal == pytest.approx(on_cpu.certificate.primal, rel=2 * tolerance)


@pytest.mark.parametrize("solved", [solve_cones, lambda p: grown(p, starts=20, rounds=5)], ids=["cones", "grown"])
def test_networks_agree(solved: Callable[[LeastSquares], object]) -> None:
    on_cpu, on_cuda = (solved(p) for p in both(LeastSquares))
    values = [getattr(s, "network", None) or s.objective for s in (on_cpu, on_cuda)]
    assert values[1] == pytest.approx(values[0], rel=1e-4)


def test_gates_are_the_same() -> None:
    Y, u = random(500, 9), random(30, 9, seed=1)
    rows = [PatchRows(Y.to(device)) for device in ("cpu", "cuda")]
    prints = [fingerprints(u.to(patches.rows.device), patches).cpu() for patches in rows]
    assert torch.equal(*prints)
    drawn = [distinct_gates(u.to(patches.rows.device), patches, "data", seed=3).cpu() for patches in rows]
    torch.testing.assert_close(*drawn)
