"""StageParallel: greedy training on many devices as a Lightning strategy, thin over :class:`Pipeline`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor, nn
from torch.optim import Optimizer

from mrirecon.errors import InputError
from mrirecon.training.launcher import GRACE, Launcher
from mrirecon.training.link import Local
from mrirecon.training.module import Reconstruction
from mrirecon.training.pipeline import Pipeline
from mrirecon.training.refusals import refuse_stages, refuse_trainer

# What launcher and Lightning tell the processes of a job; another training in this process must find its own.
JOB = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
RENDEZVOUS = timedelta(minutes=30)  # in which all processes must have come; data may take longer to be prepared


class StageParallel(DDPStrategy):
    """Every process holds the whole network and trains its block of stages; replicas of the pipeline share the data.

    Checkpoints are those of one process. Before validation and saving the pipeline runs empty, and every process gets
    all weights. The trainer needs ``use_distributed_sampler=False``, as the data module deals the batches out.

    Args:
        replicas: pipelines side by side. Processes / replicas is the length of each, at most the number of stages; with
            as many replicas as processes, any regime is trained in parallel over the data alone.
        blocks: stages of each process of a pipeline, for example [3, 3, 2]; null balances them by measured cost.
        timeout: seconds without progress after which a process counts as hanging and the job ends, at most 1800. The
            volumes that one process validates must not take so much longer than those of another.
    """

    def __init__(self, replicas: int = 1, blocks: Sequence[int] | None = None, timeout: float = 600) -> None:
        if not 0 < timeout <= RENDEZVOUS.total_seconds():
            raise InputError(f"timeout is {timeout}; expected seconds, more than 0 and at most 1800")
        super().__init__(timeout=RENDEZVOUS)
        self.replicas, self.sizes, self.seconds = replicas, blocks, timeout
        self.pipeline: Pipeline | None = None
        self._failed = False
        self._told = {name: os.environ.get(name) for name in JOB}

    def check(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Raises InputError for what cannot be trained in this way; needs no other process."""
        if not isinstance(module, Reconstruction):
            raise InputError(f"StageParallel trains mrirecon's Reconstruction, not {type(module).__name__}")
        refuse_stages(module, trainer.world_size, self.replicas, self.sizes)
        if trainer.world_size > 1:
            refuse_trainer(trainer)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_environment(self) -> None:
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        if self.num_nodes > 1 and restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            raise InputError(  # pytorch issue 135712
                "torchrun has started this process again, but counts restarts by node, and nodes of other counts wait "
                "for ever; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 before torchrun, or use --max-restarts 0"
            )
        super().setup_environment()
        module = self.lightning_module
        assert module is not None
        self.check(module.trainer, module)
        assert isinstance(module, Reconstruction)
        self.pipeline = Pipeline(self.root_device.type, self.replicas, self.sizes, self.seconds)
        self.pipeline.watch.before_end = lambda: self._end(0)
        module.link = self.pipeline

    def setup(self, trainer: pl.Trainer) -> None:
        # A broadcast before every batch would lock all processes in step; `Latest` passes the word on instead.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        connector = trainer._signal_connector
        if "_sigterm_notifier_fn" not in vars(connector):  # without `Latest`: Lightning's handler would broadcast
            connector._sigterm_notifier_fn = lambda *_: setattr(connector, "received_sigterm", True)  # type: ignore[method-assign]
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """No wrapper: stages have a backward pass each, and `Pipeline` averages their gradients."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():  # detached
            dist.broadcast(tensor, 0)

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        length = self.world_size // self.replicas
        return {"num_replicas": self.replicas, "rank": self.global_rank // length}

    # Lightning's own meetings of all processes, at the edges of epochs: one that does not come is named.
    def barrier(self, *args: Any, **kwargs: Any) -> None:
        self._meet()
        super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        self._meet()
        return super().broadcast(obj, src)

    def reduce(self, *args: Any, **kwargs: Any) -> Tensor:
        self._meet()
        return super().reduce(*args, **kwargs)

    def _meet(self) -> None:
        if self.pipeline is not None:
            self.pipeline.meet()

    def on_validation_start(self) -> None:
        self.spread()

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        module = self.lightning_module
        if self.pipeline is not None and module is not None and module.trainer.state.fn == TrainerFn.FITTING:
            self.pipeline.watch.at(f"in validation, batch {args[1]}")
        return super().validation_step(*args, **kwargs)

    def spread(self) -> None:
        """Give every process the weights that the others have trained."""
        module = self.lightning_module
        assert isinstance(module, Reconstruction) and self.pipeline is not None

        def tensors(stage: int) -> list[Tensor]:
            found: list[Tensor] = []
            for i in module.steps_of(stage):
                found += _tensors(module.net.steps[i])
                if module.average is not None:
                    found += [*_tensors(module.average.net.steps[i]), module.average.updates[i : i + 1]]
            return found

        self.pipeline.spread(tensors)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        self.spread()
        return super().lightning_module_state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of one process that trains all stages; every process must call this."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        module, pipeline = self.lightning_module, self.pipeline
        assert isinstance(module, Reconstruction) and pipeline is not None
        if pipeline.blocks is None or pipeline.length == 1:
            return state
        own = {i for stage in pipeline.owned(len(module.stages)) for i in module.steps_of(stage)}
        numbers = {n for i in own for n in state["param_groups"][i]["params"]}
        parts = pipeline.gathered({n: _to_host(s) for n, s in state["state"].items() if n in numbers})
        merged = {n: s for part in parts for n, s in part.items()}
        return {**state, "state": {n: merged[n] for n in sorted(merged)}}

    def on_train_end(self) -> None:
        if self.pipeline is not None:
            self.pipeline.finish_sending()

    def on_exception(self, exception: BaseException) -> None:
        self._failed = not isinstance(exception, SIGTERMException)
        # Whatever all processes object to, this one says; what only some of them meet, they must have time to say.
        self._end(0 if isinstance(exception, (InputError, KeyboardInterrupt)) else GRACE)

    def teardown(self) -> None:
        super().teardown()  # on a GPU it waits for what was sent and received
        if self.pipeline is not None and not self._failed:  # else the watch sees to it that the process ends
            self.pipeline.close()
            self._let_go()

    def _let_go(self) -> None:
        """Close all connections now: what the interpreter closes at its end may abort the process."""
        if isinstance(self.lightning_module, Reconstruction):
            self.lightning_module.link = Local()
        self.pipeline = None
        dist.destroy_process_group()
        for name, value in self._told.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def _end(self, patience: float) -> None:
        if isinstance(self._launcher, Launcher):
            self._launcher.end(patience)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _to_host(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.cpu() if isinstance(value, Tensor) else value for key, value in state.items()}
