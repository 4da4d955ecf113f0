"""A callback that writes down what a process of a training does: which slices it reads, and when all processes meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

MEETINGS = ("all_reduce", "broadcast", "barrier", "monitored_barrier", "all_gather_object", "broadcast_object_list")


class Spy(pl.Callback):
    """Writes ``folder/rank.json`` at the end of training.

    Args:
        folder: where to write.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.read: list[tuple[int, ...]] = []
        self.met: list[tuple[int, int, str]] = []
        self.place = (0, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def spied(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                if not kwargs.get("async_op"):
                    self.met.append((*self.place, name))
                return original(*args, **kwargs)

            return call

        for name in MEETINGS:
            setattr(dist, name, spied(name, getattr(dist, name)))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.read.append((trainer.current_epoch, *batch.number))
        self.place = (trainer.current_epoch, batch_idx)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = {"read": self.read, "met": self.met, "shared_out": [list(b) for b in pl_module.link.blocks]}
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(found))
