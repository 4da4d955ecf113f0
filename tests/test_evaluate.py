"""The command that scores files: fastMRI's numbers, a table, JSON, a picture, and errors that name the file."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mrirecon.cli import main
from mrirecon.errors import InputError
from mrirecon.figures import comparison
from mrirecon.metrics import Scores
from mrirecon.summary import VolumeScores, summarise


def write(path: Path, name: str, volume: np.ndarray, **attrs: str | float) -> np.ndarray:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file[name] = volume.astype(np.float32)
        file.attrs.update(attrs)
    return volume.astype(np.float32)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three targets, of 28 rows more than columns in one; two reconstructions of each, `net` better than `zf`."""
    rng = np.random.default_rng(0)
    for i, (kind, shape) in enumerate([("AXT2", (2, 32, 32)), ("AXT2", (3, 60, 32)), ("AXFLAIR", (2, 33, 33))]):
        target = 1e-4 * rng.uniform(size=shape).cumsum(-1)
        write(tmp_path / "targets" / f"v{i}.h5", "reconstruction_rss", target, acquisition=kind, acceleration=8)
        for folder, noise in (("zf", 3e-4), ("net", 1e-4)):
            image = target + noise * rng.normal(size=shape)
            write(tmp_path / folder / f"v{i}.h5", "reconstruction", image, acceleration=4.0)
    return tmp_path


def scores_by_hand(target: np.ndarray, image: np.ndarray) -> dict[str, float]:
    rows = slice((target.shape[1] - target.shape[2]) // 2, (target.shape[1] + target.shape[2]) // 2)
    target, image = target[:, rows], image[:, rows]
    peak = target.max()
    return {
        "nmse": float(((target - image) ** 2).sum() / (target**2).sum()),
        "psnr": peak_signal_noise_ratio(target, image, data_range=peak),
        "ssim": np.mean([structural_similarity(t, x, data_range=peak) for t, x in zip(target, image, strict=True)]),
    }


def test_scores_in_the_json_are_those_of_skimage_after_fastmri_s_crop(folders, capsys):
    arguments = [str(folders / name) for name in ("targets", "zf", "net")]
    assert main(["evaluate", *arguments, "--json", str(folders / "scores.json")]) == 0
    content = json.loads((folders / "scores.json").read_text())
    assert len(content["volumes"]) == 6
    for row in content["volumes"]:
        with (
            h5py.File(folders / "targets" / row["file"]) as t,
            h5py.File(folders / row["reconstruction"] / row["file"]) as p,
        ):
            expected = scores_by_hand(t["reconstruction_rss"][()], p["reconstruction"][()])
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6)
        assert row["acceleration"] == 4, "the reconstruction says how it was undersampled, not the target"
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("AXT2", "AXFLAIR", "all", "zf", "net", "PSNR", "±"))
    assert sorted(file.name for file in folders.iterdir()) == ["net", "scores.json", "targets", "zf"]


def test_the_summary_is_mean_and_two_standard_deviations_over_volumes_and_the_paired_difference():
    rows = [
        VolumeScores(volume, label, kind, 4.0, Scores(0.1, psnr + gain, 0.9))
        for volume, kind, psnr in (("a", "T1", 30.0), ("b", "T1", 34.0), ("c", "T2", 20.0))
        for label, gain in (("zf", 0.0), ("net", 2.0))
    ]
    summaries = {(s.group and s.group[0], s.reconstruction): s for s in summarise(rows)}
    assert list(summaries) == [("T1", "zf"), ("T1", "net"), ("T2", "zf"), ("T2", "net"), (None, "zf"), (None, "net")]
    t1 = summaries["T1", "net"]
    assert t1.volumes == 2 and t1.mean.psnr == 34 and t1.spread.psnr == pytest.approx(2 * 8**0.5)
    assert summaries["T2", "zf"].spread is None and summaries["T1", "zf"].difference is None
    assert all(summaries[group, "net"].difference.psnr == 2 for group in ("T1", "T2", None))


def test_a_difference_is_only_shown_where_both_have_the_same_volumes():
    rows = [
        VolumeScores("a", label, "T1", acceleration, Scores(0.1, 30, 0.9))
        for label, acceleration in (("x", 4), ("y", 8))
    ]
    summaries = {(s.group and s.group[1], s.reconstruction): s for s in summarise(rows)}
    assert summaries[8, "y"].difference is None and summaries[None, "y"].difference == (0, 0, 0)


def test_volumes_are_chosen_by_acquisition_and_acceleration(folders, capsys):
    zf, targets = str(folders / "zf"), str(folders / "targets")
    (folders / "zf" / "v2.h5").unlink()  # FLAIR, so not missed
    assert main(["evaluate", targets, zf, "--acquisition", "AXT2", "--acceleration", "4"]) == 0
    assert "AXFLAIR" not in capsys.readouterr().out
    assert main(["evaluate", targets, zf, "--acquisition", "AXT2", "--acceleration", "8"]) == 2
    assert "no volume has acceleration 8" in capsys.readouterr().err
    assert main(["evaluate", targets, zf, "--acquisition", "AXT1"]) == 2
    assert "it holds AXFLAIR, AXT2" in capsys.readouterr().err


