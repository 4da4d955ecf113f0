"""Which solvers of gated denoisers' programs are compared, in which variants, and on which problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks import peers
from benchmarks.convex_problems import Size
from benchmarks.convex_process import Limits, Side

OURS, PYSCNN, CLARABEL = "mrirecon", "pyscnn", "Clarabel"

REFERENCE = Side(
    "reference", "convex_sides", "ours", {"to 1e-8": {"precision": "float64", "tolerance": 1e-8}}, patience=1.0
)
RATES = {f"rate {rate:g} falling": {"rate": rate} for rate in (1e-1, 1e-2, 1e-3)}
SIDES = (
    Side(
        OURS,
        "convex_sides",
        "ours",
        {"single precision": {"precision": "float32"}, "double precision": {"precision": "float64"}},
        patience=1.2,
    ),
    Side(
        PYSCNN,
        "convex_pyscnn",
        "pyscnn",
        {
            "single precision": {"precision": "float32"},
            "double precision": {"precision": "float64"},
            "double precision, torch": {"precision": "float64", "backend": "torch"},
            "single precision, torch": {"precision": "float32", "backend": "torch"},
            "double precision, torch, no restarts": {"precision": "float64", "backend": "torch", "restarts": False},
            "single precision, torch, no restarts": {"precision": "float32", "backend": "torch", "restarts": False},
            "single precision, no restarts": {"precision": "float32", "restarts": False},
            "double precision, no restarts": {"precision": "float64", "restarts": False},
        },
        python=peers.PYSCNN_PYTHON,
    ),
    Side(
        CLARABEL,
        "convex_sides",
        "clarabel",
        {
            f"{form}, {tolerance:g}, {factor}": {"form": form, "tolerance": tolerance, "factor": factor}
            for form in ("natural", "Gram")
            for tolerance in (1e-3, 1e-4, 1e-5, 1e-8)
            for factor in ("qdldl", "faer")
        },
        patience=1.0,
    ),
    Side("Adam", "convex_sides", "adam", RATES, seconds=20.0, most=5000),
    Side("Adam, ReLU network", "convex_sides", "adam_relu", RATES, seconds=20.0, most=5000, other=True),
)


@dataclass(frozen=True)
class Plan:
    """small: problems of the first goal. ladder: larger ones, for peers until they fail. beyond: for ours alone.

    passes, groups: of the growth table; sizes and the groups of the Gram matrix.
    """

    small: Sequence[Size] = tuple(Size(1000, kernel, 50, part) for part in (0.1, 0.01) for kernel in (3, 5, 7))
    ladder: Sequence[Size] = (
        Size(2_000, 5, 100, 0.1),
        Size(5_000, 5, 200, 0.1),
        Size(10_000, 5, 300, 0.1),
        Size(20_000, 5, 500, 0.1),
        Size(50_000, 5, 1000, 0.1),
    )
    beyond: Sequence[Size] = (
        Size(100_000, 7, 1000, 0.1),
        Size(200_000, 7, 2000, 0.3),
        Size(200_000, 7, 2000, 0.1),
    )
    passes: Sequence[Size] = tuple(
        Size(patches, 7, gates, 0.1)
        for patches, gates in ((50_000, 1000), (100_000, 1000), (200_000, 1000), (100_000, 500), (100_000, 2000))
    )
    groups: int = 30
    repeats: int = 5
    limits: Limits = field(default_factory=Limits)
    sides: Sequence[Side] = SIDES
