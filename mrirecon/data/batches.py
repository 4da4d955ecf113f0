"""The order in which slices are read: batches of equal shape, shuffled from a seed, shared out over replicas.

The order depends on (seed, epoch) alone, so one process and several read the same batches, and a resumed run continues
with the batch that came next.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]  # (epoch, number of the slice)


class Batches(Sampler[list[Key]]):
    """Batches of keys for ``DataLoader(slices, sampler=Batches(...), batch_size=None)``.

    shapes: what slices of one batch have in common, for each slice; see ``Slices.shape_of``.
    batch_size: slices per batch; the last batch of each shape may be smaller.
    seed: shuffles slices and batches anew each epoch; None keeps volume order.
    rank, world: this replica and their number. Each gets the same number of batches; the first are given out again to
        make up the last round.
    """

    def __init__(
        self,
        shapes: Sequence[Hashable],
        batch_size: int = 1,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.shapes = list(shapes)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self._done: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch of training, but on resuming only after the order was asked for."""
        self.epoch = epoch

    def resume(self, epoch: int, batches: int) -> None:
        """Continue in ``epoch``, whose first ``batches`` of this replica are done; later epochs are whole."""
        self.epoch = epoch
        self._done = epoch, batches

    def __len__(self) -> int:
        """Batches of a whole epoch for one replica; whatever was done before resuming."""
        sizes: dict[Hashable, int] = {}
        for shape in self.shapes:
            sizes[shape] = sizes.get(shape, 0) + 1
        n_batches = sum(-(-size // self.batch_size) for size in sizes.values())
        return -(-n_batches // self.world)

    def __iter__(self) -> Iterator[list[Key]]:
        """This replica's batches of the epoch, without those done before resuming."""
        batches = self._batches()
        n = len(self) * self.world
        batches = [batches[i % len(batches)] for i in range(n)]
        done = self._done[1] if self._done is not None and self._done[0] == self.epoch else 0
        return iter(batches[self.rank :: self.world][done:])

    def _batches(self) -> list[list[Key]]:
        order = np.arange(len(self.shapes))
        rng = None if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        if rng is not None:
            rng.shuffle(order)
        batches: list[list[Key]] = []
        filling: dict[Hashable, list[Key]] = {}
        for number in order.tolist():
            shape = self.shapes[number]
            batch = filling.get(shape)
            if batch is None:
                batch = filling[shape] = []
                batches.append(batch)
            batch.append((self.epoch, number))
            if len(batch) == self.batch_size:
                del filling[shape]
        if rng is not None:
            # The small batches at the end of each shape would otherwise always come last.
            rng.shuffle(batches)
        return batches
