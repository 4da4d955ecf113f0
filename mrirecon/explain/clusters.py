"""Clusters of the patterns of open gates: k-means of 0/1 vectors that come in blocks, so that memory stays bounded.

Centres are found on a random sample of pixels; then every pixel goes to the nearest one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2
from torch import Tensor

from mrirecon.errors import InputError

SAMPLE = 20_000  # pixels that centres are found on
MOST = 255  # clusters: a number is one byte
ITERATIONS = 30


@dataclass(frozen=True)
class Clusters:
    """Clusters, the largest first.

    numbers: (pixel,), uint8, the cluster of each. sizes: (cluster,), pixels in it, 1 or more.
    means: (cluster, gate), the share of a cluster's pixels at which a gate is open.
    n_patterns: how many different patterns there are, counted by hashes of 64 bits.
    """

    numbers: np.ndarray
    sizes: np.ndarray
    means: np.ndarray
    n_patterns: int


def clusters_of(patterns: Callable[[], Iterable[Tensor]], n_pixels: int, n_clusters: int, seed: int) -> Clusters:
    """At most ``n_clusters`` clusters; pixels of equal pattern are in one.

    patterns: gives the blocks (pixel, gate) of 0 and 1 that the pixels come in; called twice, and gives the same twice.
    n_pixels: in all blocks together, 1 or more.
    """
    if not 1 <= n_clusters <= MOST:
        raise InputError(f"clusters is {n_clusters}; expected 1 to {MOST}, such as 12")
    rng = np.random.default_rng(seed)
    chosen = np.arange(n_pixels) if n_pixels <= SAMPLE else np.sort(rng.choice(n_pixels, SAMPLE, replace=False))
    hashes, sample = np.empty(n_pixels, np.uint64), []
    for at, bits in _numbered(patterns()):
        # Modulo 2^64, two patterns have the sum of the same random words with a probability of 2^-64.
        words = np.random.default_rng(0).integers(2**64, size=bits.shape[1], dtype=np.uint64)
        hashes[at] = bits.astype(np.uint64) @ words
        first, end = np.searchsorted(chosen, (at.start, at.stop))
        sample.append(bits[chosen[first:end] - at.start])
    centres = _centres(np.concatenate(sample), hashes[chosen], n_clusters, rng)

    numbers, sums = np.empty(n_pixels, np.intp), np.zeros(centres.shape)
    for at, bits in _numbered(patterns()):
        # |b - c|^2 = <b, 1 - 2 c> + |c|^2 for b of 0 and 1
        numbers[at] = (bits @ (1 - 2 * centres.T) + np.square(centres).sum(1)).argmin(1)
        sums += np.eye(len(centres))[numbers[at]].T @ bits
    sizes = np.bincount(numbers, minlength=len(centres))
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    place = np.zeros(len(centres), np.uint8)
    place[order] = np.arange(len(order))
    return Clusters(place[numbers], sizes[order], sums[order] / sizes[order, None], len(np.unique(hashes)))


def _numbered(blocks: Iterable[Tensor]) -> Iterator[tuple[slice, np.ndarray]]:
    """The place of each block among all pixels, and its bits in double precision."""
    end = 0
    for block in blocks:
        at = slice(end, end + len(block))
        yield at, block.double().cpu().numpy()
        end = at.stop


def _centres(sample: np.ndarray, hashes: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """(cluster, gate), of sampled patterns and their hashes."""
    _, first = np.unique(hashes, return_index=True)
    if len(first) <= n_clusters:
        return sample[first]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clusters that lose all their pixels, which are then left out
        centres, _ = kmeans2(sample, n_clusters, ITERATIONS, minit="++", rng=rng)
    # With few digits the distances are exact, so that equal patterns are equally far, however a block is summed.
    return np.round(centres * 2**16) / 2**16
