"""Sampling patterns: fastMRI's masks bit for bit, seeds, patterns from file, refusals."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
import torch

from mrirecon.errors import InputError
from mrirecon.physics.sampling import (
    LineType,
    MaskType,
    Sampling,
    center_run,
    draw_lines,
    fastmri_mask,
    file_seed,
    sample_seed,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "fastmri_masks_golden.json").read_text())


@pytest.fixture(scope="module")
def subsample() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastmri's own, at import
        return pytest.importorskip(
            "fastmri.data.subsample", reason="the fastmri package is not installed", exc_type=ImportError
        )


@pytest.mark.parametrize("kind", get_args(LineType))
def test_every_golden_mask_of_fastmri_is_reproduced(kind: LineType) -> None:
    cases = [case for case in GOLDEN if case["kind"] == kind]
    assert len(cases) == 20
    for case in cases:
        mask = fastmri_mask(kind, case["W"], case["R"], case["cf"], case["fname"])
        assert mask.dtype == np.float32
        assert "".join(str(int(column)) for column in mask) == case["mask"], case

        accelerations, center_fractions = (tuple(np.atleast_1d(case[key]).tolist()) for key in ("R", "cf"))
        pattern = Sampling(kind, accelerations, center_fractions).draw((20, case["W"]), file_seed(case["fname"]))
        assert (pattern.mask == mask).all() and pattern.mask.shape == (1, case["W"])
        assert pattern.n_low == case["num_low"]
        assert pattern.acceleration == case["W"] / case["lines"]


def test_a_thousand_random_masks_equal_those_of_the_fastmri_package(subsample: ModuleType) -> None:
    rng = np.random.default_rng(0)
    n_equal = 0
    while n_equal < 1000:
        kind = rng.choice(get_args(LineType))
        n_pairs = rng.integers(1, 4)
        width = int(rng.integers(16, 700))
        whole = kind in ("equispaced", "magic") or rng.random() < 0.5
        accelerations = [int(r) if whole else float(r) for r in rng.uniform(1, 16, n_pairs)]
        center_fractions = rng.uniform(0.001, 0.3, n_pairs).tolist()
        name = f"file{rng.integers(10**7)}.h5"
        theirs = subsample.create_mask_for_mask_type(kind, center_fractions, accelerations)
        try:
            mask, n_low = theirs((1, width, 1), seed=tuple(map(ord, name)))
        except (ValueError, ZeroDivisionError):  # undefined there, refused here
            with pytest.raises(InputError, match="center fraction"):
                fastmri_mask(kind, width, accelerations, center_fractions, name)
            continue
        lines = draw_lines(kind, width, accelerations, center_fractions, np.random.RandomState(file_seed(name)))
        assert (lines.mask == mask.numpy().ravel()).all() and lines.n_low == n_low
        assert (fastmri_mask(kind, width, accelerations, center_fractions, name) == lines.mask).all()
        n_equal += 1


def test_the_choice_among_pairs_consumes_one_draw_and_a_single_pair_none() -> None:
    # The stream of RandomState(seed) is known: uniform numbers come straight from it.
    seed = file_seed("file1000000.h5")
    probability = (300 / 4 - 24) / (300 - 24)
    outer = np.r_[0:100, 200:300]
    one = fastmri_mask("random", 300, 4, 0.08, "file1000000.h5")
    assert (one[outer] == (np.random.RandomState(seed).uniform(size=300) < probability)[outer]).all()

    stream = np.random.RandomState(seed)
    stream.randint(2)
    two = fastmri_mask("random", 300, [4, 4], [0.08, 0.08], "file1000000.h5")
    assert (two[outer] == (stream.uniform(size=300) < probability)[outer]).all()
    assert (one != two).any()


def test_both_pairs_are_drawn_and_never_mixed() -> None:
    sampling = Sampling("equispaced_fraction", (4, 8), (0.08, 0.04))
    drawn = {
        (pattern.n_low, round(pattern.acceleration))
        for pattern in (sampling.draw((640, 368), sample_seed(1, 0, sample)) for sample in range(20))
    }
    assert drawn == {(29, 4), (15, 8)}


def test_magic_fraction_is_defined_or_refused_at_every_width() -> None:
    # fastMRI issue #344: a step of 0 columns, asked of the generator as randint(0, 0).
    for width in range(8, 400, 7):
        for acceleration in (1, 1.5, 4, 7.3, 12, 40):
            for center_fraction in (0.001, 0.04, 0.08, 0.3, 1):
                try:
                    mask = fastmri_mask("magic_fraction", width, acceleration, center_fraction, "file1.h5")
                except InputError as error:
                    n_low = max(1, round(width * center_fraction))
                    assert n_low >= round(width / acceleration), str(error)
                else:
                    assert 0 < mask.sum() <= width


def test_a_mask_depends_on_its_seed_alone() -> None:
    for kind in get_args(MaskType):
        sampling = Sampling(kind)
        mask = sampling.draw((64, 96), (1, 2, 3)).mask
        np.random.seed(0)  # as another library might
        sampling.draw((64, 96), (5,))
        assert (Sampling(kind).draw((64, 96), (1, 2, 3)).mask == mask).all()


def test_neighbouring_seeds_epochs_and_samples_give_unrelated_masks() -> None:
    sampling = Sampling("random")
    seeds = [(s, e, i) for s in range(4) for e in range(4) for i in range(4)]
    masks = np.stack([sampling.draw((1, 2000), sample_seed(*seed)).mask[0] for seed in seeds])
    outer = np.delete(masks, np.s_[900:1100], axis=1)
    correlation = np.corrcoef(outer) - np.eye(len(seeds))
    worst = np.abs(correlation).max()
    assert worst < 5 / np.sqrt(outer.shape[1]), worst


def test_a_poisson_pattern_has_its_calibration_square_and_acceleration() -> None:
    pattern = Sampling("poisson", (6.0,), (0.1,)).draw((120, 80), file_seed("file1.h5"))
    assert pattern.mask.shape == (120, 80) and pattern.mask.dtype == np.float32
    assert pattern.n_low == 8 <= center_run(pattern.mask)
    assert pattern.acceleration == pytest.approx(6, rel=0.02)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_a_mask_is_read_from_a_file(tmp_path: Path, dtype: type) -> None:
    lines = fastmri_mask("equispaced", 50, 5, 0.1, "file1.h5")
    np.save(tmp_path / "lines.npy", lines.astype(dtype))
    pattern = Sampling(mask_file=str(tmp_path / "lines.npy")).draw((30, 50), (0,))
    assert (pattern.mask == lines).all() and pattern.mask.shape == (1, 50) and pattern.mask.dtype == np.float32
    assert pattern.acceleration == 50 / lines.sum()
    assert pattern.n_low == center_run(lines)

    grid = Sampling("poisson", (3,), (0.2,)).draw((30, 50), (0,)).mask
    np.save(tmp_path / "grid.npy", grid.astype(dtype))
    assert (Sampling(mask_file=str(tmp_path / "grid.npy")).draw((30, 50), (0,)).mask == grid).all()


def test_a_mask_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "mask.npy")
    np.save(path, np.ones(50))
    with pytest.raises(InputError, match=r"\(1, 50\) for k-space 30x48"):
        Sampling(mask_file=path).draw((30, 48), (0,))
    np.save(path, np.ones((30, 50)))
    with pytest.raises(InputError, match=r"\(30, 50\) for k-space 31x50"):
        Sampling(mask_file=path).draw((31, 50), (0,))

    unusable = [np.full(8, 0.5), np.full(8, np.nan), np.zeros(8), np.ones((2, 2, 2)), np.ones(8) * 1j, np.array(1)]
    for mask in [*unusable, np.array(["1", "0"])]:
        np.save(path, mask)
        with pytest.raises(InputError, match="array of 0 and 1"):
            Sampling(mask_file=path)


def test_a_mask_file_that_is_none_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "mask.npy"
    with pytest.raises(InputError, match="cannot be read"):
        Sampling(mask_file=str(path))
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        Sampling(mask_file=str(path))
    for content in (b"", b"0 1 0 1", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            Sampling(mask_file=str(path))
    np.save(path, np.ones(1000))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        Sampling(mask_file=str(path))


def varnet_run(mask: np.ndarray) -> int:
    """fastMRI VarNet's get_pad_and_num_low_freqs, for a mask of columns."""
    columns = torch.from_numpy(mask.astype(np.int8))
    centre = len(columns) // 2
    left, right = torch.argmin(columns[:centre].flip(0)), torch.argmin(columns[centre:])
    return max(2 * int(min(left, right)), 1)


