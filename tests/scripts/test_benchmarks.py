"""The benchmarks' report: its form, its goals, and peers that are not there."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

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
    "greedy": {
        "greedy_memory_32_vs_4": ("lower", 1.05),
        "checkpoint_time_vs_greedy": ("higher", 1.25),
        "greedy_time_vs_end_to_end": ("lower", 1.03),
        "pipeline_vs_ceiling": ("higher", 0.95),
    },
    "denoisers": {
        "scale_equivariant_time_vs_arithmetic": ("lower", 1.3),
        "layer_equivariance_error": ("lower", 0.01),
        "denoiser_error_vs_cnn": ("lower", 0.33),
    },
    "convex": {
        "pyscnn_time_vs_ours_small": ("higher", 1.0),
        "pyscnn_time_vs_ours_large": ("higher", 5.0),
        "clarabel_time_vs_ours_large": ("higher", 5.0),
    },
}


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.mark.parametrize("name", ("operators", "loader", "greedy", "denoisers", "convex"))
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


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("scripts")
def test_denoisers_are_measured_at_equal_memory(tmp_path, monkeypatch, capsys) -> None:
    benchmark = importlib.import_module("benchmark")
    denoisers = importlib.import_module("benchmarks.denoisers")
    equivariance = importlib.import_module("benchmarks.denoisers_equivariance")
    measured, compared = denoisers.measure, denoisers.denoisers
    monkeypatch.setattr(denoisers, "measure", lambda: measured(size=128, seeds=1, trainings=1, updates=2))
    monkeypatch.setattr(denoisers, "denoisers", lambda: dict(list(compared().items())[:6]))
    for name, value in {"IMAGES": 5, "SIZE": 80, "SCALES": (0.8, 1.25)}.items():
        monkeypatch.setattr(equivariance, name, value)
    monkeypatch.setattr(denoisers, "SCALES", equivariance.SCALES)
    alternate = denoisers.alternate
    monkeypatch.setattr(denoisers, "alternate", lambda sides: alternate(sides, repeats=2, warm_up=0))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "denoisers", "--json", str(tmp_path / "figures.json")])
    benchmark.main()
    report = json.loads((tmp_path / "figures.json").read_text())
    assert {key: (goal["better"], goal["bound"]) for key, goal in report["goals"].items()} == GOALS["denoisers"]
    cost = {row["denoiser"]: row for row in report["rows"] if row["table"] == "cost"}
    ours = cost["scale-equivariant"]
    for name in ("scale-equivariant", "one scale"):
        assert cost[name]["kept_MB"] == pytest.approx(cost["ResNet"]["kept_MB"], rel=0.04), name
    assert cost["ResNet of as many weights"]["weights"] == pytest.approx(ours["weights"], rel=0.05)
    # At four scales 9 taps from 64 features to 32, blurs of 5, 9, 17 along two axes, a 1x1 convolution; two blocks.
    blocks, plain = 2 * (4 * 9 * 64 * 32 + 2 * (5 + 9 + 17) * 32 + 32 * 64), 4 * 9 * 64 * 64
    ends = 2 * 2 * 64, 2 * 9 * 2 * 64
    assert ours["arithmetic"] == pytest.approx((blocks + ends[0]) / (plain + ends[1]), rel=0.01)
    dense = 2 * (4 * 33**2 * 64 * 32 + 32 * 64)
    assert ours["uncropped"] == pytest.approx((dense + ends[0]) / (plain + ends[1]), rel=0.01)
    assert ours["layer error"] < 0.01 and ours["uncropped"] > ours["arithmetic"]
    assert "of resampling" in capsys.readouterr().out


@pytest.mark.usefixtures("scripts", "one_thread")
def test_greedy_training_is_measured_beside_the_others(tmp_path, monkeypatch, capsys) -> None:
    benchmark = importlib.import_module("benchmark")
    greedy = importlib.import_module("benchmarks.greedy")
    small = greedy.Case(n_steps=2, channels=4, size=16, device="cpu")
    blocks = greedy.Blocks(small, n_batches=2, n_rounds=2)
    measured = greedy.measure
    monkeypatch.setattr(greedy, "measure", lambda: measured(greedy.Plan(small, (2, 4), small, small, blocks, 2)))
    monkeypatch.setattr(importlib.import_module("benchmarks.greedy_rows"), "growth", lambda case, regime: 1)
    monkeypatch.setattr(importlib.import_module("benchmarks.peers"), "PYTHON", Path(sys.executable))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "greedy", "--json", str(tmp_path / "figures.json")])
    benchmark.main()
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "figures.json").read_text())
    assert {key: (goal["better"], goal["bound"]) for key, goal in report["goals"].items()} == GOALS["greedy"]
    assert "inverted, PGD t=1, Contractive (step_size is 1" in shown
    tables: dict[str, list[dict]] = {}
    for row in report["rows"]:
        tables.setdefault(row["table"], []).append(row)
    assert all(shown.count(f"\n{name} ") >= len(rows) for name, rows in tables.items())
    saved = {(row["regime"], row["unrolls"]): row["saved_MB"] for row in tables["depth"]}
    assert saved["greedy", 4] == saved["greedy", 2] <= saved["checkpointed", 4] < saved["end-to-end", 4]
    assert saved["end-to-end", 4] == pytest.approx(2 * saved["end-to-end", 2], rel=0.05)
    nodes = {(row["regime"], row["step_size"]): (row["fft_nodes"], row["input_gradients"]) for row in tables["graph"]}
    # Two transforms in every step but the first; six convolutions in each of two steps.
    assert nodes["end-to-end", "learned"] == (2, 12) and nodes["greedy", "learned"] == (0, 12)
    assert nodes["greedy", "fixed"] == (0, 10), "only the step size needs the first convolution's input gradient"
    errors = {row["regime"]: row["gradient_error"] for row in tables["invertible"]}
    assert errors["end-to-end"] == errors["checkpointed"] == 0 < errors["inverted"] < 1e-3
    assert "| unrolls | end-to-end |" in importlib.import_module("readme_tables").greedy(report)


@pytest.mark.usefixtures("scripts")
def test_a_fresh_process_grows_by_what_autograd_keeps() -> None:
    training, memory = (importlib.import_module(f"benchmarks.greedy_{name}") for name in ("training", "memory"))
    case = training.Case(n_steps=8, channels=64, size=64, device="cpu")
    kept = memory.saved_bytes(training.Training.of(case, "end-to-end"))
    assert kept < memory.growth(case, "end-to-end") < 3 * kept


@pytest.mark.usefixtures("scripts")
def test_bytes_are_counted_as_torch_documents_what_an_operation_saves() -> None:
    """Of exp its result, of a product by itself the factor; a storage once, and no longer than it lives."""
    memory = importlib.import_module("benchmarks.greedy_memory")
    weight = torch.ones(10, requires_grad=True)
    saved = memory._Saved([weight])
    with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda x: x):
        for _ in range(3):
            x = weight.exp()
            (x * x).sum().backward()
            del x
    assert saved.peak == 40
