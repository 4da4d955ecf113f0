"""`mrirecon convex-fit`, as a user meets it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch
from skimage.io import imread

from mrirecon import checkpoint
from tests.commands.conftest import MASK, QUIET, SMALL, Outcome
from tests.commands.convex_words import certificates, words

Run = Callable[..., Outcome]


@pytest.mark.parametrize("model", ["convex_one_shot", "pgd_convex", "modl_convex"])
def test_a_network_is_solved_stage_by_stage_and_used_as_any_other(
    model: str, data: Path, tmp_path: Path, mrirecon: Run
) -> None:
    run = tmp_path / "run"
    done = mrirecon(*words(data, run, model))
    assert done.code == 0, done.err
    told = json.loads((run / "certificates.json").read_text())
    assert "nothing is said of other gates" in told["says"].lower() and "stages jointly" in told["says"]
    assert told["loss"] == "L2"
    progress = " ".join(done.out.split())
    for number in range(1, len(told["stages"]) + 1):
        assert f"stage {number} of {len(told['stages'])}, given its inputs and gates: objective" in progress
    stages = told["stages"]
    assert len(stages) == (1 if model == "convex_one_shot" else 2)
    for stage in stages:
        assert stage["gap"] <= 1e-3 and stage["dual"] <= stage["primal"]
        assert stage["step"] == pytest.approx(stage["primal"], rel=1e-3 if model == "modl_convex" else 1e-5)
        assert stage["strength"] == 1e-3 and stage["kernel"] == [3, 3] and stage["groups"] == 20
        assert stage["tolerance"] == 1e-3 and stage["sampling"] == "data" and stage["precision"] == "float32"
    if model != "convex_one_shot":
        first, second = (step.denoiser.gates for step in checkpoint.load(run).net.steps)
        assert not torch.equal(first, second), "each stage draws its own"
        assert stages[0]["seed"] != stages[1]["seed"]
    assert stages[-1]["psnr"] > stages[0]["psnr_in"] - (0.1 if model == "convex_one_shot" else 0.0)
    assert bool((imread(run / "stages.png")[:, [0, -1]] == 255).all()), "no text is cut off"
    out = tmp_path / "out"
    assert mrirecon("reconstruct", data / "multicoil_val", out, "--model", run, *MASK).code == 0
    assert len(list(out.glob("*.h5"))) == 2
    scored = mrirecon("validate", "--run", run, *QUIET)
    assert scored.code == 0, scored.err
    found = float(re.search(r"val_psnr\W+([\d.]+)", scored.out).group(1))
    assert found == pytest.approx(stages[-1]["psnr"], abs=1e-3)  # the same network, the same scores


def test_of_candidates_the_best_on_validation_files_is_kept(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    run, one = tmp_path / "run", ["--model.net.init_args.n_steps", "1"]
    assert mrirecon(*words(data, run, "pgd_convex", *one, "--convex.candidates", "[0.1,1.0,0.5]")).code == 0
    losses = {}
    for value in ("0.1", "1.0", "0.5"):
        alone = tmp_path / value
        assert mrirecon(*words(data, alone, "pgd_convex", *one, "--model.net.init_args.step_size", value)).code == 0
        losses[float(value)] = certificates(alone)[0]["loss"]
    stage, (step,) = certificates(run)[0], checkpoint.load(run).net.steps
    assert stage["value"] == min(losses, key=losses.get) != max(losses, key=losses.get)
    assert stage["loss"] == pytest.approx(min(losses.values()), rel=1e-3)
    assert float(step.step_size.detach()) == pytest.approx(stage["value"])


def test_a_line_search_finds_a_better_step_than_it_began_with(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    run, one = tmp_path / "run", ["--model.net.init_args.step_size", "0.1", "--model.net.init_args.n_steps", "1"]
    assert mrirecon(*words(data, run, "pgd_convex", *one, "--convex.line_search", "5")).code == 0
    (stage,), (step,) = certificates(run), checkpoint.load(run).net.steps
    losses = {tried["value"]: tried["loss"] for tried in stage["candidates"]}
    assert list(losses)[:3] == [0.1, 0.2, 0.4] and len(losses) == 6
    assert stage["value"] == min(losses, key=losses.get) == pytest.approx(float(step.step_size.detach()))
    assert losses[stage["value"]] == stage["loss"] < losses[0.1]


@pytest.mark.parametrize("model", ["convex_one_shot", "modl_convex"])
def test_the_absolute_loss_of_the_parts_is_solved_too(model: str, data: Path, tmp_path: Path, mrirecon: Run) -> None:
    run = tmp_path / "run"
    more = ["--model.loss", "mrirecon.losses.PartsL1", "--model.net.init_args.denoiser.init_args.strength", "0.01"]
    if model == "modl_convex":
        more += ["--model.net.init_args.n_steps", "1", "--convex.tolerance", "1e-2"]
    done = mrirecon(*words(data, run, model, *more))
    assert done.code == 0, done.err
    stages = certificates(run)
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
        (["--convex.tolerance", "1e-6"], "--convex.precision float64"),
        (["--convex.candidates", "[-1.0]"], "expected positive numbers"),
        (["--convex.candidates", "[1e30]"], "not finite"),
        (["--convex.line_search", "-1"], "convex.line_search is -1"),
        (["--model.net.init_args.denoiser.init_args.strength", "0"], "strength is 0"),
        (["--model.net.init_args.denoiser.init_args.ndim", "3"], "samples are slices"),
        (["--model.net.init_args.denoiser.init_args.kernel_size", "1"], "different patterns were found"),
        (["--trainer.max_epochs", "5"], "trainer.max_epochs"),
        (["--model.ema", "0.9"], "model.ema"),
        (["--model.optimizer.init_args.lr", "0.1"], "model.optimizer"),
        (["--model.activations", "recomputed"], "model.activations"),
        (["--trainer.devices", "2", "--trainer.accelerator", "cpu"], "--trainer.devices 1"),
    ],
)
def test_what_cannot_be_solved_is_refused_before_anything_is_written(
    more: list[str], says: str, data: Path, tmp_path: Path, mrirecon: Run
) -> None:
    done = mrirecon(*words(data, tmp_path / "run", "pgd_convex", *more))
    assert done.code == 2 and says in done.err
    assert not (tmp_path / "run").exists()


def test_other_denoisers_are_refused(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    done = mrirecon(
        *["convex-fit", "-c", "datasets/brain_multicoil", "-c", "models/pgd_resnet", "-c", "train/convex"],
        *["--data.path", str(data), "--run", str(tmp_path / "run")],
    )
    assert done.code == 2 and "ResNet is no convex program" in done.err


def test_a_modl_step_that_is_not_the_certified_one_is_refused_with_one_that_is(
    data: Path, tmp_path: Path, mrirecon: Run
) -> None:
    short = ["--model.net.init_args.n_steps", "1", "--model.net.init_args.iterations"]
    done = mrirecon(*words(data, tmp_path / "run", "modl_convex", *short, "1"))
    assert done.code == 2 and "with 1 iterations of conjugate gradients" in done.err
    assert not (tmp_path / "run").exists()
    enough = re.search(r"--model.net.init_args.iterations (\d+), or", done.err).group(1)
    assert mrirecon(*words(data, tmp_path / "run", "modl_convex", *short, enough)).code == 0


def test_a_candidate_of_too_few_iterations_leaves_the_others(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    run, short = tmp_path / "run", ["--model.net.init_args.n_steps", "1", "--model.net.init_args.iterations", "5"]
    refused = mrirecon(*words(data, run, "modl_convex", *short, "--convex.candidates", "[0.001,0.002]"))
    assert refused.code == 2 and "with 5 iterations of conjugate gradients" in refused.err
    assert not run.exists()
    assert mrirecon(*words(data, run, "modl_convex", *short, "--convex.candidates", "[5.0,0.001]")).code == 0
    (stage,) = certificates(run)
    assert stage["value"] == 5.0
    kept, left = stage["candidates"]
    assert kept["loss"] == stage["loss"] and kept["gap"] == stage["gap"]
    assert "with 5 iterations" in left["refused"] and left["value"] == 0.001


def test_files_without_targets_are_refused_before_the_work(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    val = tmp_path / "val"
    shutil.copytree(data / "multicoil_val", val)
    for path in val.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file["reconstruction_rss"]
    done = mrirecon(*words(data, tmp_path / "run", "pgd_convex", "--data.val", str(val)))
    assert done.code == 2 and "has no target image" in done.err
    assert "stage 1" not in done.out and not (tmp_path / "run").exists()


def test_data_of_one_coil_are_solved_too(tmp_path: Path, mrirecon: Run) -> None:
    for split, volumes in (("train", 2), ("val", 1)):
        folder = tmp_path / "one" / f"singlecoil_{split}"
        small = [*SMALL[:2], "--coils", "1", *SMALL[4:]]
        made = mrirecon("simulate", folder, "--volumes", volumes, "--split", split, *small)
        assert made.code == 0, made.err
    one = words(tmp_path / "one", tmp_path / "run", "pgd_convex", "--data.challenge", "singlecoil")
    done = mrirecon(*one)
    assert done.code == 0, done.err
    assert certificates(tmp_path / "run")[-1]["gap"] <= 1e-3


def test_fit_says_which_command_its_card_is_for(data: Path, tmp_path: Path, mrirecon: Run) -> None:
    done = mrirecon("fit", *words(data, tmp_path / "run")[1:])
    assert done.code == 2 and "`mrirecon convex-fit`" in done.err


def test_help_says_what_a_certificate_says(mrirecon: Run) -> None:
    done = mrirecon("convex-fit", "--help")
    assert done.code == 0
    said = " ".join(done.out.split())
    assert "these filters are globally optimal" in said and "given the images that the stage gets" in said
    assert "nothing of other gates, of the ReLU network, or of the stages jointly" in said
