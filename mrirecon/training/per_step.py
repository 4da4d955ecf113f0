"""A learning-rate schedule for every step of a network, in one optimiser.

Stages learn from losses of their own, and in stage-wise training one after the other; so each has its own schedule.
Schedules are kept by step rather than by stage, so that their state fits every regime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mrirecon.errors import InputError
from mrirecon.training.schedule import Cosine
from mrirecon.unrolled import Unrolled


def per_step(
    net: Unrolled, make_optimizer: OptimizerCallable, make_scheduler: LRSchedulerCallable | None, epochs: int | None
) -> Any:
    """The optimiser of a network and its schedules, as Lightning's ``configure_optimizers`` gives them.

    epochs: where a :class:`Cosine` ends that does not say it.

    Raises InputError for settings that the optimiser refuses.
    """
    # One group per step, whatever the stages are, so that an optimiser's state fits every regime.
    groups = [{"params": list(step.parameters()), "name": f"step_{k}"} for k, step in enumerate(net.steps)]
    try:
        optimizer = make_optimizer(groups)
    except ValueError as error:
        raise InputError(f"model.optimizer cannot be made: {error}") from None
    return optimizer if make_scheduler is None else ([optimizer], [PerStep(optimizer, make_scheduler, epochs)])


class PerStep:
    """One schedule for each parameter group of an optimiser.

    optimizer: with one group per step of the network.
    make: makes the schedule of an optimiser.
    epochs: as for :func:`per_step`.
    """

    def __init__(self, optimizer: Optimizer, make: LRSchedulerCallable, epochs: int | None) -> None:
        self.optimizer = optimizer
        self.schedules = [make(_Group(optimizer, k)) for k in range(len(optimizer.param_groups))]
        for schedule in self.schedules:
            if isinstance(schedule, Cosine) and schedule.epochs is None:
                schedule.epochs = epochs

    def step(self, steps: Sequence[int], loss: float | None) -> None:
        """An epoch of some steps of the network is over; ``loss`` of their stage in validation, if there was one."""
        for k in steps:
            schedule = self._attached(k)
            if not isinstance(schedule, ReduceLROnPlateau):
                schedule.step()
            elif loss is not None:
                schedule.step(loss)

    def apply(self) -> None:
        """Set the rates of the present epoch: a resumed run may have another length than it had."""
        for k in range(len(self.schedules)):
            schedule = self._attached(k)
            if isinstance(schedule, Cosine):
                schedule.apply()

    def _attached(self, k: int) -> LRScheduler | ReduceLROnPlateau:
        schedule = self.schedules[k]
        schedule.optimizer.param_groups = [self.optimizer.param_groups[k]]  # loading a state makes new ones
        return schedule

    def state_dict(self) -> dict[str, Any]:
        return {"schedules": [schedule.state_dict() for schedule in self.schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        states = state_dict.get("schedules", ())
        if len(states) != len(self.schedules):
            raise InputError(
                f"the checkpoint has {len(states)} learning-rate schedules for {len(self.schedules)} steps; "
                "start anew from its weights with --model.init_from"
            )
        for schedule, state in zip(self.schedules, states, strict=True):
            schedule.load_state_dict(state)


class _Group(Optimizer):
    """One parameter group of an optimiser, as a schedule wants to see it; the whole optimiser takes the steps."""

    def __init__(self, optimizer: Optimizer, k: int) -> None:
        super().__init__([optimizer.param_groups[k]], optimizer.defaults)
        self._opt_called = True  # else torch warns that it saw no optimiser step before the schedule's
