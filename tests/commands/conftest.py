"""A small simulated data set, a network trained on it for two epochs, and the command line as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mrirecon.cli import main

SMALL = ["--slices", "2", "--coils", "3", "--shape", "[32,24]"]
NET = ["--model.net.init_args.n_steps", "2", "--model.net.init_args.denoiser.init_args.channels", "4"]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
MASK = ["--mask_type", "equispaced_fraction", "--accelerations", "2", "--center_fractions", "0.3"]
SAMPLING = ["--data.sampling.accelerations", "[2]", "--data.sampling.center_fractions", "[0.3]"]


def fit_words(data: Path, run: Path, *more: str) -> list[str]:
    cards = ["-c", "datasets/brain_multicoil", "-c", "models/pgd_resnet", "-c", "train/greedy"]
    files = ["--data.path", str(data), "--data.num_workers", "0", *SAMPLING]
    return ["fit", *cards, *files, *NET, *QUIET, "--run", str(run), *more]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split, volumes in (("train", 3), ("val", 2), ("test", 2)):
        words = ["simulate", str(folder / f"multicoil_{split}"), "--volumes", str(volumes), "--split", split, *SMALL]
        assert main(words) == 0
    return folder


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main(fit_words(data, run, "--trainer.max_epochs", "2")) == 0
    return run


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def mrirecon(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command; usage errors, which argparse raises, count as the exit code they carry."""

    def run(*words: object) -> Outcome:
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Outcome(code, out, " ".join(err.split()))

    return run
