"""Scores of an epoch of validation or test: by volume, and by stage, merged from all processes.

The mean PSNR of volumes after every stage tells how many unrolled steps pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from mrirecon.cropping import center_crop
from mrirecon.data.slices import Slice
from mrirecon.metrics import Scores, VolumeMetrics
from mrirecon.training.link import Link


@dataclass
class _ByStage:
    """Of one volume: per slice the losses of every stage, and the squared errors of A^H y and of every stage."""

    peak: float = 0.0  # of the target, where it is scored
    losses: dict[int, list[float]] = field(default_factory=dict)
    errors: dict[int, list[float]] = field(default_factory=dict)


class Validation:
    """Collects what an epoch of validation sees; one object per epoch and process."""

    def __init__(self) -> None:
        self.volumes = VolumeMetrics()
        self._stages: dict[str, _ByStage] = {}
        self._accelerations: dict[str, float] = {}

    def update(
        self, batch: Slice, images: Tensor, stages: Sequence[Tensor] = (), losses: Sequence[Tensor] = ()
    ) -> None:
        """Take a batch.

        images: what is scored, magnitudes (batch, h, w). stages: A^H y and the output of every stage, as magnitudes.
        losses: of every stage, for a batch of one slice.
        """
        for i, name in enumerate(batch.volume):
            index, target = int(batch.index[i]), batch.target[i]
            self.volumes.update(name, index, int(batch.n_slices[i]), images[i].cpu().numpy(), target.cpu().numpy())
            self._accelerations[name] = batch.acceleration[i]
            if stages:
                found = self._stages.setdefault(name, _ByStage())
                size = (min(target.shape), target.shape[-1])  # what fastMRI scores
                truth = center_crop(target, size)
                found.peak = max(found.peak, float(truth.max()))
                errors = [(center_crop(x[i], size) - truth).square().mean(dtype=torch.float64) for x in stages]
                found.errors[index] = torch.stack(errors).tolist()
                found.losses[index] = torch.stack(list(losses)).tolist()

    def scores(self, link: Link) -> dict[str, float]:
        """nmse, psnr, ssim and acceleration, means over the volumes of all processes.

        Where stages were given also loss (of the last stage), and stage_loss/k and stage_psnr/k, with stage_psnr/in for
        A^H y. The sums run in the order of the names, so that the digits do not depend on the number of processes.
        """
        parts = link.gathered((dict(self.volumes.volumes()), self._accelerations, self._stages))
        volumes, accelerations, stages = ({k: v for part in parts for k, v in part[i].items()} for i in range(3))
        means = Scores(*(fmean(volumes[name][j] for name in sorted(volumes)) for j in range(3)))
        found = means._asdict() | {"acceleration": fmean(accelerations[name] for name in sorted(accelerations))}
        if stages:
            by_volume = [stages[name] for name in sorted(stages)]
            losses = np.concatenate([[v.losses[i] for i in sorted(v.losses)] for v in by_volume]).mean(0)
            decibels = np.mean([_psnr(v) for v in by_volume], axis=0)
            found |= {f"stage_loss/{k}": float(loss) for k, loss in enumerate(losses)} | {"loss": float(losses[-1])}
            found |= {f"stage_psnr/{k}": float(d) for k, d in zip(["in", *range(len(losses))], decibels, strict=True)}
        return found


def _psnr(volume: _ByStage) -> np.ndarray:
    """PSNR of a volume in dB, of A^H y and of every stage."""
    mse = np.mean([volume.errors[i] for i in sorted(volume.errors)], axis=0)
    return 10 * np.log10(volume.peak**2 / np.maximum(mse, np.finfo(float).tiny))
