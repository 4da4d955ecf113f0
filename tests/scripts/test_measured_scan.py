"""The study on a measured scan, on a tiny simulated one: rows, grid, best settings, and going on where it stopped."""

from __future__ import annotations

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mrirecon.cli import main
from tests.commands.conftest import fit_words

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The script with a small grid, in this process; and a folder with a scan, validation files and a network."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("measured_scan")
    for name, values in {"CG": [0.01, 0.1], "L1": [0.01], "WAVELETS": ("haar",), "CROPS": (0.5, 0.0)}.items():
        monkeypatch.setattr(script, name, values)
    monkeypatch.setattr(script, "ProcessPoolExecutor", lambda initializer: ThreadPoolExecutor(1))
    for split, volumes in (("train", 1), ("val", 1), ("test", 1)):
        words = ["--split", split, "--volumes", str(volumes), "--slices", "2", "--coils", "3", "--shape", "[48,40]"]
        assert main(["simulate", str(tmp_path / f"multicoil_{split}"), *words]) == 0
    assert main(fit_words(tmp_path, tmp_path / "run", "--trainer.max_epochs", "1")) == 0
    return script


def test_every_setting_is_scored_at_every_offset_and_only_once(study, tmp_path, monkeypatch) -> None:
    scan = next((tmp_path / "multicoil_test").glob("*.h5"))
    words = [str(scan), "--validation", str(tmp_path / "multicoil_val"), "--model", f"net={tmp_path / 'run'}"]
    words += ["--center_fraction", "0.2", "--json", str(tmp_path / "out.json"), "--picture", str(tmp_path / "out.png")]
    monkeypatch.setattr(sys, "argv", ["measured_scan.py", *words])
    assert study.main() == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert [row["method"] for row in report["rows"]] == [
        *["zero-filled"] * 2,
        *["CG-SENSE"] * 2,
        *["L1-wavelet"] * 2,
        "net",
    ]
    assert len(report["grid"]) == 2 + 2 * 2 + 2 and report["offsets"] > 1
    for name in study.SCORES:  # a best row is the best of the grid, score by score
        best = next(r for r in report["rows"] if r["method"] == "CG-SENSE" and r["setting"].startswith("best"))
        assert best["mean"][name] == pytest.approx(
            max(setting[name] for setting in report["grid"] if setting["method"] == "cg-sense")
        )
    assert (tmp_path / "out.png").stat().st_size > 10_000

    lines = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 2 * 8 + 1
    (tmp_path / "out.jsonl").write_text("".join(lines[:-2]) + lines[-2][:30])  # killed while writing
    ran: list[object] = []
    run = study.run
    monkeypatch.setattr(study, "run", lambda job: ran.append(job) or run(job))
    assert study.main() == 0
    assert len(ran) == 2
    assert study.main() == 0 and len(ran) == 2, "nothing is left to run"
    again = json.loads((tmp_path / "out.json").read_text())
    assert again["rows"] == report["rows"]
