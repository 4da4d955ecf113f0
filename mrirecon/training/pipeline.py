"""A pipeline of processes, each of which trains its block of consecutive stages, by torch.distributed.

Process j works on batch t while process j + 1 works on batch t - 1: only the image travels from one to the next, and
every process reads the same batches by itself. A stage meets the same batches in the same order, with the same updates
behind it, as in one process; so weights and optimiser state are equal to the last bit. Several such pipelines side by
side, the replicas, average the gradients of each stage. Lightning is not known here.

Images and gradients travel by the devices' own means (NCCL, or gloo on CPUs); a word and a batch's number go beside
each image through the host, so that no device has to wait for them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from mrirecon.errors import InputError, ProcessLost
from mrirecon.training.link import GO_ON
from mrirecon.training.partition import blocks_of, partition
from mrirecon.training.watch import Watch

log = logging.getLogger(__name__)


class Pipeline:
    """A :class:`mrirecon.training.link.Link` between the processes of an initialised process group.

    device: kind of device the images are on, ``cpu`` or ``cuda``.
    replicas: pipelines side by side; each has world size / replicas processes with consecutive ranks.
    sizes: stages of each process of a pipeline; None balances them by measured cost.
    timeout: seconds without progress, after which a process counts as hanging.
    """

    def __init__(
        self, device: str = "cpu", replicas: int = 1, sizes: Sequence[int] | None = None, timeout: float = 600
    ) -> None:
        world = dist.get_world_size()
        if replicas < 1 or world % replicas:
            raise InputError(f"{replicas} replicas cannot share {world} processes; expected a divisor of {world}")
        mesh = init_device_mesh(device, (replicas, world // replicas), mesh_dim_names=("replica", "stage"))
        self.replica, self.place = mesh.get_local_rank("replica"), mesh.get_local_rank("stage")
        self.replicas, self.length = replicas, world // replicas
        self.sizes = sizes
        self.blocks: list[range] | None = None
        self.word = GO_ON
        self._stage, self._replica = mesh.get_group("stage"), mesh.get_group("replica")
        self._ranks = dist.get_process_group_ranks(self._stage)
        # NCCL sets up a group at its first use, for which all of it must come: so they come now, not with an image.
        # (Two neighbours may still meet for a channel of their own at their first image, when both of them come.)
        for group in (self._stage, self._replica):
            dist.all_reduce(torch.ones(1, device=device), group=group)
        heads = [r * self.length for r in range(replicas)]
        self._host, self._totals, self._heads = (dist.new_group(r, backend="gloo") for r in (None, None, heads))
        self._sending: list[tuple[dist.Work | None, Tensor]] = []
        self.watch = Watch(self._name(dist.get_rank()), timeout)

    def begin(self, epoch: int, batch: int, n_stages: int, costs: Callable[[], Sequence[float]]) -> None:
        self._number = torch.tensor([epoch, batch])
        self.watch.at(f"in epoch {epoch}, batch {batch}")
        if self.blocks is None:
            self.blocks = self._share_out(n_stages, costs)
            self.watch.who = self._name(dist.get_rank())
            if dist.get_rank() == 0 and self.length > 1:
                log.info("stages by process: %s", " | ".join(map(self._stages, range(self.length))))
        if self.replicas > 1 and self.place == 0:
            word = torch.tensor([self.word])
            with self.watch.waiting(self._name(0)):
                dist.broadcast(word, 0, group=self._heads)
            self.word = int(word)

    def _share_out(self, n_stages: int, costs: Callable[[], Sequence[float]]) -> list[range]:
        if self.sizes is not None:
            return blocks_of(self.sizes, n_stages, self.length)
        if self.length in (1, n_stages):
            return partition([1.0] * n_stages, self.length)
        measured = [list(costs())] if dist.get_rank() == 0 else [[]]
        with self.watch.waiting("rank 0, which measures the stages"):
            dist.broadcast_object_list(measured, 0, group=self._host)
        return partition(measured[0], self.length)

    def owned(self, n_stages: int) -> range:
        assert self.blocks is not None, "stages are shared out when the first batch begins"
        return self.blocks[self.place]

    def send(self, x: Tensor, stage: int) -> None:
        assert self.blocks is not None
        if stage + 1 in self.blocks[self.place]:
            self._x = x
            return
        self.finish_sending()  # of the batch before: one message is in flight
        neighbour = self._ranks[self.place + 1]
        head, image = torch.cat([torch.tensor([self.word]), self._number]), torch.view_as_real(x).contiguous()
        with self.watch.waiting(self._name(neighbour)):
            self._sending = [
                (dist.isend(head, neighbour, group=self._host), head),  # the tensors must live until they are sent
                (dist.isend(image, neighbour, group=self._stage), image),
            ]

    def receive(self, like: Tensor, stage: int) -> Tensor:
        assert self.blocks is not None
        if stage - 1 in self.blocks[self.place]:
            return self._x
        neighbour = self._ranks[self.place - 1]
        head = torch.empty(3, dtype=torch.int64)
        image = torch.view_as_real(torch.empty_like(like, memory_format=torch.contiguous_format))
        with self.watch.waiting(self._name(neighbour)):
            dist.recv(head, neighbour, group=self._host)
            if not torch.equal(head[1:], self._number):
                expected, found = (f"epoch {e}, batch {b}" for e, b in (self._number.tolist(), head[1:].tolist()))
                raise AssertionError(f"{self._name(neighbour)} sent {found} where {expected} was expected")
            dist.recv(image, neighbour, group=self._stage)
        self.word = int(head[0])
        return torch.view_as_complex(image)

    def finish_sending(self) -> None:
        for work, _ in self._sending:
            with self.watch.waiting(self._name(self._ranks[self.place + 1])):
                if work is not None:
                    work.wait()
        self._sending = []

    def meet(self) -> None:
        """Wait until all processes have come; raises ProcessLost that names one that does not."""
        try:
            with self.watch.waiting("all other processes"):
                dist.monitored_barrier(self._host, timedelta(seconds=0.9 * self.watch.seconds))
        except ProcessLost as lost:
            missing = re.search(r"[Rr]anks? (\d+) failed to pass", str(lost.__cause__))
            if missing is None:
                raise
            late = f"has not come in {0.9 * self.watch.seconds:g} s, {self.watch.place}"
            raise ProcessLost(f"{self.watch.who}: {self._name(int(missing[1]))} {late}") from None

    def average(self, gradients: Sequence[Tensor]) -> None:
        if self.replicas == 1 or not gradients:
            return
        real = [torch.view_as_real(g) if g.is_complex() else g for g in gradients]
        flat = torch.cat([g.flatten() for g in real])
        with self.watch.waiting(f"the other replicas of {self._stages(self.place)}"):
            dist.all_reduce(flat, group=self._replica)
        for g, mean in zip(real, (flat / self.replicas).split([g.numel() for g in real]), strict=True):
            g.copy_(mean.view_as(g))

    def total(self, sums: Tensor) -> Callable[[], Tensor]:
        work = dist.all_reduce(sums, group=self._totals, async_op=True)

        def wait() -> Tensor:
            with self.watch.waiting("the sums of all processes"):
                work.wait()
            return sums

        return wait

    def gathered(self, value: Any) -> list[Any]:
        self.meet()
        values: list[Any] = [None] * dist.get_world_size()
        with self.watch.waiting("the values of all processes"):
            dist.all_gather_object(values, value, group=self._host)
        return values

    @torch.no_grad()
    def spread(self, tensors_of: Callable[[int], Sequence[Tensor]]) -> None:
        """Fill ``tensors_of(stage)`` of every stage, in every process, with those of the process that trains it."""
        self.finish_sending()
        self.meet()
        for place, block in enumerate(self.blocks or []) if self.length > 1 else ():
            for tensor in (t for stage in block for t in tensors_of(stage)):
                with self.watch.waiting(self._name(self._ranks[place])):
                    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
                    dist.broadcast(real, self._ranks[place], group=self._stage)
                torch.autograd.graph.increment_version(tensor)  # which a broadcast does not: denoisers may remember

    def close(self) -> None:
        self.finish_sending()
        self.watch.stop()

    def _name(self, rank: int) -> str:
        return f"rank {rank}" if self.blocks is None else f"rank {rank} ({self._stages(rank % self.length)})"

    def _stages(self, place: int) -> str:
        assert self.blocks is not None
        block = self.blocks[place]
        return f"stage {block[0]}" if len(block) == 1 else f"stages {block[0]} to {block[-1]}"
