"""The exponential moving average of a network's weights, which scores better than the last of them."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy

import torch
from torch import Tensor, nn

from mrirecon.errors import InputError
from mrirecon.unrolled import Unrolled


class Average(nn.Module):
    """A copy of a network that follows it: after an update, average <- d average + (1 - d) weights.

    d = min(decay, (1 + n) / (10 + n)) with n the updates of that step so far, so that the start is soon forgotten.
    """

    updates: torch.Tensor

    def __init__(self, net: Unrolled, decay: float) -> None:
        if not 0 < decay < 1:
            raise InputError(f"model.ema is {decay}; expected a decay between 0 and 1, such as 0.999, or null")
        super().__init__()
        self.net = deepcopy(net).requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros(len(net.steps), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, net: Unrolled, steps: Collection[int]) -> None:
        """Those steps of the network were updated."""
        for k in steps:
            n = self.updates[k]
            decay = ((1 + n) / (10 + n)).clamp_max(self.decay)
            for mean, new in zip(self.net.steps[k].parameters(), net.steps[k].parameters(), strict=True):
                mean.lerp_(new, (1 - decay).to(mean.dtype))
            for kept, buffer in zip(self.net.steps[k].buffers(), net.steps[k].buffers(), strict=True):
                kept.copy_(buffer)
            self.updates[k] += 1

    @torch.no_grad()
    def settle(self, net: Unrolled, steps: Collection[int]) -> None:
        """Those steps of the network are done: from now on their weights are the average, as in what is scored."""
        for k in steps:
            for weight, mean in zip(net.steps[k].parameters(), self.net.steps[k].parameters(), strict=True):
                weight.copy_(mean)


def with_average(weights: dict[str, Tensor], average: Average | None, fitting: bool) -> dict[str, Tensor]:
    """Weights of a checkpoint, "net..." and perhaps "average...", for a module with or without an average.

    An average that begins starts from the weights. One that only the checkpoint has is what is used, unless training
    goes on without it.
    """
    if average is None and not fitting and "average.updates" in weights:
        return {name.removeprefix("average."): w for name, w in weights.items() if name.startswith("average.net.")}
    kept = {name: value for name, value in weights.items() if average is not None or not name.startswith("average.")}
    if average is None or "average.updates" in weights:
        return kept
    started = {f"average.{name}": value for name, value in weights.items() if name.startswith("net.")}
    return kept | started | {"average.updates": average.updates}
