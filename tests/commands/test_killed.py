"""Commands that are stopped in the middle, and two at once: what is there afterwards is whole, and work goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch

from mrirecon.cli import main
from tests.commands.conftest import MASK, SMALL, fit_words

# A shell without job control lets what it starts with & ignore SIGINT, and all that is started from there.
HEEDING = """
import signal, sys
from mrirecon.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HEEDING, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stop(process: subprocess.Popen[str], when: Callable[[], bool], how: signal.Signals) -> str:
    """Send the signal as soon as ``when`` holds; what the process wrote to its standard error."""
    for _ in range(3000):
        if when() or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(how)
    return process.communicate(timeout=120)[1]


def whole_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.h5") if not path.name.startswith("."))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_reconstruction_that_was_killed_goes_on_with_the_files_that_are_left(mrirecon, tmp_path, how) -> None:
    files, out = tmp_path / "files", tmp_path / "out"
    assert main(["simulate", str(files), "--volumes", "12", *SMALL, "--truth", "false"]) == 0
    words = ["reconstruct", files, out, "--method", "l1-wavelet", "--strength", "0.01", *MASK]
    process = start(*words)
    stop(process, lambda: len(whole_files(out)) > 1, how)
    assert process.returncode == (-9 if how == signal.SIGKILL else 143)
    before = {path: path.stat().st_mtime_ns for path in whole_files(out)}
    assert 1 < len(before) < 12
    if how == signal.SIGTERM:
        assert len(before) == len(os.listdir(out)), "no temporary file is left"
    done = mrirecon(*words)
    assert done.code == 0 and f"{len(before)} of 12 files are finished already" in done.out
    assert len(whole_files(out)) == 12
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    for path in whole_files(out):
        with h5py.File(path) as file:
            assert file["reconstruction"].shape == (2, 32, 24) and file["reconstruction"][1].max() > 0


EPOCHS = ["--trainer.max_epochs", "20"]  # long enough for a signal from a busy machine to come in time


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main(fit_words(data, run, *EPOCHS)) == 0
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_that_was_stopped_resumes_to_the_same_weights(data, undisturbed, tmp_path, how, code) -> None:
    run = tmp_path / "run"
    last = run / "checkpoints" / "last.ckpt"
    process = start(*fit_words(data, run, *EPOCHS))
    errors = stop(process, last.exists, how)
    assert process.returncode == code and "Traceback" not in errors, errors
    assert torch.load(last, weights_only=True)["epoch"] < 11
    assert main(["fit", "--run", str(run), "--resume"]) == 0
    weights = torch.load(last, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], undisturbed[name]) for name in undisturbed)


def test_two_at_once_write_the_same_files(data, tmp_path) -> None:
    words = ["reconstruct", data / "multicoil_val", tmp_path / "out", "--method", "cg-sense", "--strength", "0.01"]
    both = [start(*words, *MASK, "--maps_folder", tmp_path / "maps", "--overwrite") for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert len(whole_files(tmp_path / "out")) == 2 == len(os.listdir(tmp_path / "out"))
