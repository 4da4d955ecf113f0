"""The benchmarks' report: its form, its goals, and peers that are not there."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# As the issue that asked for them says.
GOALS = {
    "operators": {
        "normal_knee_1d_vs_fft": ("lower", 1.2),
        "normal_brain_1d_vs_fft": ("lower", 1.7),
        "normal_knee_2d_vs_fft": ("lower", 1.6),
        "normal_brain_2d_vs_fft": ("lower", 2.1),
        "fastest_peer_vs_normal_knee": ("higher", 2.3),
        "fastest_peer_vs_normal_brain": ("higher", 2.3),
        "fastest_peer_vs_normal_knee_2d": ("higher", 1.7),
        "fastest_peer_vs_normal_brain_2d": ("higher", 2.0),
    },
    "loader": {"loader_vs_fastmri": ("higher", 3.0)},
}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.mark.parametrize("name", GOALS)
def test_the_committed_figures_have_the_goals_asked_for(name: str) -> None:
    report = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text())
    assert {key: (goal["better"], goal["bound"]) for key, goal in report["goals"].items()} == GOALS[name]
    assert report["machine"]["cores"] > 0 and report["versions"]["torch"] and report["rows"]


@pytest.mark.usefixtures("scripts")
def test_operators_are_measured_and_absent_peers_are_named(tmp_path, monkeypatch, capsys) -> None:
    benchmark = importlib.import_module("benchmark")
    operators = importlib.import_module("benchmarks.operators")
    monkeypatch.setattr(operators, "SHAPES", {"knee": (3, 20, 12), "brain": (2, 16, 16)})
    monkeypatch.setattr(operators, "PEERS", {"sigpy": operators.sigpy, "mrpro": absent, "deepinv": wrong})
    monkeypatch.setattr(importlib.import_module("benchmarks.peers"), "PYTHON", tmp_path / "none")
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "operators", "--json", str(tmp_path / "figures.json")])
    benchmark.main()
    report = json.loads((tmp_path / "figures.json").read_text())
    assert list(tmp_path.iterdir()) == [tmp_path / "figures.json"], "no temporary file is left"
    assert {key: (goal["better"], goal["bound"]) for key, goal in report["goals"].items()} == GOALS["operators"]
    assert all(goal["value"] > 0 for goal in report["goals"].values())
    assert set(report["missing"]) == {"mrpro", "deepinv"} and "relative error" in report["missing"]["deepinv"]
    assert {row["side"] for row in report["rows"]} == {"fft pair", "mrirecon", "sigpy"}
    assert {row["operation"] for row in report["rows"]} == {"normal", "forward", "adjoint"}
    assert "missing: mrpro (no module of that name)" in capsys.readouterr().out


def absent(scan: object) -> None:
    raise ModuleNotFoundError("no module of that name")


def wrong(scan: object) -> object:
    """A peer that computes something else must not be compared."""
    operator = importlib.import_module("benchmarks.operators").ours(scan)
    return operator._replace(image=lambda x: 2 * x, kspace=lambda y: 2 * y)


@pytest.mark.usefixtures("scripts")
def test_without_fastmri_the_loader_has_no_goal_and_says_so(monkeypatch) -> None:
    loader = importlib.import_module("benchmarks.loader")
    monkeypatch.setattr(loader, "SHAPE", (2, 2, 40, 48))
    monkeypatch.setattr(loader, "RECON", (20, 20))
    monkeypatch.setattr(loader, "LINES", 44)
    monkeypatch.setattr(loader, "CENTER_FRACTION", 0.2)
    monkeypatch.setattr(loader, "fastmri_reader", absent_reader)
    report = loader.measure()
    assert report.goals == {} and "fastmri" in report.missing
    assert {row["side"] for row in report.rows} == {"bare read (read_direct)", "mrirecon", "mrirecon, full path"}


def absent_reader(*_: object) -> None:
    raise ModuleNotFoundError("No module named 'fastmri'")
