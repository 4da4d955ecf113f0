"""How much memory there is for a convex program, and how many slices fit into it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from math import floor
from pathlib import Path

import torch

from mrirecon.errors import InputError

SHARE = 0.6  # of the memory that a program may take
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # limits of containers and of a scheduler's jobs


def memory_of(device: torch.device) -> int:
    """Bytes of a device, or of the machine, and then no more than the control groups allow that this process is in."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if not hasattr(os, "sysconf"):  # Windows
        return 2**62
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits()])


def limits() -> Iterator[int]:
    """Bytes that each control group from this process's own upwards allows."""
    try:
        lines = OWN.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        top, name = CGROUPS, "memory.max"
        if kinds:  # the older version, one tree for each kind of limit
            top, name = CGROUPS / "memory", "memory.limit_in_bytes"
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            if text.isdigit():
                yield int(text)
            if folder == top:
                break


def check_memory(needed: Callable[[float], int], slices: int, rate: float, device: torch.device) -> None:
    """Raises InputError where a program does not fit into the memory.

    needed: bytes for a part of the slices, 0 to 1. slices: all of them. rate: of volumes with which they were chosen.
    """
    whole = memory_of(device)
    if needed(1) <= SHARE * whole:
        return
    place = "the GPU" if device.type == "cuda" else "this machine"
    said = (
        f"the program of {slices} slices needs {needed(1) / 2**30:.1f} GiB, of {whole / 2**30:.1f} GiB that {place} has"
    )
    fits = max((n for n in range(1000) if needed(n / 1000) <= SHARE * whole), default=0) / 1000
    if fits * slices >= 1:
        fewer = floor(1000 * rate * fits) / 1000
        raise InputError(
            f"{said}; {int(fits * slices)} slices fit: train on fewer volumes, with --data.volume_sample_rate {fewer:g}"
        )
    raise InputError(f"{said}; not even one slice fits: use fewer gates or a smaller kernel")
