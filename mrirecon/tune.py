"""The strength at which a classical method is best, found by a sweep over files whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mrirecon.data.batches import Batches
from mrirecon.data.fastmri import Volume
from mrirecon.data.maps import MapCache
from mrirecon.data.slices import Slices
from mrirecon.errors import InputError
from mrirecon.imaging import magnitude, pose
from mrirecon.metrics import Scores, VolumeMetrics
from mrirecon.physics.sampling import Sampling
from mrirecon.reconstruct import Method


def sweep(
    volumes: Sequence[Volume],
    methods: Sequence[Method],
    sampling: Sampling,
    cache: MapCache,
    advance: Callable[[int], object] = lambda n: None,
) -> list[Scores]:
    """Mean scores over volumes of each method, all on the same masks and maps.

    volumes: fully sampled files with a target. sampling: one mask per file, seeded by its name.

    Raises InputError for a file without target.
    """
    for volume in volumes:
        if volume.target is None:
            raise InputError(f"{volume.path} has no target to compare with; tune on fully sampled files")
        if volume.mask is not None:
            raise InputError(f"{volume.path} is undersampled already; tune on fully sampled files")
    slices = Slices(volumes, sampling)
    scores = [VolumeMetrics() for _ in methods]
    with torch.inference_mode():
        for keys in Batches([slices.shape_of(i) for i in range(len(slices))]):
            batch = cache.attach(slices[keys])
            problem, scale = pose(batch)
            for method, metrics in zip(methods, scores, strict=True):
                image = magnitude(method.solve(problem) * scale, batch.crop)[0].numpy()
                metrics.update(batch.volume[0], batch.index[0], batch.n_slices[0], image, batch.target[0].numpy())
            advance(1)
    return [metrics.compute()[0] for metrics in scores]


def best(scores: Sequence[Scores]) -> int:
    """The place of the highest PSNR."""
    return max(range(len(scores)), key=lambda i: scores[i].psnr)
