"""The study of scale equivariance, with tiny networks: its tests, its length, going on where it was stopped."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from mrirecon.cli import main
from mrirecon.errors import InputError
from mrirecon.metrics import body_mask
from mrirecon.simulation.volumes import simulate_volume

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"models/pgd_resnet": {"channels": 2}, "models/pgd_scale_equivariant": {"channels": 2, "hidden": 1}}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with networks of one step, which trains in this process."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script, networks, tests = (importlib.import_module(f"scale_{name}") for name in ("study", "networks", "tests"))
    for name in ("NETWORKS", "CHANGED"):
        tiny = {
            key: replace(network, denoiser=dict(network.denoiser) | SMALL[network.card], steps=1)
            for key, network in getattr(networks, name).items()
        }
        monkeypatch.setattr(script, name, tiny)
    scans = tests.Scans(
        size=32, slices=1, coils=(3, 3), volumes=(1, 2), val=1, test=2, shifts=(1.4,), measured=48, crops=(0.7, 1.0)
    )
    monkeypatch.setattr(script, "PROTOCOL", script.Protocol(scans, 1, 2, rates=(1e-3, 2e-3), tuning=1, tuned_on=2))
    for room in ("scale_tests", "trainings"):
        monkeypatch.setattr(sys.modules[room], "command", lambda *words: main(list(words)))
    return script


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    assert main(["simulate", str(tmp_path / "scan"), "--slices", "1", "--coils", "3", "--shape", "[64,64]"]) == 0
    return next((tmp_path / "scan").glob("*.h5"))


def test_the_study_scores_every_setting_and_goes_on_where_it_stopped(study, scan, tmp_path, monkeypatch) -> None:
    words = [str(scan), "--json", str(tmp_path / "out.json"), "--folder", str(tmp_path / "runs"), "--seeds", "1"]
    words += ["--picture", str(tmp_path / "out.png")]

    def run(*more: str) -> int:
        monkeypatch.setattr(sys, "argv", ["scale_study.py", *words, *more])  # training changes it
        return study.main()

    assert run("--part", "2/2") == 0
    assert not (tmp_path / "out.json").exists() and (tmp_path / "out.jsonl").read_text().count('"words"') == 7
    with pytest.raises(SystemExit):
        run("--part", "3/2")
    assert run() == 0
    report, scans = json.loads((tmp_path / "out.json").read_text()), study.PROTOCOL.scans
    tests = ["in distribution", "anatomy 1.4", "pixel size 1.4", "measured 0.7", "measured 1"]
    assert len(report["rows"]) == 3 * 2 * 2
    for row in report["rows"]:
        assert list(row["scores"]) == tests
        assert all(np.isfinite(s["mean"]) for scores in row["scores"].values() for s in scores.values())
        assert max(row["best"]) <= report["most_updates"] == 2 * 2, "each training set has epochs of two slices"
    for one, n in (("equivariant_minus_ordinary", 4), ("equivariant_minus_one_scale", 4), ("augmented_minus_plain", 6)):
        assert len(report[one]) == n
        assert all(set(difference["groups"]) == set(scans.groups) for difference in report[one])
    assert (tmp_path / "out.png").stat().st_size > 10_000
    assert {row["network"] for row in report["changed"]} == set(study.CHANGED) < set(report["weights"])
    table = importlib.import_module("readme_tables").scale_study(report)
    assert table.count("| measured, larger pixels |") == table.count("| anatomy, larger |") == 6
    assert "| 2 volumes |" in table and "SSIM [95 %]" in table
    values = [[np.array(one) for one in row["scores"]["pixel size 1.4"]["psnr"]["by_seed"]] for row in report["rows"]]
    assert report["equivariant_minus_one_scale"][0]["groups"]["pixel size, larger"]["psnr"]["mean"] == pytest.approx(
        float(values[4][0] - values[8][0])
    )

    lines = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    results = [json.loads(line)["scores"] for line in lines]
    runs = [result for result in results if isinstance(result, dict) and "words" in result]
    assert sum("--data.scales" in one["words"] for one in runs) == 6 and len(runs) == 12 + 3
    for one in runs:
        assert len(one["validation"]) == 2
        assert [one["best"], max(psnr for _, psnr in one["validation"])] in one["validation"]
    (tmp_path / "out.jsonl").write_text("".join(lines[:-1]) + lines[-1][:40])  # killed while writing the last scores
    for room in ("scale_tests", "trainings"):
        monkeypatch.setattr(sys.modules[room], "command", lambda *words: pytest.fail("made again"))
    assert run("--hours", "0.001") == 0, "a study that is resumed keeps its length"
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == report["rows"]

    monkeypatch.setattr(study, "PROTOCOL", study.Protocol(tuning=5))
    assert run() == 2


def test_the_length_spends_the_hours_and_no_more(study, scan, tmp_path, monkeypatch) -> None:
    taken = {name: {"update": 0.1, "slice": 0.2} for name in (*study.NETWORKS, *study.CHANGED)}
    monkeypatch.setattr(study, "seconds", lambda *_: taken)
    protocol = study.Protocol(study.PROTOCOL.scans, most=10_000)
    planned = []
    for hours in (0.2, 0.4):
        lines = sys.modules["study"].Lines(tmp_path / f"{hours}.jsonl")
        length = study.Study(protocol, tmp_path / "runs", scan, lines).length(hours, 3)
        assert length["epochs"] % protocol.every == 0
        planned.append(length["hours_at_most"] / hours)
    assert all(0.7 < part <= 1 - protocol.spare for part in planned), planned
    lines = sys.modules["study"].Lines(tmp_path / "short.jsonl")
    with pytest.raises(InputError, match="too short for 3 seeds; at least"):
        study.Study(protocol, tmp_path / "runs", scan, lines).length(0.001, 3)


def test_tests_have_the_geometry_of_their_names_and_training_sets_are_nested(study, scan, tmp_path) -> None:
    scans = study.PROTOCOL.scans
    data = sys.modules["scale_tests"].Data(scans, tmp_path / "data", scan)
    base = {"n_coils": (3, 3), "shape": (32, 32), "anatomy": "head", "snr": (20.0, 200.0)}
    geometry = {"in distribution": (0.7, 1.0), "anatomy 1.4": (0.98, 1.0), "pixel size 1.4": (0.98, 1.4)}
    bodies, masks = {}, {}
    for name, (scale, coil_scale) in geometry.items():
        slices = list(data.slices(name))
        for i, one in enumerate(slices):
            expected = simulate_volume((0, 2, i), 1, **base, scale=scale, coil_scale=coil_scale)
            assert np.array_equal(one.full[0].numpy(), expected.kspace[0]), name
        bodies[name] = np.mean([body_mask(one.target[0].numpy()).sum() for one in slices])
        masks[name] = [one.mask.numpy().tobytes() for one in slices]
    assert len({tuple(m) for m in masks.values()}) == 1, "masks are those of the unshifted images"
    for name in ("anatomy 1.4", "pixel size 1.4"):
        assert (bodies[name] / bodies["in distribution"]) ** 0.5 == pytest.approx(1.4, rel=0.1), bodies

    assert next(data.slices("measured 0.7")).kspace.shape[-2:] == (34, 34)
    files = {n: [path.resolve().name for path in sorted(data.training(n).iterdir())] for n in (1, 2)}
    assert files == {1: ["sim_train_s0_0000.h5"] * 2, 2: ["sim_train_s0_0000.h5", "sim_train_s0_0001.h5"]}


@pytest.mark.parametrize("n", [33, 34])
def test_a_cropped_scan_keeps_every_sample_and_its_centre(study, scan, tmp_path, n: int) -> None:
    path = sys.modules["study"].cropped(scan, tmp_path / "cropped.h5", (n, n))
    with h5py.File(scan) as whole, h5py.File(path) as part:
        start = 32 - n // 2  # an odd size was off by one sample, a phase of one turn over the image
        assert np.array_equal(part["kspace"][0], whole["kspace"][0][:, start : start + n, start : start + n])


def test_all_networks_keep_the_same_memory_for_the_backward_pass(study) -> None:
    networks = sys.modules["scale_networks"]
    kept = {name: networks.kept_bytes(network, 128) for name, network in networks.NETWORKS.items()}
    assert all(bytes_ / kept[networks.ORDINARY] == pytest.approx(1, abs=0.02) for bytes_ in kept.values()), kept
