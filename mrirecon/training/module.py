"""Training an unrolled network with Lightning; the same module for every regime."""

from __future__ import annotations

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
from mrirecon.inversion import invertible
from mrirecon.losses import L1, Loss
from mrirecon.training.average import Average, with_average
from mrirecon.training.group import Group, clip_stage, refuse_deaf
from mrirecon.training.link import GO_ON, Link, Local
from mrirecon.training.objective import posed, refuse_target
from mrirecon.training.partition import shared_stages, stage_costs
from mrirecon.training.per_step import PerStep, per_step
from mrirecon.training.scoring import Scoring
from mrirecon.training.stage_log import StageLog
from mrirecon.training.stages import apart, stage_losses, stages_of, steps_of
from mrirecon.training.stagewise import Stagewise, Turn
from mrirecon.training.validation import Validation
from mrirecon.unrolled import Activations, Unrolled


class Reconstruction(Scoring):
    """An unrolled network and how it is trained.

    Optimisation is manual, in every regime, with two consequences. ``Trainer(gradient_clip_val=...,
    accumulate_grad_batches=...)`` do not apply: use ``clip`` and ``accumulate``. Schedules are stepped here, once per
    epoch. ``trainer.global_step`` counts batches.

    Args:
        net: the network, for example ``mrirecon.unrolled.proximal_gradient``.
        loss: what is minimised, at the end of every stage.
        target: ``sense``, the complex image of the full k-space with the maps in use (for L1 and L2), or ``rss``, the
            magnitude image of the file (for MagnitudeL1 and SSIM). Default: what the loss needs.
        steps_per_stage: where gradients stop: after every so many steps (greedy training, GLEAM), or null for
            end-to-end training.
        stagewise: train one stage after the other, each to its end; null to train all on every batch.
        activations: what the backward pass needs of a step is ``stored``, or ``recomputed`` there at a step's memory,
            or ``inverted``: recomputed from the network's output alone, for steps that can be undone.
        rows: train on so many neighbouring rows of an image at a time, drawn anew for every batch, at that fraction
            of the time and memory; exact but for the denoiser's view at the edges (``mrirecon.physics.strip``). For
            masks of whole columns and the target ``sense``; null for whole images.
        accumulate: batches whose mean gradient makes one update.
        optimizer: makes the optimiser of all parameters.
        scheduler: makes the learning-rate schedule of a step of the network, stepped after every epoch in which it was
            trained; ReduceLROnPlateau watches the validation loss of the step's own stage. Null for a constant rate.
        clip: largest norm of the gradient of one stage, or of stages with the same weights; null for no limit.
        ema: decay of an exponential moving average of the weights, for example 0.999, which is then what is validated
            and what `mrirecon reconstruct` uses; null for the weights themselves.
        init_from: checkpoint or run folder whose weights training starts from.
        seed: of the strips' places and of random numbers that denoisers draw; the command line sets it by
            --seed_everything.
    """

    def __init__(
        self,
        net: Unrolled,
        loss: Loss | None = None,
        target: Literal["sense", "rss"] | None = None,
        steps_per_stage: int | None = None,
        stagewise: Stagewise | None = None,
        activations: Activations = "stored",
        rows: int | None = None,
        accumulate: int = 1,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        clip: float | None = None,
        ema: float | None = None,
        init_from: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = net
        self.loss = L1() if loss is None else loss
        refuse_target(self.loss, target, rows)
        if clip is not None and not clip > 0:
            raise InputError(f"model.clip is {clip}; expected a number above 0, or null for no limit")
        self.rows = rows
        self.stages = stages_of(len(net.sequence), steps_per_stage)
        self.turn = Turn(stagewise, len(self.stages))
        if stagewise is not None and shared_stages([net.sequence[stage] for stage in self.stages]):
            raise InputError(
                "model.stagewise freezes a stage when it is done, but here another has the same weights; "
                "use share_weights: false, or stagewise: null"
            )
        if activations == "inverted":
            invertible(net.sequence)
        self.activations = activations
        self.group = Group(accumulate)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.clip = clip
        self.seed = seed
        self.link: Link = Local()
        self.record: dict[str, Any] | None = None  # how to make `net` again; set by the command line, see checkpoint.py
        self.stage_log = StageLog(len(self.stages))
        self.validation = Validation()
        self.stage_loss: dict[int, float] = {}
        self.stage_psnr: dict[str, float] = {}
        self._heard = False  # whether every denoiser has a part in its stage's loss
        if init_from is not None:
            load_weights(net, Path(init_from))
        self.average = None if ema is None else Average(net, ema)

    def on_fit_start(self) -> None:
        if self.trainer.precision == "16-mixed":
            raise InputError("trainer.precision 16-mixed would scale the stages' losses together; use bf16-mixed")
        if self.turn.rule is not None and (self.trainer.min_epochs or self.trainer.min_steps):
            raise InputError(
                "model.stagewise ends when all stages are done; set trainer.min_epochs and min_steps to null"
            )

    def on_train_start(self) -> None:
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, PerStep):
            scheduler.apply()
        self.trainer.should_stop |= not self.turn.trained

    def training_step(self, batch: Slice, batch_idx: int) -> None:
        draws = (self.seed, self.current_epoch, *batch.number)
        problem, minimised = posed(batch, self.loss, self.rows, draws)
        self.link.begin(
            self.current_epoch,
            batch_idx,
            len(self.stages),
            lambda: stage_costs(self.net, problem, minimised, self.stages, self.activations),
        )
        place, group = self.group.place(batch_idx, int(self.trainer.num_training_batches))
        self.group.begin(place, self.net, self.steps_trained())
        for stage, loss, image in stage_losses(
            self.net, problem, minimised, self.stages, self.link, self.activations, draws, self.turn.trained
        ):
            self.manual_backward(loss / group)
            self.stage_log.batch(stage, loss.detach(), minimised.psnr(image), len(batch.kspace))
            last = stage, loss.detach()
        self.show(batch, *last)
        self.group.open = place + 1 < group
        if not self.group.open:
            self.update()
        else:  # Lightning counts optimiser calls
            calls = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            calls.increment_ready()
            calls.increment_completed()

    def show(self, batch: Slice, stage: int, loss: Tensor) -> None:
        """Loss of the last stage that learns here, and acceleration, in the progress bar; and to the loggers."""
        size = len(batch.kspace)
        if stage + 1 == len(self.stages):
            self.log("loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=size)
        else:  # another process has the last stage, or its turn has not come
            self.log(f"loss_of_stage_{stage}", loss, prog_bar=True, logger=False, batch_size=size)
        self.log("acceleration", mean(batch.acceleration), prog_bar=True, on_step=False, on_epoch=True, batch_size=size)

    def updates_after(self, batch: int) -> bool:
        """Whether the weights are updated after a batch of the epoch, or more batches are gathered first."""
        place, group = self.group.place(batch, int(self.trainer.num_training_batches))
        return place + 1 == group

    def on_train_batch_end(self, outputs: Any, batch: Slice, batch_idx: int) -> None:
        self.link.word = GO_ON  # callbacks have heard it

    def on_validation_model_zero_grad(self) -> None:
        if not self.group.open:  # else validation inside an epoch would lose the gradients gathered so far
            super().on_validation_model_zero_grad()

    def update(self) -> None:
        """One update of every stage that this process trains, from the gradients of all replicas."""
        stages = self.stages_trained()
        if len(self.stages) > 1 and not self._heard:
            refuse_deaf(self.net, [self.stages[k] for k in stages])
            self._heard = True
        groups = apart(self.net, self.stages, stages)
        weights = {steps: [p for i in steps for p in self.net.steps[i].parameters()] for steps in groups}
        self.link.average([p.grad for group in weights.values() for p in group if p.grad is not None])
        for steps, together in groups.items():
            norm = clip_stage(weights[steps], self.clip)
            for k in together:
                self.stage_log.update(k, norm)
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        optimizer.step()
        for group in weights.values():
            for p in group:
                torch.autograd.graph.increment_version(p)  # which fused optimisers do not: denoisers may remember
        if self.average is not None:
            self.average.follow(self.net, self.steps_trained())

    def stages_trained(self) -> list[int]:
        """The stages that this process trains at present."""
        return [k for k in self.link.owned(len(self.stages)) if k in self.turn.trained]

    def steps_trained(self) -> set[int]:
        return {i for k in self.stages_trained() for i in self.steps_of(k)}

    def steps_of(self, stage: int) -> list[int]:
        return steps_of(self.net, self.stages[stage])

    def on_validation_start(self) -> None:
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.stage_log.gathered(self.link, self.current_epoch)  # refuses losses that are not finite

    def on_train_epoch_end(self) -> None:
        self.stage_log.write(self.trainer.loggers)
        self.stage_log.close(self.link, self.current_epoch, self.trainer.global_step)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, PerStep):
            for k in self.turn.trained:
                scheduler.step(self.steps_of(k), self.stage_loss.get(k))
        before = self.turn.trained
        self.turn.epoch_done(self.stage_loss)
        if self.average is not None and self.turn.trained != before:
            self.average.settle(self.net, {i for k in before for i in self.steps_of(k)})
        self.trainer.should_stop |= not self.turn.trained
        self.stage_loss = {}

    def on_train_end(self) -> None:
        self.stage_log.write(self.trainer.loggers)

    def configure_optimizers(self) -> Any:
        epochs = self.trainer.max_epochs if self.turn.rule is None else self.turn.rule.epochs
        return per_step(self.net, self.make_optimizer, self.make_scheduler, epochs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.stage_log.write(self.trainer.loggers)
        checkpoint["stage_log"] = self.stage_log.gathered(self.link, self.current_epoch)
        checkpoint["mrirecon"] = self.record
        checkpoint["stagewise"] = self.turn.state_dict()
        checkpoint["stage_loss"] = self.stage_loss
        checkpoint["gradients"] = self.group.state_dict(self.net, self.link)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        fitting = self.trainer.state.fn == "fit"
        checkpoint["state_dict"] = with_average(checkpoint["state_dict"], self.average, fitting)
        self.turn.load_state_dict(checkpoint.get("stagewise", {}))
        self.stage_loss = checkpoint.get("stage_loss", {})
        self.group.load_state_dict(checkpoint.get("gradients", {}))
        if "stage_log" in checkpoint and self.trainer.is_global_zero:
            self.stage_log.resume(checkpoint["stage_log"])
