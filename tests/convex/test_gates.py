"""Gates are told apart by their patterns."""

from __future__ import annotations

import pytest
import torch

from mrirecon.convex.gates import different_gates, distinct_gates, fingerprints
from mrirecon.convex.operator import PatchRows
from mrirecon.errors import InputError
from tests.convex.programs import random


def test_patterns_are_equal_where_fingerprints_are() -> None:
    Y, u = random(30, 2, seed=1), random(200, 2, seed=2)
    patterns = (Y @ u.T >= 0).T
    prints = fingerprints(u, PatchRows(Y))
    same = (patterns[:, None] == patterns[None]).all(2)
    assert torch.equal((prints[:, None] == prints[None]).all(2), same)
    assert same.sum() > 200  # some gates share one


def test_gates_with_a_pattern_of_their_own_stay_and_others_are_drawn_anew() -> None:
    Y = random(30, 3, seed=1)
    Y[:, 0] = Y[:, 0].abs()
    given = random(12, 3, seed=2)
    given[5] = 2 * given[4]  # the pattern of its neighbour
    given[7] = torch.tensor([-1.0, 0.0, 0.0])  # opens for none
    gates = distinct_gates(given, PatchRows(Y))
    patterns = (Y @ gates.T >= 0).T
    assert patterns.any(1).all() and len(patterns.unique(dim=0)) == 12
    assert (gates[:, None] == given[4]).all(-1).any()
    assert not (gates == given[7]).all(1).any()
    assert torch.equal(gates, distinct_gates(given, PatchRows(Y)))


def test_gates_of_the_data_open_on_details_as_often_as_on_the_mean() -> None:
    Y = random(2000, 4, seed=1) * torch.tensor([10.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    signs = Y[:, 0] >= 0

    def alike(sampling: str) -> float:
        """How often a gate opens by the sign of the largest direction, 0.5 for not at all, on average."""
        opened = Y @ distinct_gates(random(100, 4, seed=2), PatchRows(Y), sampling).T >= 0
        agree = (opened == signs[:, None]).double().mean(0)
        return float(torch.maximum(agree, 1 - agree).mean())

    assert alike("data") < 0.72 < 0.85 < alike("normal")


def test_more_gates_than_there_are_patterns_are_refused() -> None:
    with pytest.raises(InputError, match="use n_gates: 5"):
        distinct_gates(random(50, 2, seed=1), PatchRows(random(3, 2, seed=2)))


def test_a_gate_that_opens_on_patches_of_zeros_alone_is_dead() -> None:
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]])
    gates = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    assert torch.equal(different_gates(gates, PatchRows(rows)), gates[1:])