def test_the_centre_run_is_that_of_fastmris_varnet() -> None:
    assert all(case["W"] % 2 == 0 for case in GOLDEN)  # at odd widths ours is the safer one
    for case in GOLDEN:
        mask = np.array(list(case["mask"])) == "1"
        assert center_run(mask) == varnet_run(mask) >= case["num_low"] - 1


@pytest.mark.parametrize("width", [96, 97])
def test_the_centre_run_is_sampled_where_fastmri_places_it(width: int) -> None:
    for sample in range(200):
        mask = Sampling("random", (3,), (0.1,)).draw((1, width), sample_seed(0, 0, sample)).mask[0]
        run = center_run(mask)
        left = (width - run + 1) // 2
        assert run >= 9 and mask[left : left + run].all(), (run, mask)


def test_the_centre_run_of_small_masks() -> None:
    runs = {
        "0110": 2,
        "1110": 2,
        "0010": 1,
        "1100": 0,
        "1111": 4,
        "11111": 5,
        "00110": 2,
        "01100": 1,
        "1111110": 4,
        "0": 0,
        "1": 1,
    }
    for columns, run in runs.items():
        assert center_run(np.array(list(columns)) == "1") == run, columns
    grid = np.zeros((10, 12))
    grid[3:7, 3:9] = 1  # rows -2 to 1 and columns -3 to 2 about the centre
    assert center_run(grid) == 4
    assert center_run(np.ones((9, 12))) == 9


