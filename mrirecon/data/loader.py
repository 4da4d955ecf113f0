"""Reading ahead: batches in the order of their sampler, by this process or by workers."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from mrirecon.data.batches import Batches
from mrirecon.data.slices import Slice, Slices


def loader(slices: Slices, batches: Batches, num_workers: int) -> DataLoader[Slice]:
    """The batches, read by ``num_workers`` processes; 0 reads in this one."""
    return _Loader(
        slices,
        sampler=batches,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        generator=torch.Generator(),  # else each loader draws from torch's own, which a denoiser may use
        pin_memory=torch.cuda.is_available(),
        persistent_workers=batches.seed is not None and num_workers > 0,
    )


def _as_it_is(batch: Any) -> Any:
    """In place of torch's conversion, which would turn the tuples of a batch into lists."""
    return batch


class _Loader(DataLoader[Slice]):
    """Tells Lightning, which would warn, that the order resumes; the position itself is the data module's state.

    A loader's own state would not do: Lightning does not restore it after a checkpoint at the end of an epoch.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
