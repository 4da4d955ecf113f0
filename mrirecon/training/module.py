"""Training an unrolled network with Lightning; the same module for every regime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from mrirecon.checkpoint import load_weights
from mrirecon.data.slices import Slice
from mrirecon.errors import InputError
from mrirecon.imaging import magnitude, pose
from mrirecon.inversion import invertible
from mrirecon.losses import L1, Loss
from mrirecon.metrics import VolumeMetrics
from mrirecon.training.objective import objective, on_strip
from mrirecon.training.rng import rng_state, set_rng_state
from mrirecon.training.schedule import Cosine
from mrirecon.training.stages import Link, Local, stage_losses, stages_of
from mrirecon.unrolled import Activations, Unrolled


class Reconstruction(pl.LightningModule):
    """An unrolled network and how it is trained.

    Optimisation is manual, in every regime, with two consequences. ``Trainer(gradient_clip_val=...,
    accumulate_grad_batches=...)`` do not apply: use ``clip``. The scheduler is stepped here, once per epoch.

    Args:
        net: the network, for example ``mrirecon.unrolled.proximal_gradient``.
        loss: what is minimised, at the end of every stage.
        target: ``sense``, the complex image of the full k-space with the maps in use (for L1 and L2), or ``rss``, the
            magnitude image of the file (for MagnitudeL1 and SSIM). Default: what the loss needs.
        steps_per_stage: where gradients stop: after every so many steps (greedy training, GLEAM), or null for
            end-to-end training.
        activations: what the backward pass needs of a step is ``stored``, or ``recomputed`` there at a step's memory,
            or ``inverted``: recomputed from the network's output alone, for steps that can be undone.
        optimizer: makes the optimiser of all parameters.
        scheduler: makes the learning-rate schedule, stepped after every epoch; null for a constant rate.
        rows: train on so many neighbouring rows of an image at a time, drawn anew for every batch, at that fraction
            of the time and memory; exact but for the denoiser's view at the edges (``mrirecon.physics.strip``). For
            masks of whole columns and the target ``sense``; null for whole images.
        clip: largest norm of the gradient of one stage; null for no limit.
        init_from: checkpoint or run folder whose weights training starts from.
        seed: of the strips' places; the command line sets it by --seed_everything.
    """

    link: Link

    def __init__(
        self,
        net: Unrolled,
        loss: Loss | None = None,
        target: Literal["sense", "rss"] | None = None,
        steps_per_stage: int | None = None,
        activations: Activations = "stored",
        rows: int | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        clip: float | None = None,
        init_from: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = net
        self.loss = L1() if loss is None else loss
        if target is not None and target != self.loss.target:
            raise InputError(
                f"model.target is {target!r}, but the loss {type(self.loss).__name__} needs {self.loss.target!r}: "
                "complex losses (L1, L2) compare with the complex image 'sense', magnitude losses (MagnitudeL1, SSIM) "
                "with the file's 'rss'"
            )
        if clip is not None and not clip > 0:
            raise InputError(f"model.clip is {clip}; expected a number above 0, or null for no limit")
        if rows is not None and (rows < 1 or self.loss.target != "sense"):
            raise InputError(f"model.rows is {rows}; expected at least 1, and a loss with the target 'sense'")
        self.rows = rows
        self.stages = stages_of(len(net.sequence), steps_per_stage)
        if activations == "inverted":
            invertible(net.sequence)
        self.activations = activations
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.clip = clip
        self.seed = seed
        self.link = Local()
        self.record: dict[str, Any] | None = None  # how to make `net` again; set by the command line, see checkpoint.py
        self.volumes = VolumeMetrics()
        self.finite = torch.tensor(True)  # whether all losses of this epoch were
        if init_from is not None:
            load_weights(net, Path(init_from))

    def forward(self, batch: Slice) -> Tensor:
        """The scored magnitude image of every slice, (batch, h, w), in the file's units."""
        problem, scale = pose(batch)
        return magnitude(self.net(problem) * scale, batch.crop)

    def on_fit_start(self) -> None:
        if self.trainer.precision == "16-mixed" and self.clip is not None:
            raise InputError("model.clip would clip scaled gradients under trainer.precision 16-mixed; use bf16-mixed")

    def on_train_start(self) -> None:
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, Cosine):
            scheduler.apply()  # a resumed run may have another length than it had

    def on_train_epoch_start(self) -> None:
        self.finite = torch.tensor(True)

    def training_step(self, batch: Slice, batch_idx: int) -> None:
        problem, scale = pose(batch)
        if self.rows is None:
            loss = objective(self.loss, batch, scale)
        else:
            place = (self.seed, self.current_epoch, *batch.number)
            problem, loss = on_strip(self.rows, place, self.loss, batch, scale, problem)
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        optimizer.zero_grad()
        values = []
        for output in stage_losses(self.net, problem, loss, self.stages, self.link, self.activations):
            self.manual_backward(output.loss)
            values.append(output.loss.detach())
        if self.clip is not None:
            for parameters in self.stage_parameters():
                torch.nn.utils.clip_grad_norm_(parameters, self.clip)
        optimizer.step()
        size = len(batch.kspace)
        self.finite = self.finite.to(values[-1].device) & torch.stack(values).isfinite().all()
        self.log("loss", values[-1], prog_bar=True, on_step=True, on_epoch=True, batch_size=size)
        self.log("acceleration", mean(batch.acceleration), prog_bar=True, on_step=False, on_epoch=True, batch_size=size)
        if len(values) > 1:
            stages = {f"stage_loss/{k}": value for k, value in enumerate(values)}
            self.log_dict(stages, on_step=False, on_epoch=True, batch_size=size)

    def on_train_epoch_end(self) -> None:
        self.refuse_to_go_on_with_nan()
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            if "val_loss" in self.trainer.callback_metrics:  # not before the first validation
                scheduler.step(self.trainer.callback_metrics["val_loss"])
        elif isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler):
            scheduler.step()

    def on_validation_start(self) -> None:
        self.refuse_to_go_on_with_nan()

    def refuse_to_go_on_with_nan(self) -> None:
        """Once an epoch, as it waits for the device, and before anything of the epoch is shown or saved."""
        if not bool(self.finite):
            raise InputError(
                f"the loss of epoch {self.current_epoch} is not finite; lower the learning rate, or look for "
                "targets that are not finite"
            )

    def validation_step(self, batch: Slice, batch_idx: int) -> Tensor:
        problem, scale = pose(batch)
        x = self.net(problem)
        self.log("val_loss", objective(self.loss, batch, scale)(x), on_epoch=True, batch_size=len(batch.kspace))
        images = magnitude(x * scale, batch.crop)
        self.score("val", batch, images)
        return images

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val")

    def test_step(self, batch: Slice, batch_idx: int) -> Tensor:
        images = self(batch)
        self.score("test", batch, images)
        return images

    def on_test_epoch_end(self) -> None:
        self.log_scores("test")

    def predict_step(self, batch: Slice, batch_idx: int) -> Tensor:
        return self(batch)

    def score(self, prefix: str, batch: Slice, images: Tensor) -> None:
        """Add the images of a batch to the scores of their volumes, and log the acceleration they come from."""
        self.log(f"{prefix}_acceleration", mean(batch.acceleration), on_epoch=True, batch_size=len(images))
        for i, name in enumerate(batch.volume):
            image, target = images[i].cpu().numpy(), batch.target[i].cpu().numpy()
            self.volumes.update(name, int(batch.index[i]), int(batch.n_slices[i]), image, target)

    def log_scores(self, prefix: str) -> None:
        scores, _ = self.volumes.compute()
        for name, value in scores._asdict().items():
            self.log(f"{prefix}_{name}", value, prog_bar=name != "nmse")
        self.volumes = VolumeMetrics()

    def stage_parameters(self) -> Iterator[list[Tensor]]:
        steps = self.net.sequence
        for stage in self.stages:
            yield list(dict.fromkeys(p for step in steps[stage] for p in step.parameters()))

    def configure_optimizers(self) -> Any:
        # One group per step, whatever the stages are, so that an optimiser's state fits every regime.
        groups = [{"params": list(step.parameters()), "name": f"step_{k}"} for k, step in enumerate(self.net.steps)]
        try:
            optimizer = self.make_optimizer(groups)
        except ValueError as error:
            raise InputError(f"model.optimizer cannot be made: {error}") from None
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer)
        if isinstance(scheduler, Cosine) and scheduler.epochs is None:
            scheduler.epochs = self.trainer.max_epochs
        return [optimizer], [scheduler]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mrirecon"] = self.record
        checkpoint["rng"] = rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "rng" in checkpoint and self.trainer.training:
            set_rng_state(checkpoint["rng"])
