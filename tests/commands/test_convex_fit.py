"""`mrirecon convex-fit`, as a user meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mrirecon import checkpoint
from mrirecon.training import convex
from tests.commands.conftest import MASK, QUIET, SAMPLING, Outcome

Run = Callable[..., Outcome]


def words(data: Path, run: Path, model: str = "pgd_convex", *more: str) -> list[str]:
    cards = ["-c", "datasets/brain_multicoil", "-c", f"models/{model}", "-c", "train/convex"]
    denoiser = "--model.net.init_args.denoiser.init_args"
    small = [f"{denoiser}.n_gates", "20", f"{denoiser}.kernel_size", "3"]
    steps = [] if model == "convex_one_shot" else ["--model.net.init_args.n_steps", "2"]
    files = ["--data.path", str(data), "--data.num_workers", "0", *SAMPLING]
    return ["convex-fit", *cards, *files, *small, *steps, "--run", str(run), *more]


@pytest.mark.parametrize("model", ["convex_one_shot", "pgd_convex", "modl_convex"])
def test_a_network_is_solved_stage_by_stage_and_used_as_any_other(
    model: str, data: Path, tmp_path: Path, mrirecon: Run
) -> None:
    run = tmp_path / "run"
    done = mrirecon(*words(data, run, model))
    assert done.code == 0, done.err
    stages = json.loads((run / "certificates.json").read_text())
    assert len(stages) == (1 if model == "convex_one_shot" else 2)
    for stage in stages:
        assert stage["gap"] <= 1e-3 and stage["dual"] <= stage["primal"]
    assert stages[-1]["psnr"] > stages[0]["psnr_in"] - (0.1 if model == "convex_one_shot" else 0.0)
    assert (run / "stages.png").is_file()
    out = tmp_path / "out"
    assert mrirecon("reconstruct", data / "multicoil_val", out, "--model", run, *MASK).code == 0
    assert len(list(out.glob("*.h5"))) == 2
    scored = mrirecon("validate", "--run", run, *QUIET)
    assert scored.code == 0, scored.err
    assert f"{stages[-1]['psnr']:.2f}"[:4] in scored.out  # the same network, the same scores


@pytest.mark.parametrize("loss", ["L2", "PartsL1"])
def test_a_stopped_run_goes_on_where_it_was(
    loss: str, data: Path, tmp_path: Path, mrirecon: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    more = "pgd_convex", "--model.loss", f"mrirecon.losses.{loss}"
    assert mrirecon(*words(data, whole, *more)).code == 0
    stage_program, calls = convex.stage_program, 0

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return stage_program(*args, **kwargs)

    monkeypatch.setattr(convex, "stage_program", interrupted)
    assert mrirecon(*words(data, stopped, *more)).code == 130
    refused = mrirecon(*words(data, stopped, *more))
    assert refused.code == 2 and "--resume" in refused.err
    shutil.copytree(stopped, tmp_path / "copy")
    assert mrirecon("convex-fit", "--run", tmp_path / "copy", "--resume").code == 0
    a, b = (checkpoint.load(run).net.state_dict() for run in (whole, tmp_path / "copy"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_of_candidates_the_best_on_validation_files_is_kept(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    run = tmp_path / "run"
    assert mrirecon(*words(data, run, "pgd_convex", "--convex.candidates", "[0.1,1.0]")).code == 0
    stages = json.loads((run / "certificates.json").read_text())
    net = checkpoint.load(run).net
    for stage, step in zip(stages, net.steps, strict=True):
        assert stage["value"] in (0.1, 1.0)
        assert float(step.step_size.detach()) == pytest.approx(stage["value"])


@pytest.mark.parametrize("model", ["convex_one_shot", "modl_convex"])
def test_the_absolute_loss_of_the_parts_is_solved_too(model: str, data: Path, tmp_path: Path, mrirecon: Run) -> None:
    run = tmp_path / "run"
    more = ["--model.loss", "mrirecon.losses.PartsL1", "--model.net.init_args.denoiser.init_args.strength", "0.01"]
    if model == "modl_convex":
        more += ["--model.net.init_args.n_steps", "1", "--convex.tolerance", "1e-2"]
    done = mrirecon(*words(data, run, model, *more))
    assert done.code == 0, done.err
    stages = json.loads((run / "certificates.json").read_text())
    for stage in stages:
        assert stage["gap"] <= (1e-2 if model == "modl_convex" else 1e-3)
        assert 0 < stage["dual"] <= stage["primal"] and stage["active"] > 0 and stage["loss"] > 0
    assert stages[-1]["psnr"] > stages[0]["psnr_in"] - (0.1 if model == "convex_one_shot" else 0.0)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--model.loss", "mrirecon.losses.L1"], "mrirecon.losses.PartsL1"),
        (["--model.loss", "mrirecon.losses.SSIM", "--model.target", "rss"], "not convex in the complex image"),
        (["--model.net.init_args.share_weights", "true"], "share_weights"),
        (["--model.steps_per_stage", "2"], "must be 1"),
        (["--convex.tolerance", "0"], "convex.tolerance is 0"),
        (["--convex.candidates", "[-1.0]"], "expected positive numbers"),
    ],
)
def test_what_cannot_be_solved_is_refused_before_anything_is_written(
    more: list[str], says: str, data: Path, tmp_path: Path, mrirecon: Run
) -> None:
    done = mrirecon(*words(data, tmp_path / "run", "pgd_convex", *more))
    assert done.code == 2 and says in done.err
    assert not (tmp_path / "run").exists()


def test_too_many_gates_for_the_data_and_other_denoisers_are_refused(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    done = mrirecon(
        *["convex-fit", "-c", "datasets/brain_multicoil", "-c", "models/pgd_resnet", "-c", "train/convex"],
        *["--data.path", str(data), "--run", str(tmp_path / "run")],
    )
    assert done.code == 2 and "ResNet is no convex program" in done.err


def test_fit_says_which_command_its_card_is_for(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    done = mrirecon("fit", *words(data, tmp_path / "run")[1:])
    assert done.code == 2 and "`mrirecon convex-fit`" in done.err


def test_help_says_what_a_certificate_says(mrirecon: Run) -> None:
    done = mrirecon("convex-fit", "--help")
    assert done.code == 0
    for part in ("given the images that the stage gets", "nothing of other gates", "stages jointly"):
        assert part in " ".join(done.out.split())