def test_one_file_is_scored_against_one_file_or_a_folder(folders):
    target = str(folders / "targets" / "v1.h5")
    assert main(["evaluate", target, str(folders / "zf" / "v0.h5"), str(folders / "net" / "v1.h5")]) == 2
    assert main(["evaluate", target, str(folders / "zf" / "v1.h5"), str(folders / "net")]) == 0


def test_single_coil_targets_are_scored_against_the_emulated_single_coil_image(folders):
    with h5py.File(folders / "targets" / "v0.h5", "a") as file:
        file["reconstruction_esc"] = 2 * file["reconstruction_rss"][()]
    arguments = [str(folders / "targets" / "v0.h5"), str(folders / "net" / "v0.h5")]
    assert main(["evaluate", *arguments, "--json", str(folders / "s.json")]) == 0
    assert json.loads((folders / "s.json").read_text())["volumes"][0]["nmse"] > 0.2


def break_files(folders: Path, how: str) -> list[str]:
    targets, zf = folders / "targets", folders / "zf"
    match how:
        case "missing":
            (zf / "v1.h5").unlink()
        case "extra":
            write(zf / "other.h5", "reconstruction", np.ones((2, 32, 32)))
        case "slices":
            write(zf / "v1.h5", "reconstruction", np.ones((2, 60, 32)))
        case "small":
            write(zf / "v1.h5", "reconstruction", np.ones((3, 60, 30)))
        case "nan":
            write(zf / "v1.h5", "reconstruction", np.full((3, 60, 32), np.nan))
        case "name":
            write(zf / "v1.h5", "image", np.ones((3, 60, 32)))
        case "truncated":
            (zf / "v1.h5").write_bytes((zf / "v1.h5").read_bytes()[:3000])
        case "zero":
            write(targets / "v1.h5", "reconstruction_rss", np.zeros((3, 60, 32)), acquisition="AXT2")
        case "twice":
            return [str(targets), str(zf), str(folders / "net" / ".." / "zf")]
        case "folder":
            return [str(targets), str(folders / "nothing")]
    return [str(targets), str(zf)]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "zf lacks v1.h5"),
        ("extra", "zf holds other.h5"),
        ("slices", "v1.h5"),
        ("small", "zf/v1.h5"),
        ("nan", "zf/v1.h5: reconstruction holds NaN"),
        ("name", "zf/v1.h5 has no dataset 'reconstruction'; it holds image"),
        ("truncated", "zf/v1.h5"),
        ("zero", "targets/v1.h5: the target is nowhere above zero"),
        ("twice", "twice"),
        ("folder", "nothing does not exist"),
    ],
)
def test_files_that_cannot_be_scored_end_with_code_2_their_name_and_no_output(folders, capsys, how, message):
    arguments = break_files(folders, how)
    assert main(["evaluate", *arguments, "--json", str(folders / "scores.json")]) == 2
    assert message in capsys.readouterr().err
    assert not (folders / "scores.json").exists()


def test_a_perfect_reconstruction_has_null_for_its_infinite_psnr_in_the_json(folders):
    with h5py.File(folders / "targets" / "v0.h5") as file:
        write(folders / "net" / "v0.h5", "reconstruction", file["reconstruction_rss"][()])
    arguments = [str(folders / "targets" / "v0.h5"), str(folders / "net"), "--json", str(folders / "s.json")]
    assert main(["evaluate", *arguments]) == 0
    row = json.loads((folders / "s.json").read_text())["volumes"][0]
    assert row["psnr"] is None and row["nmse"] == 0 and row["ssim"] == 1


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_picture_is_written_whole_in_the_kind_its_name_says(folders, kind):
    path = folders / f"picture.{kind}"
    arguments = [str(folders / name) for name in ("targets", "zf", "net")]
    assert main(["evaluate", *arguments, "--picture", str(path)]) == 0
    assert path.stat().st_size > 5000
    assert len(list(folders.iterdir())) == 4, "a temporary file was left behind"


def test_a_picture_that_cannot_be_drawn_is_refused(tmp_path):
    image = np.random.default_rng(0).uniform(size=(16, 12))
    with pytest.raises(InputError, match=r"net \(12, 16\)"):
        comparison(tmp_path / "a.png", image, {"net": image.T})
    with pytest.raises(InputError, match=r"\.doc"):
        comparison(tmp_path / "a.doc", image, {"net": image})
    with pytest.raises(InputError, match="not a folder"):
        comparison(tmp_path / "no" / "a.png", image, {"net": image})
    assert not list(tmp_path.iterdir())


def test_evaluate_refuses_an_output_folder_that_is_not_there_before_it_scores(folders, capsys):
    assert (
        main(["evaluate", str(folders / "targets"), str(folders / "zf"), "--json", str(folders / "no" / "s.json")]) == 2
    )
    assert "no is not a folder" in capsys.readouterr().err
