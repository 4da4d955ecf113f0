"""What cannot be trained by several processes, refused before any of them starts."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, OnExceptionCheckpoint, Timer

from mrirecon.errors import InputError
from mrirecon.training.module import Reconstruction
from mrirecon.training.partition import blocks_of, shared_stages


def refuse_stages(module: Reconstruction, world: int, replicas: int, sizes: Sequence[int] | None) -> None:
    """Raises InputError where the stages of a network cannot be shared out over ``world`` processes."""
    n_stages = len(module.stages)
    if replicas < 1 or world % replicas:
        raise InputError(f"replicas is {replicas}; expected a divisor of the number of processes, {world}")
    length = world // replicas
    if length > n_stages:
        raise InputError(
            f"a pipeline of {length} processes for {n_stages} stages, but each process needs a stage; use at most "
            f"{n_stages * replicas} devices in all (--trainer.devices on each node), "
            f"--trainer.strategy.init_args.replicas {world // n_stages if world % n_stages == 0 else world}, or fewer "
            "--model.steps_per_stage"
        )
    if sizes is not None:
        blocks_of(sizes, n_stages, length)
    if length > 1:
        shared = shared_stages([module.net.sequence[stage] for stage in module.stages])
        if shared:
            raise InputError(
                f"stages {shared[0]} and {shared[1]} share weights, which in a pipeline have no single process to "
                "train them; use a network with share_weights: false, or one process a replica"
            )
        if module.turn.rule is not None:
            raise InputError(
                "stage-wise training has one stage at work at a time, so all other processes of a pipeline would "
                "be idle; use one process a replica, or stagewise: null"
            )


def refuse_trainer(trainer: pl.Trainer) -> None:
    """Raises InputError for settings and callbacks with which processes would wait for each other, or disagree."""
    if trainer._accelerator_connector.use_distributed_sampler:
        raise InputError("StageParallel needs use_distributed_sampler: false; the data module deals batches out")
    if trainer._accelerator_connector._layer_sync is not None:
        raise InputError("trainer.sync_batchnorm would make stages wait for each other; set it to false")
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise InputError(
            "trainer.val_check_interval is a time, which passes differently in every process; give batches or a "
            "part of an epoch"
        )
    if getattr(trainer, "fast_dev_run", False):
        raise InputError("trainer.fast_dev_run is for one process; use --trainer.devices 1 with it")
    limit = trainer.limit_val_batches
    if limit != 0 and not (isinstance(limit, float) and limit == 1):  # the number 1 is a single batch
        raise InputError(
            f"trainer.limit_val_batches is {limit}, but every process validates volumes of its "
            "own; use --data.val_volume_sample_rate, which chooses whole volumes"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # which Lightning sets in another place
        name, monitor = type(callback).__name__, getattr(callback, "monitor", None)
        timed = isinstance(callback, ModelCheckpoint) and callback._train_time_interval is not None
        if isinstance(callback, Timer) or timed:
            raise InputError(
                f"{name} asks all processes for the time after every batch, which would empty the pipeline; stop a "
                "run with SIGTERM instead of max_time (last.ckpt is saved every ten minutes)"
            )
        if isinstance(callback, OnExceptionCheckpoint) or getattr(callback, "save_on_exception", False):
            raise InputError(f"{name} would save after a process is lost, and wait for it")
        if monitor is not None and not monitor.startswith("val_"):
            raise InputError(
                f"{name} monitors {monitor!r}, which differs between processes; monitor a figure of validation, such "
                "as val_loss, val_ssim or val_stage_loss/0"
            )
