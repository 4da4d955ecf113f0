"""How much memory there is for a convex program, and how many slices fit into it."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from math import floor, log10
from pathlib import Path

import torch

from mrirecon.errors import InputError

SHARE = 0.6  # of the memory that a program may take
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # limits of containers and of a scheduler's jobs


def memory_of(device: torch.device) -> int:
    """Bytes that others leave of a GPU; or of the machine, no more than this process's control groups allow."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
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
    place = "are free on the GPU" if device.type == "cuda" else "this machine has"
    said = f"the program of {slices} slices needs {needed(1) / 2**30:.1f} GiB, of {whole / 2**30:.1f} GiB that {place}"
    fit = bisect_right(range(1, slices), SHARE * whole, key=lambda n: needed(n / slices))
    if fit:
        fewer = rate * fit / slices
        digits = 10 ** (2 - floor(log10(fewer)))  # three that count
        raise InputError(
            f"{said}; {fit} slices fit: train on fewer volumes, with --data.volume_sample_rate "
            f"{floor(fewer * digits) / digits:g}"
        )
    raise InputError(f"{said}; not even one slice fits: use fewer gates or a smaller kernel")
