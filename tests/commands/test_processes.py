"""Greedy training on several processes, started as a user starts it; and the traps on the way there.

Beside one, two and four processes there is one launch for each way to start and to stop that only a launch can show:
replicas, SLURM, torchrun, a stop where a validation is due. The laws of the pipeline are in tests/training.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from mrirecon.cli import main
from tests.commands.conftest import QUIET, SAMPLING, fit_words
from tests.commands.test_fit import last, same
from tests.commands.test_regimes import scalars
from tests.conftest import free_port

# With all that might differ between processes: dropout, groups of batches, averaged weights, clipping, a schedule.
MORE = ["--model.net.init_args.denoiser", "tests.commands.denoisers.Dropping", "--model.accumulate", "4"]
MORE += ["--model.ema", "0.9", "--model.clip", "0.01"]
PIPELINE = ["-c", "train/greedy_pipeline", "--model.net.init_args.n_steps", "4", "--trainer.max_epochs", "3", *MORE]
ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """Bits are claimed for equal numbers of threads."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


def fit(words: list[str], *before: str, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, *(before or ("-m", "mrirecon")), *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(**more))


def end(process: subprocess.Popen[str], code: int = 0) -> str:
    _, errors = process.communicate(timeout=150)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return errors


def assert_same_training(a: Path, b: Path) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "FastMRIData"):
        same(last(a)[key], last(b)[key])


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, without any strategy."""
    run = tmp_path_factory.mktemp("alone") / "run"
    end(fit(fit_words(data, run, *PIPELINE, "--trainer.strategy", "auto", "--trainer.devices", "1")))
    return run


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    card = folder / "spy.yaml"
    spy = {"class_path": "tests.commands.spies.Spy", "init_args": {"folder": str(folder)}}
    card.write_text(yaml.safe_dump({"trainer": {"callbacks": [spy]}}))
    words = fit_words(data, folder / "run", *PIPELINE, "-c", str(card), "--trainer.devices", "2")
    end(fit([*words, "--trainer.check_val_every_n_epoch", "3"]))
    return folder


def test_two_processes_train_what_one_trains(alone: Path, two: Path) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        same(last(alone)[key], last(two / "run")[key])


def test_processes_meet_only_to_begin_and_to_validate_and_save_at_the_end(two: Path) -> None:
    """A broadcast before every batch, or sums that are waited for, would empty the pipeline."""
    found = [json.loads((two / f"{rank}.json").read_text()) for rank in range(2)]
    for process in found:
        places = {(epoch, batch) for epoch, batch, _ in process["met"]}
        assert places == {(0, 0), (2, 5)}, "the first batch of three epochs, and the last one of six in the last"
        assert [name for *place, name in process["met"] if place == [0, 0]] == ["broadcast_object_list"]
        first, second = process["shared_out"]
        assert [*first, *second] == [0, 1, 2, 3]
    assert found[0]["read"] == found[1]["read"] and len(found[0]["read"]) == 18, "every stage sees the same batches"


PARALLEL = ["--trainer.strategy.class_path", "mrirecon.training.strategy.StageParallel", "--trainer.devices", "2"]


def test_replicas_train_any_regime_and_share_the_batches(data: Path, tmp_path: Path) -> None:
    card = tmp_path / "spy.yaml"
    spy = {"class_path": "tests.commands.spies.Spy", "init_args": {"folder": str(tmp_path)}}
    card.write_text(yaml.safe_dump({"trainer": {"callbacks": [spy]}}))
    words = fit_words(data, tmp_path / "run", "-c", "train/end_to_end", "-c", str(card), "--trainer.max_epochs", "1")
    end(fit([*words, *PARALLEL, "--trainer.strategy.init_args.replicas", "2"]))
    read = [json.loads((tmp_path / f"{rank}.json").read_text())["read"] for rank in range(2)]
    assert [len(r) for r in read] == [3, 3] and sorted(n for r in read for _, n in r) == list(range(6))
    assert last(tmp_path / "run")["state_dict"]["net.steps.1.denoiser.last.weight"].any()


def test_two_processes_score_as_one(alone: Path, two: Path) -> None:
    shown = []
    for more in ([], PARALLEL):
        process = fit(["validate", "--run", str(alone), *QUIET, *more])
        out, _ = process.communicate(timeout=100)
        shown.append([line for line in out.split("\n") if "val_" in line])
    assert shown[0] == shown[1] and len(shown[0]) == 14


def test_lightning_still_has_what_is_switched_off() -> None:
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor) and callable(_SignalConnector._sigterm_notifier_fn)


def test_a_killed_process_ends_the_job_and_the_run_goes_on_to_the_same_end(data, alone, tmp_path) -> None:
    run = tmp_path / "run"
    card = tmp_path / "often.yaml"  # saved after every update, too
    often = {"class_path": "mrirecon.training.latest.Latest"}
    often["init_args"] = {"folder": str(run / "checkpoints"), "minutes": 0}
    card.write_text(yaml.safe_dump({"trainer": {"callbacks": [often]}}))
    words = fit_words(data, run, *PIPELINE, "-c", str(card), "--trainer.devices", "3")
    process = fit(words)
    while not (run / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
        time.sleep(0.01)
    assert last(run)["FastMRIData"]["batches"] == 4, "the first update is that of four batches"
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(sorted(map(int, children))[1], signal.SIGKILL)
    start = time.monotonic()
    errors = end(process, 1)
    assert time.monotonic() - start < 30 and "the process of rank 2 was killed by signal 9" in errors
    assert "rank 0 (stage" in errors and "epoch" in errors
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert last(run)["epoch"] < 2
    end(fit([*words, "--resume", "--trainer.devices", "2"]))
    assert_same_training(alone, run)
    for k in range(4):  # of all batches of the epoch inside which it went on
        logged = [scalars(r)[f"stage_loss/{k}"][-2:] for r in (alone, run)]
        assert logged[0] == pytest.approx(logged[1])


def test_a_run_of_two_processes_goes_on_in_one_and_end_to_end(data, alone, two, tmp_path) -> None:
    ends = []
    for name, run in (("alone", alone), ("two", two / "run")):
        words = [
            "fit",
            "-c",
            "models/pgd_resnet",
            "-c",
            "train/end_to_end",
            *SAMPLING,
            *QUIET,
            "--data.path",
            str(data),
        ]
        size = ["--model.net.init_args.n_steps", "4", "--model.net.init_args.denoiser.init_args.channels", "4"]
        start = ["--model.init_from", str(run / "checkpoints" / "last.ckpt"), "--trainer.max_epochs", "1"]
        assert main([*words, *size, *start, "--run", str(tmp_path / name)]) == 0
        ends.append(last(tmp_path / name)["state_dict"])
    same(*ends)
    assert (
        main(["fit", "--run", str(two / "run"), "--resume", "--trainer.devices", "1", "--trainer.max_epochs", "4"]) == 0
    )
    assert last(two / "run")["epoch"] == 3
    assert "MASTER_PORT" not in os.environ, "where the next training of this process would look for the first one's"


def test_under_slurm_a_preempted_job_saves_queues_itself_again_and_goes_on(data, alone, tmp_path) -> None:
    run = tmp_path / "run"
    called = tmp_path / "called"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    (tmp_path / "scontrol").chmod(0o755)
    job = {
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NAME": "greedy",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(free_port()),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    words = fit_words(data, run, *PIPELINE, "--trainer.devices", "2", "--resume", "auto")

    def start() -> list[subprocess.Popen[str]]:
        return [fit(words, **job, SLURM_PROCID=str(r), SLURM_LOCALID=str(r)) for r in range(2)]

    tasks = start()
    while not (run / "checkpoints" / "last.ckpt").exists() and tasks[0].poll() is None:
        time.sleep(0.02)
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
    for task in tasks:
        end(task, 143)
    assert called.read_text() == "requeue 42\n"
    assert last(run)["epoch"] < 2
    for task in start():
        end(task)
    assert_same_training(alone, run)


def test_stopped_where_a_validation_is_due_it_misses_none(data: Path, tmp_path: Path) -> None:
    """By the one of two processes that has a volume to validate, which the other must wait for."""
    card = tmp_path / "stopping.yaml"
    stopping = {"class_path": "tests.commands.stopping.Stopping", "init_args": {"batch": 3}}
    card.write_text(yaml.safe_dump({"trainer": {"callbacks": [stopping]}}))
    often = ["--trainer.max_epochs", "1", "--trainer.val_check_interval", "2", "--data.val_volume_sample_rate", "0.5"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(fit_words(data, whole, *often)) == 0
    words = fit_words(data, stopped, *often, "-c", "train/greedy_pipeline", "-c", str(card), "--trainer.devices", "2")
    assert "stopped by a signal; add --resume" in end(fit(words), 143)
    assert last(stopped)["FastMRIData"]["batches"] == 4
    assert main(["fit", "--resume", "--run", str(stopped), "--trainer.devices", "1"]) == 0
    assert_same_training(whole, stopped)
    seen = [scalars(run)["val_psnr"] for run in (whole, stopped)]
    assert seen[0] == seen[1] and len(seen[0]) == 3


def test_torchrun_starts_it_too(data, alone, tmp_path) -> None:
    words = fit_words(data, tmp_path / "run", *PIPELINE, "--trainer.devices", "2")
    # Without the two dashes torchrun takes --run for an option of its own.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "mrirecon"]
    end(fit(words, *launcher))
    assert_same_training(alone, tmp_path / "run")


STRATEGY = "--trainer.strategy.init_args"
STOPPING = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor", "loss"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trainer.devices", "5"], "a pipeline of 5 processes for 4 stages, but each process needs a stage"),
        (
            ["--trainer.devices", "8"],
            f"use at most 4 devices in all (--trainer.devices on each node), {STRATEGY}.replicas 2",
        ),
        (["--trainer.devices", "4", f"{STRATEGY}.replicas", "3"], "replicas is 3; expected a divisor"),
        (["--trainer.devices", "2", f"{STRATEGY}.blocks", "[3,2]"], "blocks [3, 2] do not share 4 stages out"),
        (["--trainer.devices", "2", "--model.net.init_args.share_weights", "true"], "stages 0 and 1 share weights"),
        (["--trainer.devices", "2", "--model.stagewise.epochs", "1"], "stage-wise training has one stage at work"),
        (["--trainer.devices", "2", "--trainer.max_time", "00:01:00:00"], "asks all processes for the time"),
        (["--trainer.devices", "2", "--trainer.use_distributed_sampler", "true"], "use_distributed_sampler: false"),
        (["--trainer.devices", "2", "--trainer.val_check_interval", "00:00:10:00"], "which passes differently"),
        (["--trainer.devices", "2", "--trainer.limit_val_batches", "1"], "use --data.val_volume_sample_rate"),
        (["--trainer.devices", "2", f"{STRATEGY}.timeout", "0"], "timeout is 0"),
        (["--trainer.devices", "2", *STOPPING], "EarlyStopping monitors 'loss'"),
        (["--trainer.devices", "2", "--trainer.sync_batchnorm", "true"], "sync_batchnorm"),
        (["--trainer.devices", "2", "--trainer.strategy", "auto"], "which does not know stages; add -c train/greedy_p"),
    ],
)
def test_what_cannot_be_a_pipeline_is_refused_at_once(mrirecon, data, tmp_path, words, message) -> None:
    done = mrirecon(*fit_words(data, tmp_path / "run", *PIPELINE, *words))
    assert done.code == 2 and message in done.err
    assert not (tmp_path / "run").exists()
