"""What a card may add to a regime: accumulation, averages, schedules, turns; and what is logged of stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrirecon import checkpoint
from mrirecon.cli import main
from tests.commands.conftest import QUIET, SAMPLING, fit_words
from tests.commands.test_fit import last, resumed, same

GREEDY = ["-c", "train/greedy"]


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        same(a[key], b[key])


def scalars(run: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(run), purge_orphaned_data=False)
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_accumulated_batches_make_one_update_and_every_batch_counts(data: Path, tmp_path: Path) -> None:
    # Six batches an epoch, four to an update: an epoch has a group of four and one of two; batch 3 lies inside a group.
    whole, again = resumed(data, tmp_path, "every_n_train_steps=3", *GREEDY, "--model.accumulate", "4")
    assert whole["global_step"] == 18
    assert {float(s["step"]) for s in whole["optimizer_states"][0]["state"].values()} == {6.0}
    assert_same(whole, again)
    logged = scalars(tmp_path / "run")  # of both; the second one went on inside its first epoch
    for name in ("stage_loss/1", "stage_psnr/0", "stage_gradient_norm/1"):
        assert len(logged[name]) == 6 and logged[name][:3] == logged[name][3:], name


def test_validation_inside_a_group_of_batches_loses_no_gradient(data: Path, tmp_path: Path) -> None:
    ends = []
    for name, more in (("once", []), ("thrice", ["--trainer.val_check_interval", "2"])):
        words = ["--model.accumulate", "3", "--trainer.max_epochs", "1", *more]
        assert main(fit_words(data, tmp_path / name, *GREEDY, *words)) == 0
        ends.append(last(tmp_path / name))
    same(ends[0]["state_dict"], ends[1]["state_dict"])


def test_the_average_of_the_weights_is_what_is_scored_and_used(mrirecon, data: Path, tmp_path: Path) -> None:
    whole, again = resumed(data, tmp_path, "every_n_epochs=1", *GREEDY, "--model.ema", "0.9")
    assert_same(whole, again)
    run = tmp_path / "run"
    weights = whole["state_dict"]
    used = checkpoint.load(run / "checkpoints" / "last.ckpt").net.state_dict()
    assert all(torch.equal(used[name], weights[f"average.net.{name}"]) for name in used)
    assert not torch.equal(used["steps.0.denoiser.last.weight"], weights["net.steps.0.denoiser.last.weight"])
    # The same weights in checkpoints that know nothing of averages.
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for name, prefix in (("mean", "average.net."), ("raw", "net.")):
        taken = {f"net.{n}": weights[f"{prefix}{n}"] for n in used}
        torch.save({**state, "state_dict": taken}, tmp_path / f"{name}.ckpt")
    shown = {}
    for name, ema, path in (
        ("with an average", "0.9", run / "checkpoints" / "last.ckpt"),
        ("without one", "null", run / "checkpoints" / "last.ckpt"),
        ("mean", "null", tmp_path / "mean.ckpt"),
        ("raw", "null", tmp_path / "raw.ckpt"),
    ):
        done = mrirecon("validate", "--run", run, "--model.ema", ema, "--ckpt_path", path)
        shown[name] = [line for line in done.out.split("\n") if "val_" in line]
    assert shown["with an average"] == shown["without one"] == shown["mean"] != shown["raw"]
    assert len(shown["raw"]) > 3
    # A run may give the average up, and take it up.
    assert main(["fit", "--resume", "--run", str(run), "--model.ema", "null", "--trainer.max_epochs", "4"]) == 0
    assert not any(name.startswith("average") for name in last(run)["state_dict"])
    assert main(["fit", "--resume", "--run", str(run), "--model.ema", "0.9", "--trainer.max_epochs", "5"]) == 0
    assert last(run)["state_dict"]["average.updates"].tolist() == [6, 6]


@pytest.mark.parametrize("at", ["every_n_epochs=1", "every_n_epochs=3", "every_n_train_steps=8"])
def test_stage_by_stage_each_is_frozen_when_it_is_done(data: Path, tmp_path: Path, at: str) -> None:
    words = ["--model.stagewise.epochs", "2", "--trainer.max_epochs", "-1", "--model.ema", "0.9"]
    whole, again = resumed(data, tmp_path, at, *GREEDY, *words)
    assert whole["epoch"] == 3 and whole["global_step"] == 24, "two stages of two epochs, then it ends by itself"
    assert_same(whole, again)
    weights = whole["state_dict"]  # a stage that is done has the averaged weights, from which the next one learned
    means = {name: mean for name, mean in weights.items() if name.startswith("average.net.steps")}
    assert len(means) > 4 and all(torch.equal(mean, weights[name[8:]]) for name, mean in means.items())
    steps = whole["optimizer_states"][0]["state"]
    assert {float(s["step"]) for s in steps.values()} == {12.0}
    logged = scalars(tmp_path / "run")
    assert len(logged["stage_loss/0"]) >= 2 and len(logged["stage_loss/1"]) >= 2


def test_a_stage_without_progress_is_done(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--model.stagewise.patience", "1", "--trainer.max_epochs", "-1", "--model.scheduler", "null"]
    # A step so large that no epoch is better than the first.
    assert main(fit_words(data, run, *GREEDY, *words, "--model.optimizer.init_args.lr", "0.5")) == 0
    assert last(run)["stagewise"] == {"stage": 2, "epochs": 0, "waited": 0, "best": float("inf")}


def test_each_stage_has_a_plateau_of_its_own(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plateau = ["--model.scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"]
    words = [*plateau, "--model.scheduler.init_args.patience", "0"]
    assert main(fit_words(data, run, *GREEDY, *words, "--trainer.max_epochs", "3")) == 0
    schedules = last(run)["lr_schedulers"][0]["schedules"]
    assert len(schedules) == 2 and schedules[0]["best"] != schedules[1]["best"]
    logged = scalars(run)
    assert schedules[0]["best"] == pytest.approx(min(logged["val_stage_loss/0"]))


def test_every_stage_is_logged_and_drawn(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(fit_words(data, run, *GREEDY, "--trainer.max_epochs", "2")) == 0
    logged = scalars(run)
    for k in range(2):
        for name in ("stage_loss", "stage_psnr", "stage_gradient_norm", "val_stage_loss", "val_stage_psnr"):
            assert len(logged[f"{name}/{k}"]) == 2, name
    assert logged["val_stage_psnr/1"] == pytest.approx(logged["val_psnr"], abs=1e-4)
    assert logged["val_stage_psnr/in"][0] < logged["val_stage_psnr/1"][0]
    assert logged["stage_loss/1"] == pytest.approx(logged["loss_epoch"])
    assert (run / "stages.png").stat().st_size > 5000


def test_stages_with_the_same_weights_have_one_gradient(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shared = [*GREEDY, "--model.net.init_args.share_weights", "true", "--model.clip", "0.01"]
    assert main(fit_words(data, run, *shared, "--trainer.max_epochs", "1")) == 0
    norms = [scalars(run)[f"stage_gradient_norm/{k}"] for k in range(2)]
    assert norms[0] == norms[1] and norms[0][0] > 0.02


def test_a_step_that_ignores_its_denoiser_is_refused(mrirecon, data, tmp_path) -> None:
    card = tmp_path / "deaf.yaml"
    card.write_text(yaml.safe_dump({"model": {"net": {"class_path": "tests.commands.denoisers.deaf"}}}))
    cards = ["-c", "train/greedy", "-c", card, "--data.path", data, *SAMPLING, *QUIET]
    done = mrirecon("fit", *cards, "--run", tmp_path / "run")
    assert done.code == 2 and "does not depend on its own denoiser" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.ema", "1"], "model.ema is 1.0; expected a decay between 0 and 1"),
        (["--model.accumulate", "0"], "model.accumulate is 0; expected at least 1"),
        (["--model.stagewise.epochs", "0"], "epochs 0 and patience None; expected at least one"),
        (
            ["--model.stagewise.epochs", "1", "--model.net.init_args.share_weights", "true"],
            "model.stagewise freezes a stage",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(mrirecon, data, tmp_path, words, message) -> None:
    done = mrirecon(*fit_words(data, tmp_path / "run", *GREEDY, *words))
    assert done.code == 2 and message in done.err
