"""The study of convex denoisers, with tiny programs: its lines, going on where it stopped, its tables."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mrirecon.cli import main

OURS = "unrolled, convex, t searched"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with small settings, which trains in this process."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script, data, one_shot, unrolled = (
        importlib.import_module(f"convex_{name}") for name in ("study", "data", "one_shot", "unrolled")
    )
    scans = data.Scans(size=32, train=1, val=1, test=2)
    protocol = script.Protocol(
        one_shot=one_shot.Settings(gates=(12,), rounds=2, starts=20, rates=(1e-2, 2e-2), steps=300, tolerance=1e-3),
        one_shot_scans=scans,
        unrolled=unrolled.Settings(
            steps=2, gates=12, kernel_size=3, strengths=(1e-2, 3e-3), channels=2, epochs=2, rates=(2e-3, 4e-3), tuning=1
        ),
        unrolled_scans=scans,
        accelerations=(2.0,),
        calibration=8,
        adams=2,
    )
    monkeypatch.setattr(script, "PROTOCOL", protocol)
    monkeypatch.setattr(unrolled, "SEARCH", 1)
    for room in ("convex_data", "convex_unrolled", "trainings"):
        monkeypatch.setattr(sys.modules[room], "command", lambda *words: main(list(words)), raising=False)
    return script


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    assert main(["simulate", str(tmp_path / "scan"), "--slices", "1", "--coils", "3", "--shape", "[64,64]"]) == 0
    return next((tmp_path / "scan").glob("*.h5"))


def test_the_study_compares_programs_and_networks_and_goes_on_where_it_stopped(
    study: ModuleType, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(scan), "--json", str(tmp_path / "out.json"), "--folder", str(tmp_path / "runs"), "--seeds", "1"]

    def run(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["convex_study.py", *words, *more])  # training changes it
        return study.main()

    assert run("--part", "one-shot") == 0
    assert not (tmp_path / "out.json").exists()
    first = (tmp_path / "out.jsonl").read_text()
    assert run() == 0
    assert (tmp_path / "out.jsonl").read_text().startswith(first)
    report = json.loads((tmp_path / "out.json").read_text())
    rows = {row["method"]: row for row in report["one_shot"]["2"]}
    assert rows["gated, grown gates"]["objective"] < rows["constrained, grown gates"]["objective"]
    mapped, constrained = rows["mapped ReLU network"], rows["constrained, grown gates"]
    assert mapped["objective"] == pytest.approx(constrained["objective"], rel=1e-4)
    assert mapped["active"] == constrained["active"]
    assert rows["ReLU network, Adam"]["active"] == mapped["active"]
    assert rows["ReLU network, Adam"]["best"] == pytest.approx(constrained["objective"], rel=0.05)
    assert rows["zero-filled"]["objective"] > max(row["objective"] for name, row in rows.items() if name[0] != "z")
    unrolled = {row["method"]: row for row in report["unrolled"]}
    assert len(unrolled["unrolled, convex"]["stages"][0]) == 2
    assert all(stage["gap"] <= 1e-3 for stage in unrolled["unrolled, convex"]["stages"][0])
    (searched,) = unrolled[OURS]["stages"]
    assert [[one["value"] for one in stage["candidates"]] for stage in searched] == [[1.0, 2.0]] * 2
    differences = unrolled["unrolled, convex"]["scores"]["simulated"]["ours_minus"]
    scores = (unrolled[name]["scores"]["simulated"]["psnr"]["mean"] for name in (OURS, "unrolled, convex"))
    assert differences["mean"] == pytest.approx(next(scores) - next(scores))
    for row in unrolled.values():
        assert set(row["scores"]) == {"simulated", scan.stem}
        assert all(np.isfinite(scores["psnr"]["mean"]) for scores in row["scores"].values())
    assert (tmp_path / "runs" / "runs").is_dir()
    table = importlib.import_module("readme_tables").convex_study(report)
    assert (
        table.count("| mapped ReLU network |") == 1
        and table.count("| unrolled, convex |") == table.count(f"| {OURS} |") == 3
    )


def test_results_of_other_settings_are_not_mixed(
    study: ModuleType, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.jsonl").write_text(json.dumps({"key": "settings", "scores": {"other": 1}}) + "\n")
    monkeypatch.setattr(
        sys, "argv", ["convex_study.py", str(scan), "--json", str(tmp_path / "out.json"), "--folder", str(tmp_path)]
    )
    assert study.main() == 2
    assert "other settings" in capsys.readouterr().err
