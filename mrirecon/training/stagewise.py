"""Training one stage after the other, each to its end, instead of all on every batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from mrirecon.errors import InputError


@dataclass(frozen=True)
class Stagewise:
    """When a stage is done, so that it is frozen and the next one begins. It keeps the weights that it has then.

    With ``model.ema`` these are the averaged ones, so that later stages learn from the images that are scored.

    Args:
        epochs: at most so many epochs for a stage; null for no limit.
        patience: after so many validations in a row without a lower loss of the stage; null to train all epochs.
    """

    epochs: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        given = [n for n in (self.epochs, self.patience) if n is not None]
        if not given or min(given) < 1:
            raise InputError(
                f"model.stagewise has epochs {self.epochs} and patience {self.patience}; expected at least one of the "
                "two, from 1 up"
            )


class Turn:
    """Whose turn it is: ``stage``, ``n_stages`` when all are done. Without a rule all stages learn on every batch."""

    def __init__(self, rule: Stagewise | None, n_stages: int) -> None:
        self.rule, self.n_stages = rule, n_stages
        self.stage = 0
        self._start()

    def _start(self) -> None:
        self.epochs, self.waited, self.best = 0, 0, inf

    @property
    def trained(self) -> range:
        """The stages that learn at present; none when all are done."""
        return range(self.n_stages) if self.rule is None else range(self.stage, min(self.stage + 1, self.n_stages))

    def epoch_done(self, stage_loss: Mapping[int, float]) -> None:
        """An epoch is over; ``stage_loss`` by stage in its validation, empty if there was none."""
        rule, loss = self.rule, stage_loss.get(self.stage)
        if rule is None:
            return
        self.epochs += 1
        if loss is not None:
            better = isfinite(loss) and loss < self.best
            self.best, self.waited = (loss, 0) if better else (self.best, self.waited + 1)
        tired = rule.patience is not None and self.waited >= rule.patience
        if tired or (rule.epochs is not None and self.epochs >= rule.epochs):
            self.stage += 1
            self._start()

    def state_dict(self) -> dict[str, Any]:
        """Empty without a rule."""
        if self.rule is None:
            return {}
        return {"stage": self.stage, "epochs": self.epochs, "waited": self.waited, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A run that was trained all at once may go on stage by stage from its first stage, and the reverse."""
        if self.rule is None or not state_dict:
            return
        self.stage, self.epochs = int(state_dict["stage"]), int(state_dict["epochs"])
        self.waited, self.best = int(state_dict["waited"]), float(state_dict["best"])
