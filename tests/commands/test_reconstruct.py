"""Reconstructing files: what is written, what is left alone, what fails and how."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon import __version__
from mrirecon.data.fastmri import read_volume
from tests.commands.conftest import MASK


def images(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        assert list(file) == ["reconstruction"]
        return file["reconstruction"][()]


def test_a_network_writes_the_submission_layout_and_how_it_was_made(mrirecon, data, trained, tmp_path) -> None:
    done = mrirecon("reconstruct", data / "multicoil_test", tmp_path, "--model", trained, *MASK)
    assert done.code == 0 and "achieved acceleration: 2" in done.out and "2 of 2 files written" in done.out
    for source in (data / "multicoil_test").glob("*.h5"):
        volume = read_volume(source)
        made = images(tmp_path / source.name)
        assert made.dtype == np.float32 and made.shape == (2, 32, 24)
        assert 0.5 < made.max() / volume.peak < 2, "the scale of the data is undone"
        with h5py.File(tmp_path / source.name) as file:
            attrs = dict(file.attrs)
        assert attrs["mrirecon_version"] == __version__ and len(attrs["model_hash"]) == 64
        assert attrs["mask_type"] == "equispaced_fraction" and attrs["mask_seed"] == "file name"
        assert attrs["acceleration"] == 2 and attrs["acquisition"] == volume.acquisition


@pytest.mark.parametrize(
    "way", [["zero-filled"], ["cg-sense", "--strength", "0.01"], ["l1-wavelet", "--strength", "0.002"]]
)
def test_classical_methods_come_near_the_target(mrirecon, data, tmp_path, way) -> None:
    assert mrirecon("reconstruct", data / "multicoil_val", tmp_path, "--method", *way, *MASK).code == 0
    for source in (data / "multicoil_val").glob("*.h5"):
        with h5py.File(source) as file:
            target = file["reconstruction_rss"][()]
        assert np.linalg.norm(images(tmp_path / source.name) - target) < 0.6 * np.linalg.norm(target)


def test_what_this_very_run_made_is_skipped_and_anything_else_is_an_error(mrirecon, data, tmp_path) -> None:
    words = ["reconstruct", data / "multicoil_val", tmp_path, "--method", "cg-sense", *MASK, "--strength"]
    assert mrirecon(*words, "0.01").code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    done = mrirecon(*words, "0.01")
    assert done.code == 0 and "2 of 2 files are finished already" in done.out
    other = mrirecon(*words, "0.02")
    assert other.code == 2 and "was made in another way" in other.err
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert mrirecon(*words, "0.02", "--overwrite").code == 0
    assert before.keys() == set(tmp_path.iterdir())


def test_one_bad_file_does_not_stop_the_rest(mrirecon, data, tmp_path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(data / "multicoil_val", folder)
    (folder / "a_broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with h5py.File(folder / "z_nan.h5", "w") as file, h5py.File(next((data / "multicoil_val").iterdir())) as good:
        kspace = good["kspace"][()]
        kspace[1, 0, 3, 5] = np.nan
        file["kspace"] = kspace
    done = mrirecon("reconstruct", folder, out, "--method", "zero-filled", *MASK)
    assert done.code == 1 and "2 of 4 files failed" in done.err
    assert "a_broken.h5" in done.err and "z_nan.h5: slice 1 of kspace holds NaN" in done.err
    assert sorted(path.name for path in out.iterdir()) == sorted(p.name for p in (data / "multicoil_val").glob("*.h5"))


def test_undersampled_files_keep_their_own_mask(mrirecon, data, tmp_path) -> None:
    source = next((data / "multicoil_val").glob("*.h5"))
    mask = np.zeros(24, np.float32)
    mask[::3] = mask[9:15] = 1
    with h5py.File(source) as whole, h5py.File(tmp_path / "under.h5", "w") as file:
        file["kspace"] = whole["kspace"][()] * mask
        file["mask"], file["ismrmrd_header"] = mask, whole["ismrmrd_header"][()]
        file.attrs.update(acquisition="AXT2", num_low_frequency=6)
    np.save(tmp_path / "mask.npy", mask)
    shutil.copy(source, tmp_path / "full.h5")
    zero_filled = ["--method", "zero-filled"]
    assert mrirecon("reconstruct", tmp_path / "under.h5", tmp_path / "a", *zero_filled).code == 0
    mask_file = ["--mask_file", tmp_path / "mask.npy"]
    assert mrirecon("reconstruct", tmp_path / "full.h5", tmp_path / "b", *zero_filled, *mask_file).code == 0
    assert np.allclose(images(tmp_path / "a" / "under.h5"), images(tmp_path / "b" / "full.h5"), rtol=1e-4, atol=1e-9)


def test_predict_writes_the_same_images_as_reconstruct(mrirecon, data, trained, tmp_path) -> None:
    assert mrirecon("predict", "--run", trained, "--output", tmp_path / "a").code == 0
    assert mrirecon("reconstruct", data / "multicoil_test", tmp_path / "b", "--model", trained, *MASK).code == 0
    for path in (tmp_path / "a").iterdir():
        assert np.array_equal(images(path), images(tmp_path / "b" / path.name))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "cg-sense", *MASK], "cg-sense needs --strength"),
        (["--method", "zero-filled"], "is fully sampled; say how to undersample it"),
        (["--method", "zero-filled", "--mask_type", "random", "--accelerations", "0.5"], "acceleration 0.5"),
        (["--method", "zero-filled", "--mask_file", "nowhere.npy"], "mask file nowhere.npy cannot be read"),
        (["--method", "magic"], "method"),
        (["--model", "nowhere", *MASK], "nowhere does not exist"),
        (MASK, "name either --model"),
        (["--method", "zero-filled", "--device", "gpu9", *MASK], "--device gpu9 cannot be used"),
        (["--method", "l1-wavelet", "--strength", "0.01", "--wavelet", "bior1.3", *MASK], "wavelet='bior1.3'"),
        (["--method", "zero-filled", "--batch_size", "0", *MASK], "--batch_size 0"),
    ],
)
def test_what_cannot_start_says_why_and_writes_nothing(mrirecon, data, tmp_path, words, message) -> None:
    done = mrirecon("reconstruct", data / "multicoil_val", tmp_path / "out", *words)
    assert done.code == 2 and message in done.err
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_and_a_missing_one_are_named(mrirecon, tmp_path) -> None:
    for folder, message in ((tmp_path, "holds no .h5 file"), (tmp_path / "nowhere", "does not exist")):
        done = mrirecon("reconstruct", folder, tmp_path / "out", "--method", "zero-filled", *MASK)
        assert done.code == 2 and message in done.err


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "foreign", "unknown class"])
def test_an_unreadable_checkpoint_is_one_sentence(mrirecon, data, trained, tmp_path, damage) -> None:
    import torch

    path = tmp_path / "model.ckpt"
    good = trained / "checkpoints" / "best.ckpt"
    if damage == "truncated":
        path.write_bytes(good.read_bytes()[:-2000])
    elif damage == "foreign":
        torch.save({"state_dict": {"w": torch.zeros(1)}}, path)
    elif damage == "unknown class":
        checkpoint = torch.load(good, weights_only=True)
        checkpoint["mrirecon"]["net"]["class_path"] = "subprocess.Popen"
        torch.save(checkpoint, path)
    else:
        path.write_text("not a checkpoint" if damage == "text" else "")
    done = mrirecon("reconstruct", data / "multicoil_val", tmp_path / "out", "--model", path, *MASK)
    assert done.code == 2 and "model.ckpt" in done.err and len(done.err) < 1500
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_brings_code_is_refused_unread(mrirecon, data, tmp_path) -> None:
    import pickle

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "harm"),))

    (tmp_path / "model.ckpt").write_bytes(pickle.dumps({"state_dict": Harm()}))
    done = mrirecon("reconstruct", data / "multicoil_val", tmp_path / "out", "--model", tmp_path / "model.ckpt", *MASK)
    assert done.code == 2 and not (tmp_path / "harm").exists()


def test_the_version_is_printed(mrirecon) -> None:
    assert mrirecon("--version").out.strip() == f"mrirecon {__version__}"
