"""Claims about undersampled slices: masks agree everywhere, padding stays empty, stored masks win, memory is flat."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mrirecon.data import read_volume
from mrirecon.data.batches import Batches
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slices
from mrirecon.errors import InputError
from mrirecon.physics.sampling import Sampling, fastmri_mask

SAMPLING = Sampling("equispaced_fraction", (3,), (0.25,))


def slices_of(*paths, **given) -> Slices:
    return Slices([read_volume(path) for path in paths], given.pop("sampling", SAMPLING), **given)


def test_a_slice_is_masked_kspace_with_its_mask_target_and_geometry(make_volume):
    path = make_volume()
    batch = slices_of(path, keep_full=True)[[(0, 1), (0, 2)]]
    assert torch.equal(batch.kspace, batch.full * batch.mask)
    assert batch.kspace.shape == (2, 4, 32, 24) and batch.mask.shape == (2, 1, 1, 24)
    assert batch.kspace.dtype == torch.complex64 and batch.mask.dtype == torch.float32
    assert batch.target.shape == (2, 20, 20) and batch.crop == (20, 20)
    assert batch.volume == (str(path),) * 2 and batch.index == (1, 2) and batch.n_slices == (3, 3)
    assert batch.acquisition == ("AXT2",) * 2 and batch.n_low == (6, 6)
    assert torch.equal(slices_of(path)[[(0, 1)]].kspace, batch.kspace[:1])


def test_validation_masks_are_fastmris_for_the_file_name_and_training_masks_change(make_volume):
    path = make_volume("val/file1000000.h5")
    expected = fastmri_mask("equispaced_fraction", 24, 3, 0.25, "file1000000.h5")
    fixed = slices_of(path)
    for key in ((0, 0), (0, 2), (7, 1)):
        assert np.array_equal(fixed[[key]].mask.flatten(), expected)
    random = slices_of(path, sampling=Sampling("random", (3,), (0.25,)), seed=1)
    drawn = {(epoch, i): tuple(random[[(epoch, i)]].mask.flatten().tolist()) for epoch in (0, 1) for i in range(3)}
    assert len(set(drawn.values())) == 6
    again = slices_of(path, sampling=Sampling("random", (3,), (0.25,)), seed=1)
    assert all(tuple(again[[key]].mask.flatten().tolist()) == mask for key, mask in drawn.items())


def test_padding_is_never_sampled(make_volume):
    batch = slices_of(make_volume(lines=16), sampling=Sampling("random", (1.5,), (0.25,)))[[(0, 0)]]
    assert batch.mask[..., 4:20].any() and not batch.mask[..., :4].any() and not batch.mask[..., 20:].any()
    assert not batch.kspace[..., :4].any() and not batch.kspace[..., 20:].any()


def test_a_stored_mask_is_used_and_never_another_on_top(make_volume):
    mask = np.zeros(24)
    mask[9:15] = mask[::5] = 1
    path = make_volume(datasets={"mask": mask}, with_target=False, attrs={"num_low_frequency": 6, "acceleration": 4})
    batch = slices_of(path)[[(0, 0)]]
    assert np.array_equal(batch.mask.flatten(), mask)
    assert (batch.n_low, batch.acceleration) == ((6,), (pytest.approx(24 / mask.sum()),))
    assert batch.target.shape == (1, 0, 0) and batch.crop == (20, 20) and batch.peak.tolist() == [0]


def test_without_the_attribute_the_centre_is_the_symmetric_run_of_the_stored_mask(make_volume):
    mask = np.zeros(24)
    mask[9:15] = mask[20] = 1
    square = np.zeros((32, 24))
    square[13:19, 9:15] = 1
    assert slices_of(make_volume("a/1.h5", datasets={"mask": mask}))[[(0, 0)]].n_low == (6,)
    batch = slices_of(make_volume("a/2.h5", datasets={"mask": square}))[[(0, 0)]]
    assert batch.n_low == (6,) and batch.mask.shape == (1, 1, 32, 24)


def test_narrow_images_have_targets_of_the_scored_square(make_volume):
    target = np.arange(2 * 32 * 32, dtype=np.float32).reshape(2, 32, 32)
    path = make_volume(shape=(2, 2, 64, 21), recon=(32, 32), reconstruction_rss=target)
    batch = slices_of(path)[[(0, 0)]]
    assert batch.crop == (21, 21) and torch.equal(batch.target[0], torch.from_numpy(target[0, 5:26, 5:26]))


def test_batches_of_mixed_files_hold_one_shape_each(make_volume):
    paths = [
        make_volume("mixed/a.h5"),
        make_volume("mixed/b.h5", shape=(3, 2, 32, 24)),
        make_volume("mixed/c.h5", shape=(2, 4, 33, 27)),
        make_volume("mixed/d.h5", with_target=False),
    ]
    slices = slices_of(*paths, seed=0)
    loader = DataLoader(
        slices, sampler=Batches([slices.shape_of(i) for i in range(len(slices))], 4, 0), batch_size=None
    )
    seen = [(volume, index) for batch in loader for volume, index in zip(batch.volume, batch.index, strict=True)]
    assert sorted(seen) == [(str(path), i) for path in paths for i in range(read_volume(path).n_slices)]
    assert len(loader) == 4


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_what_one_process_reads(make_volume, context):
    slices = slices_of(make_volume("two/a.h5"), make_volume("two/b.h5", seed=1), seed=3)
    keys = Batches([slices.shape_of(i) for i in range(6)], 2, seed=1)
    alone = list(DataLoader(slices, sampler=keys, batch_size=None))  # leaves open handles to be forked
    workers = DataLoader(slices, sampler=keys, batch_size=None, num_workers=2, multiprocessing_context=context)
    for one, other in zip(alone, workers, strict=True):
        assert torch.equal(one.kspace, other.kspace) and one.index == other.index and one.volume == other.volume


def test_memory_does_not_grow_with_epochs(make_volume):
    paths = [make_volume(f"many/{i}.h5", shape=(4, 4, 128, 96), seed=i) for i in range(3)]
    slices = slices_of(*paths, seed=0)

    def epoch(number: int) -> None:
        for i in range(len(slices)):
            slices[[(number, i)]]

    for number in range(3):
        epoch(number)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(3, 15):
        epoch(number)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4096, f"{grown} kB in twelve epochs"  # one epoch reads 4.6 MB


def test_files_without_a_mask_to_use_are_refused(make_volume):
    path = make_volume()
    with pytest.raises(InputError, match="fully sampled"):
        slices_of(path, sampling=None)
    masked = make_volume("test/file2.h5", datasets={"mask": np.ones(24)})
    with pytest.raises(InputError, match="no complex target"):
        slices_of(masked, keep_full=True)


def test_tensors_begin_where_torch_puts_its_own(make_volume):
    # MKL's transforms round by the alignment of their input: elsewhere, runs of one seed would drift apart.
    slices = slices_of(make_volume(shape=(3, 3, 31, 25), recon=(19, 17)), keep_full=True)
    for number in range(3):
        batch = MapCache().attach(slices[[(0, number)]])
        for tensor in (batch.kspace, batch.full, batch.target, batch.mask, batch.maps):
            assert tensor.data_ptr() % 64 == 0
