"""`mrirecon explain`, as a user meets it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mrirecon import checkpoint
from mrirecon.cli import main
from tests.commands.conftest import MASK, Outcome
from tests.commands.convex_words import words as fit_words

Run = Callable[..., Outcome]
NAMES = ["stage_1.npz", "stage_1.png", "stage_2.npz", "stage_2.png"]


@pytest.fixture(scope="module")
def convex(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("convex") / "run"
    assert main(fit_words(data, run)) == 0
    return run


@pytest.fixture
def file(data: Path) -> Path:
    return min((data / "multicoil_test").glob("*.h5"))


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_every_stage_has_a_figure_and_arrays_that_are_what_reconstruct_does(
    convex: Path, file: Path, tmp_path: Path, mrirecon: Run
) -> None:
    out = tmp_path / "new" / "out"
    done = mrirecon("explain", convex, file, "--out", out, *MASK, "--all_filters", "--pixels", "16,12", "3,20")
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == NAMES
    for number in (1, 2):
        a = read(out / f"stage_{number}.npz")
        assert f"stage {number} of 2, ConvexDual: {len(a['active'])} of 20 groups active" in done.out
        padded = np.pad(np.stack([a["image"].real, a["image"].imag]), [(0, 0), (0, 0), (1, 1), (1, 1)])
        patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        parts = (patches * a["all_filters"]).sum((-2, -1))
        np.testing.assert_allclose(parts[0] + 1j * parts[1], a["result"], atol=1e-5)
        assert a["pixels"].tolist() == [[16, 12], [3, 20]]
        np.testing.assert_array_equal(a["pixel_filters"], a["all_filters"][:, :, [16, 3], [12, 20]])
        assert a["clusters"].shape == (2, 1, 32, 24) and a["cluster_sizes"].sum() == (a["clusters"] < 255).sum()
        assert a["responses"].shape == (len(a["active"]), 64, 64) and len(a["norms"]) == 20
        record = json.loads(str(a["record"]))
        assert record["stage"] == number and record["slice"] == 1 and record["source"] == file.name
        assert record["mask_type"] == "equispaced_fraction" and len(record["model_hash"]) == 64
    images = tmp_path / "images"
    assert mrirecon("reconstruct", file, images, "--model", convex, *MASK).code == 0
    with h5py.File(images / file.name) as written:
        made, found = written["reconstruction"][1], np.abs(a["result"][0])
    np.testing.assert_allclose(found / found.max(), made / made.max(), atol=1e-5)


def test_a_denoiser_without_active_groups_is_explained_too(
    data: Path, file: Path, tmp_path: Path, mrirecon: Run
) -> None:
    strong = ["--model.net.init_args.denoiser.init_args.strength", "10"]
    assert mrirecon(*fit_words(data, tmp_path / "run", "convex_one_shot", *strong)).code == 0
    done = mrirecon("explain", tmp_path / "run", file, "--out", tmp_path, *MASK, "--all_filters")
    assert done.code == 0 and "0 of 20 groups active" in done.out
    a = read(tmp_path / "stage_1.npz")
    assert a["filters"].shape == (0, 3, 3) and a["responses"].shape == (0, 64, 64)
    np.testing.assert_array_equal(a["result"], a["image"])


def test_one_stage_of_one_slice_is_explained_where_asked(
    convex: Path, file: Path, tmp_path: Path, mrirecon: Run
) -> None:
    words = ["explain", convex, file, "--out", tmp_path, *MASK, "--stage", "2", "--slice", "0", "--clusters", "3"]
    assert mrirecon(*words).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES[2:]
    a = read(tmp_path / "stage_2.npz")
    assert len(a["cluster_sizes"]) == 3 and json.loads(str(a["record"]))["slice"] == 0
    assert a["pixel_filters"].shape == (2, 1, 6, 3, 3) and "all_filters" not in a


def test_existing_files_are_replaced_only_if_asked(convex: Path, file: Path, tmp_path: Path, mrirecon: Run) -> None:
    words = ["explain", convex, file, "--out", tmp_path, *MASK, "--stage", "1"]
    (tmp_path / "stage_1.png").write_text("mine")
    done = mrirecon(*words)
    assert done.code == 2 and "stage_1.png exists" in done.err and "--overwrite" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["stage_1.png"]
    assert mrirecon(*words, "--overwrite").code == 0
    assert (tmp_path / "stage_1.png").read_bytes().startswith(b"\x89PNG")
    first = read(tmp_path / "stage_1.npz")
    assert mrirecon(*words, "--overwrite").code == 0
    again = read(tmp_path / "stage_1.npz")
    assert first.keys() == again.keys() and all(np.array_equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize(
    ("network", "denoiser"),
    [("one_shot", "ConvexDual"), ("model_based", "ConvexDual"), ("proximal_gradient", "TwoLayerReLU")],
)
def test_other_networks_of_such_denoisers_are_explained_too(
    network: str, denoiser: str, file: Path, tmp_path: Path, mrirecon: Run
) -> None:
    words = {} if network == "one_shot" else {"n_steps": 3}
    sizes = {"kernel_size": 3, "n_gates" if denoiser == "ConvexDual" else "n_neurons": 9}
    made = {"class_path": f"mrirecon.denoisers.{denoiser}", "init_args": sizes}
    net = {"class_path": f"mrirecon.unrolled.{network}", "init_args": {"denoiser": made, **words}}
    weights = {f"net.{name}": value for name, value in checkpoint.build(net, tmp_path).state_dict().items()}
    for name in weights:
        if name.endswith("filters"):
            weights[name] = 0.01 * torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(0))
    torch.save({"state_dict": weights, "mrirecon": checkpoint.record(net, {})}, tmp_path / "model.ckpt")
    stage = 1 if network == "one_shot" else 2
    out = tmp_path / "out"
    done = mrirecon("explain", tmp_path / "model.ckpt", file, "--out", out, "--stage", stage, *MASK)
    assert done.code == 0 and f"{denoiser}: 9 of 9 groups active" in done.out, done.err
    assert len(list(out.iterdir())) == 2


@pytest.mark.parametrize("size", [(2, 31, 25), (3, 5, 40, 33)])
def test_one_coil_odd_sizes_and_a_mask_in_the_file_go_through(
    size: tuple[int, ...], convex: Path, tmp_path: Path, mrirecon: Run
) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros(size[-1], np.float32)
    mask[::3] = 1
    mask[size[-1] // 2 - 4 : size[-1] // 2 + 4] = 1
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["kspace"] = (rng.standard_normal(size) + 1j * rng.standard_normal(size)).astype(np.complex64) * mask
        file["mask"] = mask
    done = mrirecon("explain", convex, tmp_path / "file.h5", "--out", tmp_path / "out", "--stage", "2", *MASK)
    assert done.code == 0 and "keeps its own mask" in done.out, done.err
    a = read(tmp_path / "out" / "stage_2.npz")
    assert a["image"].shape == (1, *size[-2:]) and json.loads(str(a["record"]))["slice"] == size[0] // 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--stage", "3"], "--stage 3; expected 1 to 2"),
        (["--stage", "0"], "--stage 0; expected 1 to 2"),
        (["--slice", "2"], "--slice 2; expected 0 to 1"),
        (["--slice", "-1"], "--slice -1; expected 0 to 1"),
        (["--pixels", "32,0"], "pixel 32,0 is not in the image of 32 x 24"),
        (["--pixels", "0,0", "5,-1"], "pixel 5,-1 is not in the image"),
        (["--pixels", "10000000000000000000000,1"], "pixel 10000000000000000000000,1 is not in the image"),
        (["--pixels", "1,2", "3"], "no list of pairs"),
        (["--pixels", "1.5,2"], "pixels"),
        (["--clusters", "0"], "--clusters 0; expected 1 to 255"),
        (["--clusters", "256"], "--clusters 256; expected 1 to 255"),
        (["--device", "gpu9"], "--device gpu9 cannot be used"),
        (["--mask_file", "mask.npy"], "give one of them"),
    ],
)
def test_what_is_not_there_is_said_and_nothing_is_written(
    more: list[str], says: str, convex: Path, file: Path, tmp_path: Path, mrirecon: Run
) -> None:
    done = mrirecon("explain", convex, file, "--out", tmp_path / "out", *MASK, *more)
    assert done.code == 2 and says in done.err, done.err
    assert not (tmp_path / "out").exists()


def test_a_denoiser_of_another_kind_is_named_with_what_can_be_explained(
    trained: Path, file: Path, tmp_path: Path, mrirecon: Run
) -> None:
    done = mrirecon("explain", trained, file, "--out", tmp_path / "out", *MASK)
    assert done.code == 2 and "a ResNet cannot be explained" in done.err and "models/pgd_convex" in done.err
    assert not (tmp_path / "out").exists()


def test_unusable_inputs_are_one_sentence(convex: Path, file: Path, tmp_path: Path, mrirecon: Run) -> None:
    spoilt, cut, model = tmp_path / "nan.h5", tmp_path / "cut.h5", tmp_path / "model.ckpt"
    shutil.copy(file, spoilt)
    with h5py.File(spoilt, "r+") as opened:
        opened["kspace"][1, 0, 3, 5] = np.nan
        opened["kspace"][0] = 0
    cut.write_bytes(file.read_bytes()[:-5000])
    model.write_bytes((convex / "checkpoints" / "last.ckpt").read_bytes()[:-2000])
    broken = torch.load(convex / "checkpoints" / "last.ckpt", weights_only=True)
    broken["state_dict"]["net.steps.1.denoiser.filters"][0] = torch.nan
    torch.save(broken, tmp_path / "broken.ckpt")
    (tmp_path / "taken").write_text("a file")
    for given, says in (
        ([convex, spoilt, *MASK], "nan.h5: slice 1 of kspace holds NaN"),
        ([convex, spoilt, *MASK, "--slice", "0"], "zero everywhere"),
        ([convex, cut, *MASK], "cut.h5"),
        ([model, file, *MASK], "model.ckpt"),
        ([tmp_path / "broken.ckpt", file, *MASK], "NaN"),  # of stage 2: not even the first is written
        ([convex, file], "is fully sampled; say how to undersample it"),
        ([convex, file.parent, *MASK], "is a folder; name one of its .h5 files"),
        ([convex, tmp_path / "nowhere.h5", *MASK], "nowhere.h5"),
        ([tmp_path / "nowhere", file, *MASK], "does not exist"),
        ([convex, file, *MASK, "--out", tmp_path / "taken"], "cannot be a folder"),
    ):
        done = mrirecon("explain", *given[:2], "--out", tmp_path / "out", *given[2:])
        assert done.code == 2 and says in done.err and len(done.err) < 600, done.err
    assert not (tmp_path / "out").exists()


def test_help_says_what_is_claimed_and_names_the_arrays(
    convex: Path, file: Path, tmp_path: Path, mrirecon: Run
) -> None:
    done = mrirecon("explain", "--help")
    text = " ".join(done.out.split())
    assert done.code == 0 and "what this denoiser does with this image; it says nothing of other images" in text
    assert mrirecon("explain", convex, file, "--out", tmp_path, *MASK, "--all_filters", "--stage", "1").code == 0
    assert all(name in text for name in read(tmp_path / "stage_1.npz"))
