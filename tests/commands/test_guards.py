"""What a user may do by mistake, and what must then stay as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrirecon.cli import main
from tests.commands.conftest import MASK, QUIET, fit_words


def test_reconstructions_never_replace_the_measured_files(mrirecon, data, tmp_path) -> None:
    folder = tmp_path / "files"
    shutil.copytree(data / "multicoil_val", folder)
    before = {path: path.read_bytes() for path in folder.glob("*.h5")}
    done = mrirecon("reconstruct", folder, folder, "--method", "zero-filled", "--overwrite", *MASK)
    assert done.code == 2 and "is the measured file itself" in done.err
    assert before == {path: path.read_bytes() for path in folder.glob("*.h5")}


def test_using_a_run_leaves_its_settings_alone(mrirecon, data, trained, tmp_path) -> None:
    before = (trained / "config.yaml").read_text()
    for name in ("validate", "test", "predict"):
        more = ["--output", tmp_path / "out"] if name == "predict" else QUIET
        assert mrirecon(name, "--run", trained, "--data.val", data / "multicoil_test", *more).code == 0
    assert (trained / "config.yaml").read_text() == before


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
    rates = last["lr_schedulers"][0]
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


def test_the_log_holds_scores_and_images(trained: Path) -> None:
    events = EventAccumulator(str(trained))
    events.Reload()
    tags = events.Tags()
    assert {"loss_epoch", "val_loss", "val_nmse", "val_psnr", "val_ssim", "acceleration"} <= set(tags["scalars"])
    assert len(tags["images"]) == 2, "one panel for each validation volume"
    assert events.Scalars("acceleration")[0].value == pytest.approx(2, abs=0.5)


@pytest.mark.parametrize("size", [(2, 1, 31, 25), (2, 31, 25), (3, 5, 40, 33)])
def test_one_coil_no_coil_axis_and_odd_sizes_go_through(mrirecon, trained, tmp_path, size) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["kspace"] = rng.standard_normal((*size, 2)).astype(np.float32).view(np.complex64)[..., 0]
    for words in (["--model", trained], ["--method", "cg-sense", "--strength", "0.01"]):
        out = tmp_path / words[0]
        assert mrirecon("reconstruct", tmp_path / "file.h5", out, *words, *MASK, "--batch_size", "2").code == 0
        with h5py.File(out / "file.h5") as file:
            assert file["reconstruction"].shape == (size[0], *size[-2:])


def test_files_of_mixed_shape_and_coils_train_in_batches(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed" / "multicoil_train"
    shutil.copytree(data / "multicoil_train", folder)
    assert main(["simulate", str(folder), "--volumes", "2", "--seed", "1", "--coils", "2", "--shape", "[40,30]"]) == 0
    words = ["--data.train", str(folder), "--data.batch_size", "3", "--trainer.max_epochs", "1"]
    assert main(fit_words(data, tmp_path / "run", *words)) == 0


def test_a_changed_mask_file_is_another_run(mrirecon, data, tmp_path) -> None:
    mask = np.ones(24)
    words = ["reconstruct", data / "multicoil_val", tmp_path / "out", "--method", "zero-filled", "--mask_file"]
    for sampled, code in ((24, 0), (20, 2)):
        mask[sampled:] = 0
        np.save(tmp_path / "mask.npy", mask)
        assert mrirecon(*words, tmp_path / "mask.npy").code == code
    both = mrirecon(*words, tmp_path / "mask.npy", *MASK)
    assert both.code == 2 and "give one of them" in both.err


@pytest.mark.parametrize(
    ("attribute", "value"), [("max", "big"), ("max", np.nan), ("acceleration", "4x"), ("num_low_frequency", -3)]
)
def test_odd_attributes_are_named(mrirecon, data, tmp_path, attribute, value) -> None:
    path = tmp_path / "odd.h5"
    shutil.copy(next((data / "multicoil_val").glob("*.h5")), path)
    with h5py.File(path, "a") as file:
        file.attrs[attribute] = value
    done = mrirecon("reconstruct", path, tmp_path / "out", "--method", "zero-filled", *MASK)
    assert done.code == 2 and f"odd.h5: attribute '{attribute}'" in done.err


def test_files_without_target_are_refused_where_one_is_needed(mrirecon, data, trained, tmp_path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(data / "multicoil_val", folder)
    for path in folder.glob("*.h5"):
        with h5py.File(path, "a") as file:
            del file["reconstruction_rss"]
    done = mrirecon("test", "--run", trained, "--data.test", folder, *QUIET)
    assert done.code == 2 and "has no target image to compare with" in done.err
    assert mrirecon("predict", "--run", trained, "--data.predict", folder, "--output", tmp_path / "out").code == 0


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: [", b"just words"])
def test_a_broken_card_is_named(mrirecon, tmp_path, text) -> None:
    (tmp_path / "card.yaml").write_bytes(text)
    done = mrirecon("fit", "-c", tmp_path / "card.yaml")
    assert done.code == 2 and "card.yaml cannot be used" in done.err


def test_an_output_that_is_a_file_is_refused(mrirecon, data, tmp_path) -> None:
    (tmp_path / "out").write_text("mine")
    done = mrirecon("reconstruct", data / "multicoil_val", tmp_path / "out", "--method", "zero-filled", *MASK)
    assert done.code == 2 and (tmp_path / "out").read_text() == "mine"


def test_a_command_without_arguments_does_not_crash(mrirecon) -> None:
    assert "models/pgd_resnet" in mrirecon("cards").out
    for name in ("simulate", "reconstruct", "evaluate", "tune"):
        assert mrirecon(name).code == 2


def test_an_empty_slice_stays_black(mrirecon, data, trained, tmp_path) -> None:
    path = tmp_path / "empty.h5"
    shutil.copy(next((data / "multicoil_val").glob("*.h5")), path)
    with h5py.File(path, "a") as file:
        file["kspace"][1] = 0
    assert mrirecon("reconstruct", path, tmp_path / "out", "--model", trained, *MASK).code == 0
    with h5py.File(tmp_path / "out" / "empty.h5") as file:
        assert file["reconstruction"][0].max() > 0 and file["reconstruction"][1].max() < 1e-30


def test_a_loss_that_is_not_finite_ends_training_before_anything_is_saved(mrirecon, data, tmp_path) -> None:
    done = mrirecon(*fit_words(data, tmp_path / "run", "--model.optimizer.init_args.lr", "1e30"))
    assert done.code == 2 and "is not finite; lower the learning rate" in done.err
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.optimizer.init_args.lr", "-1"], "model.optimizer cannot be made"),
        (["--trainer.accelerator", "foo"], "these settings cannot be used"),
        (["--trainer.check_val_every_n_epoch", "0"], "check_val_every_n_epoch is 0; expected at least 1"),
        (["--trainer.devices", "2"], "training on 2 devices is not supported yet"),
        (["--model.clip", "-1"], "model.clip is -1.0"),
        (["--model.net.init_args.denoiser.init_args.channels", "-4"], "channels=-4"),
    ],
)
def test_impossible_training_is_refused(mrirecon, data, tmp_path, words, message) -> None:
    done = mrirecon(*fit_words(data, tmp_path / "run", *words))
    assert done.code == 2 and message in done.err


def test_a_json_file_does_not_replace_what_is_not_one(mrirecon, data) -> None:
    target = next((data / "multicoil_val").glob("*.h5"))
    before = target.read_bytes()
    done = mrirecon("evaluate", data / "multicoil_val", data / "multicoil_val", "--json", target)
    assert done.code == 2 and "expected a name that ends in .json" in done.err and target.read_bytes() == before


def test_weights_alone_do_not_resume_a_run(mrirecon, trained, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    last = run / "checkpoints" / "last.ckpt"
    whole = torch.load(last, weights_only=True)
    torch.save({key: whole[key] for key in ("state_dict", "mrirecon")}, last)
    done = mrirecon("fit", "--run", run, "--resume")
    assert done.code == 2 and "optimizer_states" in done.err and "--model.init_from" in done.err
    assert mrirecon("test", "--run", run, *QUIET).code == 0


def test_numbers_of_a_list_may_stand_side_by_side(mrirecon, data, tmp_path) -> None:
    words = ["--method", "zero-filled", "--mask_type", "random", "--accelerations", "2", "3", "4"]
    fractions = ["--center_fractions", "0.3", "0.25", "0.2"]
    assert mrirecon("reconstruct", data / "multicoil_val", tmp_path / "out", *words, *fractions).code == 0
    with h5py.File(next((tmp_path / "out").glob("*.h5"))) as file:
        assert file.attrs["accelerations"] == "(2.0, 3.0, 4.0)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reconstruct", "", "out"], "a word of the command line is empty"),
        (
            ["reconstruct", "DATA", "out", "--method", "zero-filled", "--maps_folder", "FILE", *MASK],
            "is a file; name a",
        ),
        (["simulate", "out", "--seed", "-1"], "seed -1"),
        (["simulate", "out", "--coils", "40"], "coils 40; expected 1 to 32"),
        (["simulate", "out", "--shape", "[8,8]"], "shape (8, 8)"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(mrirecon, data, tmp_path, words, message) -> None:
    (tmp_path / "file").write_text("mine")
    places = {"DATA": data / "multicoil_val", "FILE": tmp_path / "file", "out": tmp_path / "out"}
    done = mrirecon(*(places.get(word, word) for word in words))
    assert done.code == 2 and message in done.err and "0/" not in done.out
    assert not (tmp_path / "out").exists()
