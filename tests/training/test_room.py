"""Programs that the memory does not hold are refused before the work, by an estimate that is at least what is held."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mrirecon.convex.least_absolute import LeastAbsolute
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, ImagePatches
from mrirecon.convex.working_set import solve
from mrirecon.errors import InputError
from mrirecon.training import room
from mrirecon.training.convex_stage import stage_program
from tests.training.test_convex_stage import samples, step_of


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are held at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                self.now += 0 if key in self.users else size
                self.users[key] = self.users.get(key, 0) + 1
                weakref.finalize(tensor, self._gone, key, size)
        self.most = max(self.most, self.now)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.users[key] -= 1
        if self.users[key] == 0:
            del self.users[key]
            self.now -= size


@pytest.mark.parametrize("kind", [LeastSquares, LeastAbsolute])
def test_a_program_larger_than_the_memory_is_refused_with_what_would_fit(
    kind: type[LeastSquares] | type[LeastAbsolute], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2 * (12 * 10 + 9 * 14 + 12 * 10)
    whole = kind.memory(size, 72, 8) + 32 * size
    monkeypatch.setattr(room, "memory_of", lambda device: int(0.99 * whole / room.SHARE))
    with pytest.raises(InputError, match=r"of 3 slices needs .* 2 slices fit: .*volume_sample_rate 0\.666$"):
        stage_program(step_of("one_shot"), samples(), dtype=torch.float64, kind=kind)
    with pytest.raises(InputError, match=r"volume_sample_rate 0\.333$"):
        stage_program(step_of("one_shot"), samples(), dtype=torch.float64, kind=kind, rate=0.5)
    monkeypatch.setattr(room, "memory_of", lambda device: int(1.01 * whole / room.SHARE))
    stage_program(step_of("one_shot"), samples(), dtype=torch.float64, kind=kind)
    with pytest.raises(InputError, match=r"of 300 slices needs .* [23] slices fit: .*volume_sample_rate 0\.0(0666|1)$"):
        stage_program(step_of("one_shot"), samples(), dtype=torch.float64, kind=kind, total=300)
    with pytest.raises(InputError, match=r"of 100000 slices needs .* [23] slices fit: .*_rate [23](\.\d+)?e-05$"):
        stage_program(step_of("one_shot"), samples(), dtype=torch.float64, kind=kind, total=100_000)
    monkeypatch.setattr(room, "memory_of", lambda device: 1)
    with pytest.raises(InputError, match="not even one slice fits: use fewer gates"):
        stage_program(step_of("one_shot"), samples(), kind=kind)


@pytest.mark.parametrize("line", ["0::/job/step", "5:memory:/job/step"])
def test_a_job_has_the_memory_that_its_groups_allow(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = room.memory_of(torch.device("cpu"))
    kinds = line.split(":")[1]
    name, top = ("memory.limit_in_bytes", tmp_path / "memory") if kinds else ("memory.max", tmp_path)
    (top / "job" / "step").mkdir(parents=True)
    (tmp_path / "own").write_text(line + "\n")
    monkeypatch.setattr(room, "CGROUPS", tmp_path)
    monkeypatch.setattr(room, "OWN", tmp_path / "own")
    for folder, text, expected in (("job/step", "max\n", whole), ("job", "1000000\n", 10**6), ("", "1000\n", 1000)):
        (top / folder / name).write_text(text)
        assert room.memory_of(torch.device("cpu")) == expected


@pytest.mark.parametrize(("kind", "sides"), [(LeastSquares, (500, 900)), (LeastAbsolute, (80, 160))])
def test_the_memory_of_the_solver_counts(
    kind: type[LeastSquares] | type[LeastAbsolute], sides: tuple[int, int]
) -> None:
    """Its vectors, as many as are held at once; and its matrices, which few samples have as well."""
    draws = torch.Generator().manual_seed(0)
    held, told = [], []
    for side in sides:
        clean = torch.zeros(side, side)
        clean[side // 4 : -side // 4] = 1
        image = clean + 0.1 * torch.randn(side, side, generator=draws)
        K = GatedOperator(ImagePatches([image], 3, "zeros"), torch.randn(12, 9, generator=draws))
        program = kind(K, (clean - image).flatten(), 1.0)
        with Live() as live:
            solve(program.at(0.3 * program.largest_strength), 0.1)
        held.append(live.most)
        told.append(kind.memory(side**2, 0, 4))
    assert held[1] - held[0] < told[1] - told[0] < 3 * (held[1] - held[0])
    assert kind.memory(0, 4000, 4) > 4 * 4000**2 * 8
    assert kind.memory(0, 10**6, 4) == kind.memory(0, 10**5, 4)  # larger ones are never built


@pytest.mark.parametrize(("dtype", "samples"), [(torch.float32, 4000), (torch.float32, 10**9), (torch.float64, 10**9)])
def test_the_matrices_of_a_working_set_count(dtype: torch.dtype, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the way to the minimum goes, no more of them are held at once than was told, and not much fewer.

    samples: from twice as many on the Gram matrix is estimated.
    """
    monkeypatch.setattr("mrirecon.convex.newton_steps.LARGE", 200)
    monkeypatch.setattr("mrirecon.convex.working_set.FIRST", 400)  # so that groups join later
    for name in ("operator", "working_squares"):
        monkeypatch.setattr(f"mrirecon.convex.{name}.ENTRIES", 2**16)
    monkeypatch.setattr("mrirecon.convex.metric.SAMPLED", samples)
    draws = torch.Generator().manual_seed(0)
    clean = torch.zeros(100, 100, dtype=dtype)
    clean[20:-20, 30:-30] = 1
    image = clean + 0.1 * torch.randn(clean.shape, generator=draws).to(dtype)
    gates = torch.randn(40, 25, generator=draws).to(dtype)
    K = GatedOperator(ImagePatches([image], 5, "zeros"), gates)
    program = LeastSquares(K, (clean - image).flatten(), 1.0)
    with Live() as live:
        solution = solve(program.at(0.02 * program.largest_strength), 1e-4)
    told = LeastSquares.memory(image.numel(), gates.numel(), gates.element_size())
    assert solution.certificate.active > 30
    assert 0.4 * told < live.most <= told
