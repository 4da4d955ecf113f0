"""Training that cannot be: refused in words, and what an earlier run left stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrirecon.cli import main
from tests.commands.conftest import QUIET, fit_words


def test_a_resumed_run_keeps_its_settings_and_may_be_longer(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(fit_words(data, run, "--trainer.max_epochs", "2")) == 0
    assert main(["fit", "--run", str(run), "--resume", "--trainer.max_epochs", "4", *QUIET]) == 0
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["model"]["net"]["init_args"]["n_steps"] == 2 and settings["trainer"]["max_epochs"] == 4
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 3
    # Warm-up of one epoch, then a cosine over the new length: it ends at zero, and was not at zero in between.
    events = EventAccumulator(str(run))
    events.Reload()
    rates = last["lr_schedulers"][0]["schedules"][0]
    assert rates["last_epoch"] == 4 and rates["_last_lr"][0] == pytest.approx(0, abs=1e-9)


def test_a_network_that_does_not_fit_the_checkpoint_is_refused_before_anything_is_written(
    mrirecon, data, trained, tmp_path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = (run / "config.yaml").read_text()
    done = mrirecon("fit", "--run", run, "--resume", "--model.net.init_args.denoiser.init_args.channels", "6")
    assert done.code == 2 and "do not fit this network" in done.err
    assert (run / "config.yaml").read_text() == before


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_a_truncated_checkpoint_is_one_sentence_everywhere(mrirecon, trained, tmp_path, name) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for path in (run / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:-3000])
    done = mrirecon(name, "--run", run, *(["--resume"] if name == "fit" else []))
    assert done.code == 2 and "cannot be read as a checkpoint" in done.err


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: [", b"just words"])
def test_a_broken_card_is_named(mrirecon, tmp_path, text) -> None:
    (tmp_path / "card.yaml").write_bytes(text)
    done = mrirecon("fit", "-c", tmp_path / "card.yaml")
    assert done.code == 2 and "card.yaml cannot be used" in done.err


def test_a_loss_that_is_not_finite_ends_training_before_anything_is_saved(mrirecon, data, tmp_path) -> None:
    done = mrirecon(*fit_words(data, tmp_path / "run", "--model.optimizer.init_args.lr", "1e30"))
    assert done.code == 2 and "is not finite; lower the learning rate" in done.err
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_weights_alone_do_not_resume_a_run(mrirecon, trained, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    last = run / "checkpoints" / "last.ckpt"
    whole = torch.load(last, weights_only=True)
    torch.save({key: whole[key] for key in ("state_dict", "mrirecon")}, last)
    done = mrirecon("fit", "--run", run, "--resume")
    assert done.code == 2 and "optimizer_states" in done.err and "--model.init_from" in done.err
    assert mrirecon("test", "--run", run, *QUIET).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.sampling.accelerations", "[0.5]"], "acceleration 0.5; expected a number from 1 up"),
        (["--model.steps_per_stage", "3"], "steps_per_stage=3 does not fit a network of 2 steps"),
        (["--model.target", "rss"], "model.target is 'rss', but the loss L1 needs 'sense'"),
        (["--model.net.init_args.n_steps", "0"], "n_steps is 0"),
        (["--model.nett", "3"], "nett"),
        (["--trainer.max_epochs", "many"], "max_epochs"),
        (["--model.loss", "mrirecon.losses.SSIM", "--model.target", "null", "--model.rows", "8"], "model.rows is 8"),
        (["--model.optimizer.init_args.lr", "-1"], "model.optimizer cannot be made"),
        (["--trainer.accelerator", "foo"], "these settings cannot be used"),
        (["--trainer.check_val_every_n_epoch", "0"], "check_val_every_n_epoch is 0; expected at least 1"),
        (["--model.clip", "-1"], "model.clip is -1.0"),
        (["--model.net.init_args.denoiser.init_args.channels", "-4"], "channels=-4"),
        (["--trainer.overfit_batches", "1"], "use --data.volume_sample_rate instead"),
        (["--trainer.precision", "bf16-true"], "trainer.precision is bf16-true; expected 32 or bf16-mixed"),
        (["--trainer.val_check_interval", "1000"], "these settings cannot be used: `val_check_interval` (1000)"),
        (["--model.net.init_args.denoiser.init_args.n_maps", "2"], "denoiser with n_maps=2, ndim=2"),
        (["--model.net.init_args.denoiser.init_args.ndim", "3"], "denoiser with n_maps=1, ndim=3"),
        (["--model.net.init_args.step_size", ".nan"], "step_size is nan"),
        (["-c", "train/inverted"], "the denoiser ResNet has no inverse"),
        (["--data.train", "nowhere"], "nowhere does not exist"),
    ],
)
def test_settings_that_cannot_be_are_refused(mrirecon, data, tmp_path, words, message) -> None:
    done = mrirecon(*fit_words(data, tmp_path / "run", *words))
    assert done.code == 2 and message in done.err
    assert not (tmp_path / "run" / "checkpoints").exists()
    if "nowhere" in words:
        assert not (tmp_path / "run").exists(), "nothing is written before the files are known"


def test_a_gradient_by_inversion_that_would_be_wrong_ends_training_in_one_sentence(mrirecon, data, tmp_path) -> None:
    cards = ["-c", "models/modl_contractive", "-c", "train/inverted"]
    weak = ["--model.net.init_args.weight", "0.05", "--model.net.init_args.iterations", "2"]
    net = ["--model.net.init_args.n_steps", "4", "--model.net.init_args.denoiser.init_args.channels", "4"]
    done = mrirecon(*fit_words(data, tmp_path / "run", *cards, *net, *weak))
    assert done.code == 2 and "the first input comes out with a relative error of" in done.err
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_one_number_is_a_list_of_one(data: Path, tmp_path: Path) -> None:
    words = fit_words(data, tmp_path / "run", "--data.sampling.accelerations", "3", "--trainer.max_epochs", "1")
    assert main(words) == 0
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["data"]["sampling"]["accelerations"] == [3.0]
