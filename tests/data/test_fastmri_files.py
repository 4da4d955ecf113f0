"""Claims about fastMRI files: what is read is what was written, and a bad file is named with what is wrong."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from mrirecon.cropping import center_crop
from mrirecon.data import (
    ismrmrd_header,
    list_volumes,
    read_kspace,
    read_target,
    read_volume,
    reconstruction_file,
    write_reconstruction,
    write_volume,
)
from mrirecon.data.header import parse_header
from mrirecon.errors import InputError


def read(path, index, mask=None):
    volume = read_volume(path)
    out = np.empty((volume.n_coils, *volume.shape), np.complex64)
    read_kspace(volume, index, out, mask)
    return out


def test_a_volume_is_read_as_it_was_written(make_volume):
    path = make_volume(lines=20)
    volume = read_volume(path)
    assert (volume.n_slices, volume.n_coils, volume.shape) == (3, 4, (32, 24))
    assert (volume.acquisition, volume.patient, volume.target) == ("AXT2", "disc", "reconstruction_rss")
    assert (volume.geometry.padding_left, volume.geometry.padding_right) == (2, 22)
    with h5py.File(path) as file:
        assert np.array_equal(read(path, 1), file["kspace"][1])
        target = np.empty(volume.crop, np.float32)
        read_target(volume, 2, target)
        assert np.array_equal(target, file["reconstruction_rss"][2])
        assert volume.peak == file["reconstruction_rss"][()].max()


@pytest.mark.parametrize("chunked", [False, True])
def test_single_coil_compressed_and_plain_files_read_alike(tmp_path, make_volume, chunked):
    kspace = read(make_volume(), 0)[:1]
    for name, stored in (("multi", kspace[None]), ("single", kspace)):
        path = write_volume(tmp_path / f"{name}.h5", stored)
        if chunked:
            with h5py.File(path, "r+") as file:
                del file["kspace"]
                file.create_dataset("kspace", data=stored, compression="gzip")
        assert np.array_equal(read(path, 0), kspace)


def test_masked_kspace_is_the_product_and_holds_no_negative_zero(make_volume):
    path = make_volume()
    mask = (np.arange(24) % 3 == 0).astype(np.float32)[None]
    masked = read(path, 0, mask)
    assert np.array_equal(masked, read(path, 0) * mask)
    assert not np.signbit(masked.real[..., 1]).any() and not np.signbit(masked.imag[..., 1]).any()


def test_a_single_coil_file_prefers_the_esc_target(make_volume):
    esc = np.full((3, 20, 20), 2, np.float32)
    kspace = np.ones((3, 32, 24), np.complex64)
    assert read_volume(make_volume(kspace=kspace, datasets={"reconstruction_esc": esc})).target == "reconstruction_esc"
    assert read_volume(make_volume(datasets={"reconstruction_esc": esc})).target == "reconstruction_rss"


def test_the_header_gives_the_same_padding_as_fastmri():
    # fastMRI: left = encoded.y // 2 - center; right = left + maximum + 1
    geometry = parse_header(ismrmrd_header((640, 372), (320, 320), lines=331), 372)
    assert geometry.encoded == (640, 372) and geometry.recon == (320, 320)
    assert (geometry.padding_left, geometry.padding_right) == (372 // 2 - 165, 372 // 2 - 165 + 331)


def test_without_a_header_the_sizes_come_from_the_data(make_volume):
    volume = read_volume(make_volume(header=None))
    assert volume.geometry.recon == (20, 20) and volume.geometry.padding_right == 24


def test_an_image_of_203_columns_is_scored_on_its_own_square(make_volume):
    # fastMRI's FLAIR-203 rule: a 320-column recon size does not fit k-space of 203 columns.
    volume = read_volume(make_volume(shape=(2, 1, 64, 21), recon=(32, 32), with_target=False))
    assert volume.crop == (21, 21)


def test_a_centre_crop_of_odd_and_even_sizes_begins_where_fastmri_begins():
    image = np.arange(35).reshape(5, 7)
    assert center_crop(image, (2, 4)).tolist() == [[8, 9, 10, 11], [15, 16, 17, 18]]


def test_a_file_replaced_while_open_is_read_anew(make_volume):
    first = read(make_volume(seed=1), 0)
    second = read(make_volume(seed=2), 0)
    assert not np.array_equal(first, second)


def test_a_stored_mask_may_be_bool_and_keeps_what_the_file_says_of_it(make_volume):
    mask = np.arange(24) % 2 == 0
    attrs = {"acquisition": "AXT1", "acceleration": 4, "num_low_frequency": 3}
    volume = read_volume(make_volume(with_target=False, datasets={"mask": mask}, attrs=attrs))
    assert np.array_equal(volume.mask[0], mask) and volume.mask.dtype == np.float32
    assert (volume.n_low, volume.acceleration, volume.target, volume.peak) == (3, 4.0, None, 0.0)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_hdf5(path: Path) -> None:
    path.write_bytes(b"MATLAB 5.0 MAT-file" * 100)


def edited(change):
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def replaced(name: str, data):
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = data

    return edited(change)


DAMAGE = {
    "cut short": (cut_short, "cut short"),
    "not HDF5": (not_hdf5, "HDF5"),
    "without k-space": (edited(lambda file: file.pop("kspace")), "'kspace'"),
    "real k-space": (replaced("kspace", np.ones((3, 4, 32, 24))), "float64"),
    "k-space of five axes": (replaced("kspace", np.ones((1, 3, 4, 32, 24), complex)), r"\(1, 3, 4, 32, 24\)"),
    "a target of other slices": (replaced("reconstruction_rss", np.ones((2, 20, 20))), r"\(2, 20, 20\)"),
    "a header that is no XML": (replaced("ismrmrd_header", b"<ismrmrdHeader"), "not XML"),
    "a header with entities": (replaced("ismrmrd_header", b'<!DOCTYPE x [<!ENTITY a "b">]><x/>'), "DOCTYPE"),
    "a header without sizes": (replaced("ismrmrd_header", b"<ismrmrdHeader/>"), "encodedSpace"),
    "a mask of other width": (
        edited(lambda file: file.create_dataset("mask", data=np.ones(9))),
        r"mask of shape \(9,\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_file_is_named_with_what_is_wrong(make_volume, damage):
    path = make_volume()
    change, words = DAMAGE[damage]
    change(path)
    with pytest.raises(InputError, match=words) as error:
        read_volume(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, complex(0, -np.inf)])
def test_one_sample_that_is_not_finite_is_found(make_volume, value):
    path = make_volume()
    with h5py.File(path, "r+") as file:
        file["kspace"][1, 2, 30, 1] = value
    read(path, 0)
    with pytest.raises(InputError, match="slice 1 of kspace holds NaN or infinity"):
        read(path, 1, np.zeros((1, 24), np.float32))


def test_huge_finite_samples_are_no_error(make_volume):
    path = make_volume()
    with h5py.File(path, "r+") as file:
        file["kspace"][0] = 3e38
    assert np.isfinite(read(path, 0)).all()


def test_folders_list_their_volumes_by_name_and_empty_ones_are_refused(tmp_path, make_volume):
    names = [make_volume(f"some/{name}.h5").name for name in ("b", "a")]
    (tmp_path / "some" / ".hidden.h5").touch()
    assert [path.name for path in list_volumes(tmp_path / "some")] == sorted(names)
    (tmp_path / "empty").mkdir()
    for place in ("empty", "absent"):
        with pytest.raises(InputError, match=place):
            list_volumes(tmp_path / place)


def test_a_reconstruction_is_written_slice_by_slice_with_attributes_of_the_end(tmp_path):
    attrs = {"model": "x"}
    with reconstruction_file(tmp_path / "deep" / "file1.h5", (2, 3, 5), attrs) as dataset:
        for i in range(2):
            dataset[i] = np.full((3, 5), i)
        attrs["late"] = "yes"
    with h5py.File(tmp_path / "deep" / "file1.h5") as file:
        assert file["reconstruction"].dtype == np.float32 and file["reconstruction"][1].mean() == 1
        assert dict(file.attrs) == {"model": "x", "late": "yes"}


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = write_reconstruction(tmp_path / "file1.h5", np.ones((1, 2, 2)), (1, 2, 2), {})
    for slices in ([np.ones((3, 3))], [], [np.ones((2, 2))] * 2):
        with pytest.raises(InputError):
            write_reconstruction(path, slices, (1, 2, 2), {})
    assert [file.name for file in tmp_path.iterdir()] == ["file1.h5"]
    with h5py.File(path) as file:
        assert file["reconstruction"][()].tolist() == [[[1, 1], [1, 1]]]