@pytest.mark.parametrize("kind", get_args(LineType))
def test_a_fully_sampled_or_whole_float_acceleration_is_fine(kind: LineType) -> None:
    whole, as_float = (fastmri_mask(kind, 96, acceleration, 0.1, "file1.h5") for acceleration in (4, 4.0))
    assert (whole == as_float).all()
    assert fastmri_mask(kind, 96, 1, 0.1, "file1.h5").sum() >= 95  # equispaced_fraction leaves out the last column


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gaussian", (4,), (0.08,)), "mask type 'gaussian'; expected one of random"),
        (("random", (0.5,), (0.08,)), "acceleration 0.5"),
        (("random", (float("nan"),), (0.08,)), "acceleration nan"),
        (("random", (4, float("inf")), (0.08, 0.04)), "acceleration inf"),
        (("random", (4,), (0,)), "center fraction 0;"),
        (("random", (4,), (8,)), "center fraction 8;"),
        (("random", (4, 8), (0.08,)), r"accelerations \[4, 8\] with center fractions \[0.08\]"),
        (("random", (), ()), "at least 1"),
        (("equispaced", (4.5,), (0.08,)), "use equispaced_fraction"),
        (("magic", (4.5,), (0.08,)), "use magic_fraction"),
    ],
)
def test_values_out_of_range_are_refused_when_given(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(*arguments)
    with pytest.raises(InputError, match=message):
        fastmri_mask(arguments[0], 320, arguments[1], arguments[2], "file1.h5")


@pytest.mark.parametrize("kind", get_args(MaskType))
def test_a_centre_beyond_the_budget_is_refused_whichever_pair_is_drawn(kind: MaskType) -> None:
    for seed in range(4):
        with pytest.raises(InputError, match="lower the acceleration"):
            Sampling(kind, (2, 16), (0.04, 0.5)).draw((320, 320), (seed,))
    with pytest.raises(InputError, match="gives 0 of"):
        Sampling(kind).draw((4, 4), (0,))


def test_beyond_the_budget_a_rule_of_fastmri_answers_only_where_it_is_defined() -> None:
    assert fastmri_mask("random", 368, 16, 0.08, "file1.h5").sum() == 29
    for kind in ("equispaced_fraction", "magic_fraction"):
        with pytest.raises(InputError, match="gives 29 of 368"):
            fastmri_mask(kind, 368, 16, 0.08, "file1.h5")
    with pytest.raises(InputError, match="gives 368 of 368"):
        fastmri_mask("random", 368, 1, 1, "file1.h5")
