"""The benchmark of the convex solver: its judge, its clock, its limits, and what it reports, at small sizes."""

from __future__ import annotations

import importlib
import io
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, PatchRows
from tests.convex.programs import program, random

ROOT = Path(__file__).resolve().parents[2]
GOALS = {"pyscnn_time_vs_ours_small": 1, "pyscnn_time_vs_ours_large": 5, "clarabel_time_vs_ours_large": 5}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def part(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.convex{name}")


def test_everybodys_iterates_are_judged_by_the_programs_own_objective(tmp_path: Path) -> None:
    p = program(n=5000)
    Y = torch.cat([Y for _, Y in p.K.patches])
    problem = part("_problems").Problem(Y.float(), p.b.float(), p.K.gates.float(), p.beta)
    exact = LeastSquares(GatedOperator(PatchRows(problem.Y.double()), problem.u.double()), problem.b.double(), p.beta)
    v = random(12, 4, seed=9)
    proof, _ = exact.certify(v, torch.arange(12))
    assert problem.objective(v) == pytest.approx(proof.primal, rel=1e-12)
    problem.save(tmp_path / "problem.npz")
    assert part("_problems").Problem.load(tmp_path / "problem.npz").objective(v) == problem.objective(v)


def test_problems_are_drawn_alike_with_gates_that_differ() -> None:
    problems = part("_problems")
    size = problems.Size(400, 3, 20, 0.1)
    first, again = problems.draw(size), problems.draw(size)
    for name in ("Y", "b", "u"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.Y.shape == (400, 9) and first.beta == again.beta > 0
    patterns = first.Y @ first.u.T >= 0
    assert len(patterns.unique(dim=1).T) == 20 and bool(patterns.any(0).all())
    # b takes away the centre's noise: of the size that was added, and correlated with what the patch shows.
    assert float(first.b.std()) == pytest.approx(problems.NOISE, rel=0.1)
    assert float((first.b * first.Y[:, 4]).mean()) == pytest.approx(-(problems.NOISE**2), rel=0.5)


def test_the_clock_stands_still_while_an_iterate_is_judged() -> None:
    clock, out = clock_of(target=1.0, limit=60.0)

    def slow() -> float:
        time.sleep(0.3)
        return 2.0

    clock.look(slow, last=True)
    assert clock.now < 0.1
    time.sleep(0.05)
    clock.look(slow, last=True, go_on=True)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["iterations"] for line in lines] == [1, 2] and 0.05 < lines[1]["s"] < 0.25
    with pytest.raises(part("_clock").Over):
        clock.look(lambda: 1.0, last=True)


def test_the_clock_judges_only_what_is_a_part_later() -> None:
    clock, out = clock_of(target=0.0, limit=60.0, step=1e9)
    for _ in range(5):
        clock.look(lambda: 1.0)
    assert len(out.getvalue().splitlines()) == 1 and clock.iterations == 5


def test_time_that_is_up_ends_a_solver() -> None:
    clock, _ = clock_of(target=0.0, limit=-1.0)
    with pytest.raises(part("_clock").Over):
        clock.look(lambda: 1.0, go_on=True)


def clock_of(**settings: float) -> tuple:
    out = io.StringIO()
    return part("_clock").Clock(out=out, **settings), out


def test_pyscnns_filters_are_put_in_the_order_of_the_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", ".metrics", ".models", ".optimize", ".private", ".private.methods", ".regularizers", ".solvers"):
        monkeypatch.setitem(sys.modules, f"scnn{name}", Anything(f"scnn{name}"))
    monkeypatch.setitem(sys.modules, "lab", Anything("lab"))
    in_order = part("_pyscnn").in_order
    u, v = random(6, 4).float(), random(6, 4, seed=1)
    kept = [4, 0, 5, 2]  # sorted, and two of them dropped
    found: Tensor = in_order(v[kept].numpy()[None], u[kept].double().numpy().T, u)
    torch.testing.assert_close(found[kept], v[kept])
    assert not bool(found[[1, 3]].any())
    with pytest.raises(KeyError):
        in_order(v[:1].numpy()[None], np.ones((4, 1)), u)


class Anything(ModuleType):
    """A module that has whatever is imported from it."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def test_a_process_that_takes_too_much_is_ended_and_says_of_what(tmp_path: Path) -> None:
    process, problem = part("_process"), tmp_path / "problem.npz"
    part("_child").small().save(problem)
    side = process.Side("sleeper", "convex_child", "main", {"": {}})
    waits = replace(side, module="convex_sides", function="adam", variants={"": {"rate": 1e-3}})
    limits = process.Limits(seconds=0.5, threads=1)
    late = process.run(waits, "", problem, 0.0, limits)
    assert late.seconds is None and late.reason == "time" and late.best < float("inf") and late.told["iterations"] > 1
    forced = process.run(replace(waits, patience=0.0), "", problem, 0.0, limits)
    assert forced.reason == "time" and "peak_GB" not in forced.told
    large = process.run(waits, "", problem, 0.0, replace(limits, memory=1e6))
    assert large.seconds is None and large.reason == "memory"
    wrong = process.run(replace(waits, function="no_such_side"), "", problem, 0.0, limits)
    assert "no_such_side" in wrong.reason


def test_solvers_are_measured_and_absent_peers_are_named(tmp_path, monkeypatch, capsys) -> None:
    benchmark, convex = importlib.import_module("benchmark"), part("")
    size = part("_problems").Size(300, 3, 12, 0.1)
    of = {side.name: side for side in part("_plan").SIDES}
    sides = (
        replace(of["mrirecon"], variants={"double precision": {"precision": "float64"}}),
        replace(of["pyscnn"], python=tmp_path / "none"),
        replace(of["Clarabel"], variants={"Gram": {"form": "Gram", "tolerance": 1e-8}, "natural": {"tolerance": 1e-8}}),
        replace(of["Adam"], variants={"rate 0.01": {"rate": 0.01}}, seconds=0.5, most=300),
        replace(of["Adam, ReLU network"], variants={"rate 0.01": {"rate": 0.01}}, seconds=0.5, most=300),
    )
    plan = part("_plan").Plan(
        small=(size,),
        ladder=(replace(size, patches=500),),
        beyond=(),
        passes=tuple(replace(size, patches=n, gates=g) for n, g in ((200, 8), (400, 8), (400, 16))),
        groups=4,
        repeats=1,
        limits=part("_process").Limits(seconds=60.0, threads=1),
        sides=sides,
    )
    measured, log = convex.measure, tmp_path / "log.jsonl"
    monkeypatch.setattr(convex, "measure", lambda: measured(plan, log))
    monkeypatch.setattr(part("_growth"), "alternate", lambda sides, *_, **__: dict.fromkeys(sides, 1.0))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "convex", "--json", str(tmp_path / "figures.json")])
    threads = torch.get_num_threads()
    benchmark.main()
    torch.set_num_threads(threads)
    assert "missing: pyscnn (not installed; use --setup-peers)" in capsys.readouterr().out and not log.exists()
    report = json.loads((tmp_path / "figures.json").read_text())
    assert {name: goal["bound"] for name, goal in report["goals"].items()} == {
        name: bound for name, bound in GOALS.items() if "clarabel" in name
    }
    tables: dict[str, list[dict]] = {}
    for row in report["rows"]:
        tables.setdefault(row["table"], []).append(row)
    for row in tables["problems"]:
        assert row["gap"] <= 1e-8 and abs(row["Clarabel"]) < 1e-7, "ours and Clarabel's minimum agree"
    found = {(row["patches"], row["side"]): row for row in tables["solvers"]}
    assert len(found) == 6, "two sizes of ours and Clarabel's, one of both of Adam's"
    for patches in (300, 500):
        assert 0 < found[patches, "mrirecon"]["seconds"] <= found[patches, "mrirecon"]["certified_s"]
        assert found[patches, "mrirecon"]["certified_gap"] <= 1e-4 and found[patches, "Clarabel"]["seconds"] > 0
    assert found[300, "Adam, ReLU network"]["seconds"] == "", "another program's objective is not near or far"
    assert all(row[key] == 0 for row in tables["exponents"] for key in ("K_s", "K^T_s", "gram_s"))
    tables_of = importlib.import_module("readme_tables")
    assert tables_of.convex(report).count("\n| 300 of 3x3 |") == 1 and "after 1 s" in tables_of.convex(report)
    assert "| exponent of gates |" in tables_of.convex_growth(report)


def test_exponents_are_slopes_along_an_axis() -> None:
    sizes = (100, 20), (200, 20), (400, 20), (200, 10), (200, 40)
    rows = [{"patches": n, "gates": g, "K_s": 3e-9 * n * g**0.5} for n, g in sizes]
    growth = part("_growth")
    assert growth.exponent(rows, "patches", "K_s") == pytest.approx(1)
    assert growth.exponent(rows, "gates", "K_s") == pytest.approx(0.5)


def test_a_reference_that_is_none_ends_the_benchmark() -> None:
    process, size = part("_process"), part("_problems").Size(300, 3, 12, 0.1)
    with pytest.raises(RuntimeError, match=r"the reference of 300 .* has a gap of 2\.0e-06, not 1e-08; time"):
        part("").check_reference(size, process.Outcome(None, "time", 1.0, {"gap": 2e-6}))
    with pytest.raises(RuntimeError, match="a gap of inf"):
        part("").check_reference(size, process.Outcome(None, "memory", float("inf"), {}))


def test_what_was_finished_before_an_interruption_is_not_done_again(tmp_path, monkeypatch) -> None:
    runs, process = part("_runs"), part("_process")
    size, limits = part("_problems").Size(300, 3, 12, 0.1), process.Limits()
    side = process.Side("ours", "convex_sides", "ours", {"fast": {}, "slow": {}, "slower": {}})
    called: list[str] = []

    def run(side, variant, problem, target, limits) -> object:
        called.append(variant)
        return process.Outcome({"fast": 1.0, "slow": 1.9, "slower": 2.1}[variant], "", 1.0, {"s": 1.0})

    monkeypatch.setattr(runs, "run", run)
    for _ in range(2):
        one = runs.Runs(tmp_path / "problem.npz", tmp_path / "log.jsonl", limits, repeats=3)
        assert list(one.fastest(size, side, 1.0)) == ["fast", "slow", "slower"]
        assert called == ["fast", "slow", "slower", "fast", "fast"]
        assert one.left["ours", 0.1] == ["fast", "slow"], "what takes more than twice as long is not tried again"


def test_goals_are_the_worst_of_the_small_and_the_largest_that_a_peer_has_finished() -> None:
    convex, plan = part(""), part("_plan").Plan()

    def rows(seconds: dict[object, tuple[object, object, object]]) -> list[dict]:
        return [
            {"patches": at.patches, "kernel": at.kernel, "gates": at.gates, "fraction": at.fraction, "side": side}
            | {"seconds": "" if taken is None else taken}
            for at, of in seconds.items()
            for side, taken in zip(("mrirecon", "pyscnn", "Clarabel"), of, strict=True)
        ]

    small, ladder = plan.small, plan.ladder
    found = {
        small[0]: (1.0, 3.0, 8.0),
        small[1]: (2.0, 4.0, 8.0),
        ladder[0]: (1.0, 9.0, 20.0),
        ladder[1]: (2.0, 14.0, None),
    }
    goals = {name: goal.value for name, goal in convex.goals(rows(found), plan).items()}
    assert goals == {
        "pyscnn_time_vs_ours_small": 2.0,
        "pyscnn_time_vs_ours_large": 7.0,
        "clarabel_time_vs_ours_large": 20.0,
    }
    found[ladder[1]] = (None, 14.0, None)
    found[small[1]] = (None, 4.0, 8.0)
    goals = {name: goal.value for name, goal in convex.goals(rows(found), plan).items()}
    assert goals["pyscnn_time_vs_ours_small"] == goals["pyscnn_time_vs_ours_large"] == 0
    assert convex.WITHIN == 1e-4
