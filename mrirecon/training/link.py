"""How the processes of one training find each other's images, gradients and sums; here for one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

GO_ON, SAVE, STOP = range(3)


class Link(Protocol):
    """What training asks of the other processes, if there are any.

    word: GO_ON, SAVE or STOP after this update. The first process gives the word before a batch; after the batch every
        process has it, so that all save, or stop, with the same number of updates behind them.
    """

    word: int

    def owned(self, n_stages: int) -> range:
        """The consecutive stages that this process trains."""
        ...

    def begin(self, epoch: int, batch: int, n_stages: int, costs: Callable[[], Sequence[float]]) -> None:
        """A batch begins. Before the first one the stages are shared out; ``costs`` measures the seconds of each."""
        ...

    def send(self, x: Tensor, stage: int) -> None:
        """Hand the output (batch, map, *space) of a stage to the next stage."""
        ...

    def receive(self, like: Tensor, stage: int) -> Tensor:
        """The input of a stage, of the shape and type of ``like``."""
        ...

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients by their mean over the replicas of this process."""
        ...

    def total(self, sums: Tensor) -> Callable[[], Tensor]:
        """Start to add up a vector over all processes; the result is ready when the returned function is called."""
        ...

    def gathered(self, value: Any) -> list[Any]:
        """A value of plain types and tensors from every process, in order."""
        ...


class Local:
    """Every stage in this process, and no other process."""

    word = GO_ON

    def owned(self, n_stages: int) -> range:
        return range(n_stages)

    def begin(self, epoch: int, batch: int, n_stages: int, costs: Callable[[], Sequence[float]]) -> None:
        pass

    def send(self, x: Tensor, stage: int) -> None:
        self._x = x

    def receive(self, like: Tensor, stage: int) -> Tensor:
        return self._x

    def average(self, gradients: Sequence[Tensor]) -> None:
        pass

    def total(self, sums: Tensor) -> Callable[[], Tensor]:
        return lambda: sums

    def gathered(self, value: Any) -> list[Any]:
        return [value]
