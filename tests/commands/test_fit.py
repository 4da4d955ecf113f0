"""Training from the command line: cards, runs, resuming."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mrirecon import checkpoint
from mrirecon.cli import main
from tests.commands.conftest import QUIET, fit_words


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_holds_what_is_needed_to_use_and_to_resume_it(trained: Path) -> None:
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert {"config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= files
    assert any("tfevents" in name for name in files)
    assert checkpoint.load(trained).path == trained / "checkpoints" / "best.ckpt"


def test_checkpoints_and_the_command_line_agree_on_the_network(trained: Path) -> None:
    net = checkpoint.load(trained).net
    assert len(net.sequence) == 2 and net.steps[0].denoiser.first.weight.shape[0] == 4


def last(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def resumed(data: Path, folder: Path, at: str, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last states of a whole run, and of one that was killed at a checkpoint and went on."""
    card = folder / "keep.yaml"
    key, number = at.split("=")
    keep = {"dirpath": str(folder / "kept"), "filename": "{step}", "save_top_k": -1, key: int(number)}
    callback = {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": keep}
    card.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    run = folder / "run"
    assert main(fit_words(data, run, "-c", str(card), "--trainer.max_epochs", "3", *words)) == 0
    whole = last(run)
    kept = min((folder / "kept").glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[1]))
    shutil.copy(kept, run / "checkpoints" / "last.ckpt")
    assert main(["fit", "--resume", "--run", str(run)]) == 0
    return whole, last(run)


@pytest.mark.parametrize("at", ["every_n_epochs=1", "every_n_train_steps=4"])
def test_a_resumed_run_ends_with_the_same_weights_optimiser_and_schedule(data: Path, tmp_path: Path, at: str) -> None:
    # Six slices: an epoch has six batches, so that step 4 lies inside one.
    drawing = ["--model.net.init_args.denoiser", "tests.commands.denoisers.Dropping"]
    ends = resumed(data, tmp_path, at, *drawing)
    assert ends[0]["global_step"] == ends[1]["global_step"] == 18
    same(ends[0]["state_dict"], ends[1]["state_dict"])
    same(ends[0]["optimizer_states"], ends[1]["optimizer_states"])
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]


def same(a: object, b: object) -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b)
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list):
        assert isinstance(b, list) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        words = fit_words(data, tmp_path / name, "--trainer.max_epochs", "1", "--seed_everything", seed)
        assert main(words) == 0
    a, b, c = (weights(tmp_path / name / "checkpoints" / "last.ckpt") for name in "abc")
    same(a, b)
    assert not torch.equal(a["net.steps.0.denoiser.first.weight"], c["net.steps.0.denoiser.first.weight"])


def test_end_to_end_checkpointed_and_greedy_share_one_checkpoint_format(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    start = ["--model.init_from", str(trained), "--trainer.max_epochs", "1"]
    ends = {}
    for card in ("end_to_end", "checkpointed", "greedy"):
        words = fit_words(data, tmp_path / card, "-c", f"train/{card}", *start)
        assert main(words) == 0
        ends[card] = torch.load(tmp_path / card / "checkpoints" / "last.ckpt", weights_only=True)
    same(ends["end_to_end"]["state_dict"], ends["checkpointed"]["state_dict"])
    assert ends["greedy"]["state_dict"].keys() == ends["end_to_end"]["state_dict"].keys()
    groups = [[group["params"] for group in end["optimizer_states"][0]["param_groups"]] for end in ends.values()]
    assert groups[0] == groups[1] == groups[2]


def test_training_on_strips_runs_and_learns(data: Path, tmp_path: Path) -> None:
    words = fit_words(data, tmp_path / "run", "-c", "train/strips", "--model.rows", "16", "--trainer.max_epochs", "1")
    assert main([*words, "--trainer.check_val_every_n_epoch", "1"]) == 0
    assert checkpoint.load(tmp_path / "run").net.steps[0].denoiser.last.weight.abs().max() > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "-c", "models/nothing"], "there is no card 'models/nothing'"),
        (["fit", "-c", "models/pgd_resnet", "-c", "train/greedy"], "no files for train; give --data.path or"),
        (["fit", "--resume", "--run", "nowhere"], "nowhere has no config.yaml"),
        (["test", "--run", "nowhere"], "nowhere has no config.yaml"),
        (["validate"], "usage"),
        (["predict", "-c", "models/pgd_resnet"], "name a run folder with --run"),
        (["reconstrukt"], "there is no command 'reconstrukt'"),
    ],
)
def test_what_cannot_start_says_why(mrirecon, words, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = mrirecon(*words)
    assert message in done.err + done.out
    assert done.code == (0 if message == "usage" else 2)


def test_an_earlier_run_is_not_written_over(mrirecon, data, trained) -> None:
    done = mrirecon(*fit_words(data, trained))
    assert done.code == 2 and "already holds a training run; add --resume" in done.err


def test_every_lightning_command_explains_itself(mrirecon) -> None:
    for name in ("fit", "validate", "test", "predict"):
        done = mrirecon(name, "--help")
        assert done.code == 0 and "--run FOLDER" in done.out and "--KEY VALUE" in done.out


def test_validation_and_test_scores_are_printed(mrirecon, data, trained) -> None:
    for name, key in (("validate", "val_ssim"), ("test", "test_ssim")):
        done = mrirecon(name, "--run", trained, *QUIET)
        assert done.code == 0 and key in done.out


@pytest.mark.parametrize("loss", ["SSIM", "MagnitudeL1", "L2"])
def test_every_loss_trains(data: Path, tmp_path: Path, loss: str) -> None:
    words = fit_words(data, tmp_path / "run", "--model.loss", f"mrirecon.losses.{loss}", "--model.target", "null")
    assert main([*words, "--trainer.max_epochs", "1"]) == 0
    assert checkpoint.load(tmp_path / "run").net.steps[1].denoiser.last.weight.abs().max() > 0


def test_poisson_masks_train_too(data: Path, tmp_path: Path) -> None:
    words = fit_words(data, tmp_path / "run", "--data.sampling.mask_type", "poisson", "--trainer.max_epochs", "1")
    assert main(words) == 0
