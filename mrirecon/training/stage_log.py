"""Every stage's loss, PSNR and gradient norm: means over an epoch, added up over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.training.link import Link

LOSS, PSNR, SLICES, NORM, UPDATES = range(5)


class StageLog:
    """Sums of one epoch, stages x (loss, PSNR, slices, gradient norm, updates), on the training device.

    An epoch's sums are sent off when it ends and read at the next occasion, so that the processes of a pipeline need
    not wait for each other: the pipeline stays full from one epoch to the next.
    """

    def __init__(self, n_stages: int) -> None:
        self.n_stages = n_stages
        self._sums = torch.zeros(n_stages, 5)
        self._sent: tuple[int, int, Callable[[], Tensor]] | None = None

    def batch(self, stage: int, loss: Tensor, psnr: Tensor, slices: int) -> None:
        """What a stage gave for a batch."""
        values = torch.stack([loss.float() * slices, psnr.float() * slices, loss.new_full((), slices)])
        self._on(loss.device)[stage, :NORM] += values

    def update(self, stage: int, norm: Tensor) -> None:
        """The norm of a stage's gradient, before clipping."""
        self._on(norm.device)[stage, NORM:] += torch.stack([norm.float(), norm.new_ones(())])

    def _on(self, device: torch.device) -> Tensor:
        self._sums = self._sums.to(device)
        return self._sums

    def gathered(self, link: Link, epoch: int) -> Tensor:
        """The sums over all processes, which must all call this; for a checkpoint.

        Raises InputError, in every process, if a loss of this epoch is not finite.
        """
        sums = torch.stack(link.gathered(self._sums.cpu())).sum(0)
        _refuse(sums, epoch)
        return sums

    def resume(self, sums: Tensor) -> None:
        """Go on from the sums of a checkpoint, in one process of all, unless they are of other stages."""
        if sums.shape == self._sums.shape:
            self._sums = sums.clone()

    def close(self, link: Link, epoch: int, step: int) -> None:
        """The epoch is over: send its sums off, to be read as those of this epoch and global step."""
        sums, self._sums = self._sums.cpu(), torch.zeros(self.n_stages, 5)
        self._sent = epoch, step, link.total(sums)

    def write(self, loggers: Iterable[Logger]) -> None:
        """Give the figures of the epoch that was closed last to the loggers, once.

        Raises InputError if a loss of that epoch was not finite.
        """
        if self._sent is None:
            return
        (epoch, step, wait), self._sent = self._sent, None
        sums = wait()
        _refuse(sums, epoch)
        found: dict[str, float] = {}
        for k, (loss, psnr, slices, norm, updates) in enumerate(sums.double().tolist()):
            if slices:  # not a stage that waits for its turn
                found |= {f"stage_loss/{k}": loss / slices, f"stage_psnr/{k}": psnr / slices}
            if updates:
                found[f"stage_gradient_norm/{k}"] = norm / updates
        for logger in loggers:
            logger.log_metrics(found, step=step)


def _refuse(sums: Tensor, epoch: int) -> None:
    finite = sums[:, [LOSS, NORM]].isfinite().all(1)
    if not bool(finite.all()):
        stage = int((~finite).nonzero()[0])
        where = f" of stage {stage}" if len(sums) > 1 else ""
        raise InputError(
            f"the loss{where} or its gradient in epoch {epoch} is not finite; lower the learning rate, or look for "
            "targets that are not finite"
        )
