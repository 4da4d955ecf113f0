"""The learning rate over epochs: a linear warm-up, then half a cosine down to zero.

rate(e) = rate * (e + 1) / (w + 1)  for e < w,  rate * (1 + cos(pi (e - w) / (E - w))) / 2  after
"""

from __future__ import annotations

from math import cos, pi
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Cosine(LRScheduler):
    """Warm-up and cosine decay, stepped once per epoch.

    Args:
        optimizer: the optimiser whose rates are scheduled.
        epochs: E, epochs of the whole training; null takes the trainer's ``max_epochs``.
        warmup: w, epochs of warm-up.
        last_epoch: epochs already done.
    """

    def __init__(self, optimizer: Optimizer, epochs: int | None = None, warmup: int = 1, last_epoch: int = -1) -> None:
        self.epochs = epochs
        self.warmup = warmup
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, not its settings: a run that is resumed for longer decays over its new length."""
        return {key: value for key, value in super().state_dict().items() if key not in ("epochs", "warmup")}

    def get_lr(self) -> list[float | Tensor]:
        return [rate * self.factor(self.last_epoch) for rate in self.base_lrs]

    def apply(self) -> None:
        """Set the rates of the present epoch, in the optimiser too."""
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate

    def factor(self, epoch: int) -> float:
        """The rate at an epoch as a part of the highest."""
        if epoch < self.warmup:
            return (epoch + 1) / (self.warmup + 1)
        if self.epochs is None or self.epochs <= self.warmup:
            return 1.0
        return (1 + cos(pi * min(epoch - self.warmup, self.epochs - self.warmup) / (self.epochs - self.warmup))) / 2
