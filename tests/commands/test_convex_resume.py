"""`mrirecon convex-fit` that was stopped, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mrirecon import checkpoint
from mrirecon.errors import InputError
from mrirecon.training import stage_by_stage
from tests.commands.conftest import SMALL, Outcome
from tests.commands.convex_words import certificates, words
from tests.commands.test_killed import start, stop

Run = Callable[..., Outcome]


def interrupted_at_the_second(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Ctrl-C where the second program is made, once; a list that gets an entry for every one that is asked for."""
    stage_program, made = stage_by_stage.stage_program, list[object]()

    def interrupted(*args: object, **kwargs: object) -> object:
        made.append(args[0])
        if len(made) == 2:
            raise KeyboardInterrupt
        return stage_program(*args, **kwargs)

    monkeypatch.setattr(stage_by_stage, "stage_program", interrupted)
    return made


@pytest.mark.parametrize("loss", ["L2", "PartsL1"])
def test_a_stopped_run_goes_on_where_it_was(
    loss: str, data: Path, tmp_path: Path, mrirecon: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    more = "pgd_convex", "--model.loss", f"mrirecon.losses.{loss}"
    assert mrirecon(*words(data, whole, *more)).code == 0
    interrupted_at_the_second(monkeypatch)
    assert mrirecon(*words(data, stopped, *more)).code == 130
    refused = mrirecon(*words(data, stopped, *more))
    assert refused.code == 2 and "--resume" in refused.err
    before = (stopped / "config.yaml").read_text()
    denoiser = "model.net.init_args.denoiser.init_args"
    for key, value in (("convex.gates", "normal"), (f"{denoiser}.strength", "0.1"), (f"{denoiser}.n_gates", "30")):
        changed = mrirecon("convex-fit", "--run", stopped, "--resume", f"--{key}", value)
        assert changed.code == 2 and key in changed.err and "became" in changed.err
    assert (stopped / "config.yaml").read_text() == before
    other = mrirecon("fit", "--run", stopped, "--resume")
    assert other.code == 2 and "`mrirecon convex-fit --resume`" in other.err
    shutil.copytree(stopped, tmp_path / "copy")
    assert mrirecon("convex-fit", "--run", tmp_path / "copy", "--resume").code == 0
    a, b = (checkpoint.load(run).net.state_dict() for run in (whole, tmp_path / "copy"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_candidates_that_are_done_are_not_solved_again(
    data: Path, tmp_path: Path, mrirecon: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["modl_convex", "--model.net.init_args.n_steps", "1", "--convex.candidates", "[0.05,0.2]"]
    more += ["--convex.tolerance", "1e-2"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert mrirecon(*words(data, whole, *more)).code == 0
    made = interrupted_at_the_second(monkeypatch)
    assert mrirecon(*words(data, run, *more)).code == 130
    changed = mrirecon("convex-fit", "--run", run, "--resume", "--model.net.init_args.iterations", "40")
    assert changed.code == 2 and "iterations: 30 became 40" in changed.err, "two candidates of two networks"
    assert mrirecon("convex-fit", "--run", run, "--resume").code == 0
    assert len(made) == 3, "the first candidate is there"
    assert certificates(run) == certificates(whole)
    (step,) = checkpoint.load(run).net.steps
    assert float(step.log_weight.detach().exp()) == pytest.approx(certificates(run)[0]["value"])


def test_a_line_search_goes_on_as_if_it_had_not_been_stopped(
    data: Path, tmp_path: Path, mrirecon: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, whole, run = ["pgd_convex", "--convex.line_search", "2"], tmp_path / "whole", tmp_path / "run"
    assert mrirecon(*words(data, whole, *more)).code == 0
    made = interrupted_at_the_second(monkeypatch)
    assert mrirecon(*words(data, run, *more)).code == 130
    assert mrirecon("convex-fit", "--run", run, "--resume").code == 0
    assert len(made) == 1 + 2 * 3, "three values for each of two stages, and the one that was interrupted"
    assert certificates(run) == certificates(whole)


def test_a_solution_whose_step_is_refused_is_kept_for_more_iterations(
    data: Path, tmp_path: Path, mrirecon: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, one = tmp_path / "run", ["--model.net.init_args.n_steps", "1"]
    checked, calls = stage_by_stage.StageByStage._checked, 0

    def refused_with_the_solution(*args: object) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise InputError("use --model.net.init_args.iterations 60")
        return checked(*args)

    monkeypatch.setattr(stage_by_stage.StageByStage, "_checked", refused_with_the_solution)
    assert mrirecon(*words(data, run, "modl_convex", *one)).code == 2
    kept = checkpoint.read(run / "checkpoints" / "last.ckpt")["convex"]["filters"]
    assert kept.any()
    done = mrirecon("convex-fit", "--run", run, "--resume", "--model.net.init_args.iterations", "60")
    assert done.code == 0, done.err
    assert checkpoint.load(run).net.steps[0].iterations == 60


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_killed_inside_a_stage_goes_on_to_the_same_certificate(
    how: signal.Signals, data: Path, tmp_path: Path, mrirecon: Run
) -> None:
    run, last = tmp_path / "run", tmp_path / "run" / "checkpoints" / "last.ckpt"
    more = ["--convex.precision", "float64", "--convex.tolerance", "1e-7"]
    process = start(*words(data, run, "pgd_convex", *more))
    said = stop(process, last.is_file, how)
    assert process.returncode == (-9 if how == signal.SIGKILL else 143)
    assert how == signal.SIGKILL or "stopped by a signal; add --resume to go on from" in said
    assert not (run / "certificates.json").exists()
    assert mrirecon("convex-fit", "--run", run, "--resume").code == 0
    whole = tmp_path / "whole"
    assert mrirecon(*words(data, whole, "pgd_convex", *more)).code == 0
    for found, expected in zip(certificates(run), certificates(whole), strict=True):
        assert found["primal"] == pytest.approx(expected["primal"], rel=3e-7) and found["gap"] <= 1e-7


def test_two_at_once_do_not_write_into_one_run(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    run = tmp_path / "run"
    folder = run / "checkpoints"
    folder.mkdir(parents=True)
    with open_locked(folder):
        done = mrirecon(*words(data, run, "convex_one_shot"))
    assert done.code == 2 and "another process writes into" in done.err
    assert list(run.rglob("*")) == [folder]
    assert mrirecon(*words(data, run, "convex_one_shot")).code == 0


@contextmanager
def open_locked(folder: Path) -> Iterator[None]:
    """As another process has it."""
    fcntl = pytest.importorskip("fcntl", reason="locks are for POSIX systems")
    number = os.open(folder, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)
    yield
    os.close(number)


@pytest.fixture
def stopped(data: Path, tmp_path: Path, mrirecon: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose first stage is done."""
    interrupted_at_the_second(monkeypatch)
    assert mrirecon(*words(data, tmp_path / "stopped")).code == 130
    return tmp_path / "stopped"


def test_of_stages_that_are_done_certificates_are_there(stopped: Path, mrirecon: Run) -> None:
    (first,) = certificates(stopped)
    assert mrirecon("convex-fit", "--run", stopped, "--resume").code == 0
    assert certificates(stopped)[0] == first and len(certificates(stopped)) == 2


def test_a_run_goes_on_with_the_files_it_began_with_wherever_they_lie(
    data: Path, stopped: Path, tmp_path: Path, mrirecon: Run
) -> None:
    other = tmp_path / "other"
    shutil.copytree(data, other)
    train = other / "multicoil_train"
    shutil.rmtree(train)
    assert mrirecon("simulate", train, "--volumes", "3", "--split", "train", "--seed", "5", *SMALL).code == 0
    done = mrirecon("convex-fit", "--run", stopped, "--resume", "--data.path", other)
    assert done.code == 2 and "are not those that the run began with" in done.err
    shutil.copytree(data, tmp_path / "moved")
    done = mrirecon("convex-fit", "--run", stopped, "--resume", "--data.path", tmp_path / "moved")
    assert done.code == 0, done.err


@pytest.mark.parametrize("filters", [torch.zeros(3, 9), torch.full((20, 9), torch.nan)])
def test_filters_that_were_damaged_are_refused(filters: torch.Tensor, stopped: Path, mrirecon: Run) -> None:
    last = stopped / "checkpoints" / "last.ckpt"
    state = checkpoint.read(last)
    state["convex"]["filters"] = filters
    torch.save(state, last)
    done = mrirecon("convex-fit", "--run", stopped, "--resume")
    assert done.code == 2 and "the file is damaged" in done.err
