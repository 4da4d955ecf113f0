"""The study of greedy training, with tiny networks: both budgets, going on where it was stopped, other settings."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mrirecon.cli import main
from mrirecon.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The script with networks of two steps, which trains in this process."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("greedy_study")
    networks = {
        script.BASE: importlib.import_module("greedy_networks").Network(1, 2, None),
        script.REFERENCE: importlib.import_module("greedy_networks").Network(2, 2, 1),
        script.GIVEN_UP: importlib.import_module("greedy_networks").Network(2, 2, None),
    }
    for room in ("greedy_study", "greedy_networks"):
        monkeypatch.setattr(sys.modules[room], "NETWORKS", networks)
    protocol = script.Protocol(
        size=32, rows=16, slices=2, train=1, val=1, test=2, epochs=3, every=1, patience=1, rates=(1e-3, 2e-3), tuning=1
    )
    monkeypatch.setattr(script, "PROTOCOL", protocol)
    for room in ("greedy_study", "trainings"):
        monkeypatch.setattr(importlib.import_module(room), "command", lambda *words: main(list(words)))
    return script


def test_the_study_compares_at_both_budgets_and_goes_on_where_it_stopped(study, tmp_path, monkeypatch) -> None:
    assert main(["simulate", str(tmp_path / "scan"), "--slices", "1", "--coils", "3", "--shape", "[48,48]"]) == 0
    scan = next((tmp_path / "scan").glob("*.h5"))
    words = [str(scan), "--json", str(tmp_path / "out.json"), "--folder", str(tmp_path / "runs"), "--seeds", "2"]
    words += ["--picture", str(tmp_path / "out.png")]

    def run() -> int:
        monkeypatch.setattr(sys, "argv", ["greedy_study.py", *words])  # training changes it
        return study.main()

    assert run() == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert [(r["budget"], r["network"]) for r in report["rows"]] == [
        (budget, name) for budget in ("updates", "time") for name in (study.BASE, study.REFERENCE, study.GIVEN_UP)
    ]
    for row in report["rows"]:
        assert row["limit"] % 2 == 0 and max(row["trained"]) <= row["limit"] and len(row["best"]) == 2
        assert ("simulated_psnr_difference" in row) == (row["network"] != study.BASE)
    for name, rates in report["rates"].items():
        best = max(rates, key=lambda rate: rates[rate])
        assert best not in (max(rates, key=float), min(rates, key=float)), f"{name}: the best rate is at an edge"
    assert (tmp_path / "out.png").stat().st_size > 10_000

    lines = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_text("".join(lines[:-1]) + lines[-1][:40])  # killed while writing the last scores
    monkeypatch.setattr(importlib.import_module("trainings"), "command", lambda *words: pytest.fail("trained again"))
    assert run() == 0
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == report["rows"]

    monkeypatch.setattr(study, "PROTOCOL", study.Protocol(epochs=5))
    assert run() == 2


def test_a_difference_counts_where_it_is_clear_over_items_and_seeds(study) -> None:
    paired = importlib.import_module("study").paired
    assert paired(np.array([[1.0, 1.1, 0.9], [1.1, 1.2, 1.0]]))["verdict"] == "better"
    assert paired(-np.array([[1.0, 1.1, 0.9], [1.1, 1.2, 1.0]]))["verdict"] == "worse"
    assert paired(np.array([[1.0, -1.1, 0.9], [1.1, -1.2, 1.0]]))["verdict"] == "undecided", "items differ"
    assert paired(np.array([[0.1, 0.1, 0.1], [2.0, 2.1, 2.2]]))["verdict"] == "undecided", "seeds differ"


def test_results_of_other_settings_are_refused(study, tmp_path) -> None:
    lines = importlib.import_module("study").Lines(tmp_path / "out.jsonl")
    lines.keep("old", 1)
    with pytest.raises(InputError, match="has results of other settings"):
        importlib.import_module("trainings").Trainings(tmp_path, lines, {"epochs": 3})
