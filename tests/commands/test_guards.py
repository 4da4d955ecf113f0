"""What a user may do by mistake, and what must then stay as it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args, get_type_hints

import h5py
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrirecon.cli import main
from mrirecon.commands.reconstruct import reconstruct
from mrirecon.commands.simulate import simulate
from mrirecon.commands.tune import tune
from mrirecon.physics.sampling import MaskType
from mrirecon.reconstruct import Classical
from mrirecon.simulation.phantoms import Anatomy
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
    done = mrirecon("tune", path, "cg-sense", *MASK)
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


def test_a_json_file_does_not_replace_what_is_not_one(mrirecon, data) -> None:
    target = next((data / "multicoil_val").glob("*.h5"))
    before = target.read_bytes()
    done = mrirecon("evaluate", data / "multicoil_val", data / "multicoil_val", "--json", target)
    assert done.code == 2 and "expected a name that ends in .json" in done.err and target.read_bytes() == before


def test_numbers_of_a_list_may_stand_side_by_side(mrirecon, data, tmp_path) -> None:
    words = ["--method", "zero-filled", "--mask_type", "random", "--accelerations", "2", "3", "4"]
    fractions = ["--center_fractions=0.3,0.25,0.2"]
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


def test_a_target_that_cannot_be_used_does_not_keep_a_file_from_being_reconstructed(mrirecon, data, tmp_path) -> None:
    changes = {"nan": np.nan, "empty": np.zeros((2, 0, 24), np.float32), "complex": np.zeros((2, 9, 9), complex)}
    for name, change in (changes | {"group": "group"}).items():
        path = tmp_path / f"{name}.h5"
        shutil.copy(next((data / "multicoil_val").glob("*.h5")), path)
        with h5py.File(path, "a") as file:
            if name == "nan":
                file["reconstruction_rss"][:] = change
            else:
                del file["reconstruction_rss"]
                if name == "group":
                    file.create_group("reconstruction_rss")
                else:
                    file["reconstruction_rss"] = change
            file.attrs["max"] = "none"
        assert mrirecon("reconstruct", path, tmp_path / "out", "--method", "zero-filled", *MASK).code == 0
        with h5py.File(tmp_path / "out" / path.name) as file:
            assert file["reconstruction"].shape == (2, 32, 24) and file["reconstruction"][1].max() > 0
        done = mrirecon("tune", path, "cg-sense", *MASK)
        assert done.code == 2 and path.name in done.err


def test_a_damaged_file_does_not_keep_finished_ones_from_being_seen(mrirecon, data, tmp_path) -> None:
    files, out = tmp_path / "files", tmp_path / "out"
    shutil.copytree(data / "multicoil_val", files)
    words = ["reconstruct", files, out, "--method", "zero-filled", *MASK]
    assert mrirecon(*words).code == 0
    damaged = min(files.glob("*.h5"))
    damaged.write_bytes(damaged.read_bytes()[:4000])
    done = mrirecon(*words)
    assert done.code == 1 and "1 of 2 files are finished already" in done.out and damaged.name in done.err


@pytest.mark.parametrize("content", [b"", b"a note", "folder"])
def test_what_is_no_reconstruction_is_not_replaced(mrirecon, data, tmp_path, content) -> None:
    path = next((data / "multicoil_val").glob("*.h5"))
    (tmp_path / "out").mkdir()
    if content == "folder":
        (tmp_path / "out" / path.name).mkdir()
    else:
        (tmp_path / "out" / path.name).write_bytes(content)
    words = ["reconstruct", path, tmp_path / "out", "--method", "zero-filled", *MASK]
    done = mrirecon(*words)
    assert done.code == 2 and ("is a folder" if content == "folder" else "replace it with --overwrite") in done.err
    assert mrirecon(*words, "--overwrite").code == (2 if content == "folder" else 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "cg-sense", "--strength", "0.1", "--wavelet", "haar", *MASK], "belongs to --method l1-wavelet"),
        (["--method", "zero-filled", "--accelerations", "4"], "need --mask_type"),
        (["--method", "zero-filled", "--mask_type", "random", "--accelerations", "0"], "acceleration 0"),
    ],
)
def test_options_that_would_be_ignored_are_refused(mrirecon, data, tmp_path, words, message) -> None:
    done = mrirecon("reconstruct", data / "multicoil_val", tmp_path / "out", *words)
    assert done.code == 2 and message in done.err


def test_a_mask_for_files_that_have_their_own_is_said_to_be_unused(mrirecon, data, tmp_path) -> None:
    path = tmp_path / "files" / "undersampled.h5"
    path.parent.mkdir()
    shutil.copy(next((data / "multicoil_val").glob("*.h5")), path)
    with h5py.File(path, "a") as file:
        file["mask"] = (np.arange(24) % 2 == 0) | (abs(np.arange(24) - 11.5) < 5)
        file.attrs["num_low_frequency"] = 8
    done = mrirecon("reconstruct", path, tmp_path / "out", "--method", "zero-filled", *MASK)
    assert done.code == 0 and "1 of 1 files are undersampled already and keep their own mask" in done.out


def test_the_words_of_options_are_those_of_the_library() -> None:
    hints = get_type_hints(reconstruct)
    assert set(get_args(get_args(hints["mask_type"])[0])) == set(get_args(MaskType))
    assert set(get_args(get_type_hints(tune)["mask_type"])) == set(get_args(MaskType))
    assert set(get_args(get_args(hints["method"])[0])) == set(get_args(Classical))
    assert set(get_args(get_args(get_type_hints(simulate)["anatomy"])[0])) == set(get_args(Anatomy))


def test_a_volume_that_cannot_be_scored_is_named(mrirecon, data, tmp_path) -> None:
    path = tmp_path / "black.h5"
    shutil.copy(next((data / "multicoil_val").glob("*.h5")), path)
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"][:] = 0
    done = mrirecon("tune", path, "cg-sense", *MASK)
    assert done.code == 2 and "black.h5: the target is nowhere above zero" in done.err


def test_training_needs_no_validation_files_where_validation_is_off(mrirecon, data, tmp_path) -> None:
    folder = tmp_path / "files"
    shutil.copytree(data / "multicoil_train", folder / "multicoil_train")
    words = ["--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1"]
    assert mrirecon(*fit_words(folder, tmp_path / "run", *words)).code == 0
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1.00 TiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80000000000000 bytes"),
    ],
)
def test_too_little_memory_is_one_sentence(error: Exception, mrirecon, monkeypatch) -> None:
    def call(*_: object) -> int:
        raise error

    monkeypatch.setattr("mrirecon.commands.call.call", call)
    done = mrirecon("cards")
    assert done.code == 2 and "not enough memory" in done.err and "llocate" in done.err
    assert len(done.err.splitlines()) == 1 and "GPU 0" not in done.err


def test_other_errors_of_torch_are_not_taken_for_it(mrirecon, monkeypatch) -> None:
    def call(*_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr("mrirecon.commands.call.call", call)
    with pytest.raises(RuntimeError, match="a bug"):
        mrirecon("cards")
