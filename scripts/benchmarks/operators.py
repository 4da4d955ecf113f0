"""SENSE operators beside sigpy, deepinv, mrpro and fastmri's composition, in units of one bare fftn + ifftn pair.

Every side works on tensors or arrays of its own layout, made before the clock starts; its result is compared with ours.
Two threads, complex64, no gradients. sigpy's transforms are numpy's, which use one thread.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Goal, Report, Side, alternate
from benchmarks.peers import PACKAGES
from mrirecon.physics import orthonormal, sense
from mrirecon.testing import complex_normal, relative_error

SHAPES = {"knee": (15, 640, 368), "brain": (16, 384, 384)}  # coils, height, width of a typical fastMRI slice
OPERATIONS = ("normal", "forward", "adjoint")
LARGEST_ERROR = 1e-5  # a peer farther from us than this computes something else, and is not compared

# Our normal operator in FFT pairs (at most), and the fastest peer's time over ours (at least).
GOALS = {"knee_1d": (1.2, 2.3), "brain_1d": (1.7, 2.3), "knee_2d": (1.6, 1.7), "brain_2d": (2.1, 2.0)}


def measure() -> Report:
    torch.set_num_threads(2)
    rows: list[dict[str, str | float]] = []
    goals: dict[str, Goal] = {}
    missing: dict[str, str] = {}
    with torch.no_grad():
        for scan, operations in plan():
            sides = prepared(scan, missing)
            for operation in operations:
                seconds = compared(scan, operation, sides, rows, missing)
                if operation == "normal" and scan.name in GOALS:
                    goals |= goals_of(scan.name, seconds)
    return Report(rows, goals, ("torch", "numpy", "mrirecon", *PACKAGES), missing)


@dataclass(frozen=True)
class Scan:
    """One problem, in our layout; image and k-space are noise."""

    name: str
    maps: Tensor
    mask: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def make(cls, shape: str, mask_axes: int, batch: int = 1, sets: int = 1) -> Scan:
        n_coils, height, width = SHAPES[shape]
        maps, _ = orthonormal(complex_normal((batch, sets, n_coils, height, width), seed=1))
        drawn = torch.rand(1 if mask_axes == 1 else height, width, generator=torch.Generator().manual_seed(2))
        extra = (f"_batch{batch}" if batch > 1 else "") + (f"_sets{sets}" if sets > 1 else "")
        return cls(
            f"{shape}_{mask_axes}d{extra}",
            maps,
            (drawn < 0.25).float()[None, None].expand(batch, -1, -1, -1),
            complex_normal((batch, sets, height, width), seed=3),
            complex_normal((batch, n_coils, height, width), seed=4),
        )


def plan() -> Iterator[tuple[Scan, tuple[str, ...]]]:
    """What is measured: everything for one slice; for batches and two map sets the lines mask alone."""
    for shape in SHAPES:
        yield Scan.make(shape, 1), OPERATIONS
        yield Scan.make(shape, 2), OPERATIONS
        yield Scan.make(shape, 1, batch=4), OPERATIONS
        yield Scan.make(shape, 1, sets=2), OPERATIONS


class Operator(NamedTuple):
    """One side: what it does to the scan's x and y, and how its results look in our layout."""

    normal: Side
    forward: Side
    adjoint: Side
    image: Callable[[Any], Tensor]
    kspace: Callable[[Any], Tensor]


def prepared(scan: Scan, missing: dict[str, str]) -> dict[str, Operator]:
    """Ours first, then the peers that are installed and offer this problem."""
    sides = {"mrirecon": ours(scan)}
    for name, peer in PEERS.items():
        try:
            operator = peer(scan)
        except ModuleNotFoundError as error:
            missing[name] = str(error)
            continue
        if operator is not None:
            sides[name] = operator
    return sides


def compared(
    scan: Scan, operation: str, sides: dict[str, Operator], rows: list[dict[str, str | float]], missing: dict[str, str]
) -> dict[str, float]:
    """Seconds of all sides and of the FFT pair, with a row for each in ``rows``."""
    results = {}
    for name, side in sides.items():
        in_our_layout = side.kspace if operation == "forward" else side.image
        results[name] = in_our_layout(getattr(side, operation)())
    errors = {name: relative_error(result, results["mrirecon"]) for name, result in results.items()}
    for name in [name for name, error in errors.items() if not error < LARGEST_ERROR]:
        missing[name] = f"{scan.name} {operation}: relative error {errors.pop(name):.1e}"
    timed = {"fft pair": fft_pair(scan)} | {name: getattr(sides[name], operation) for name in errors}
    seconds = alternate(timed, repeats=15 if operation == "normal" else 7)
    for name, taken in seconds.items():
        rows.append(
            {
                "scan": scan.name,
                "operation": operation,
                "side": name,
                "ms": 1e3 * taken,
                "fft_pairs": taken / seconds["fft pair"],
                "times_ours": taken / seconds["mrirecon"],
                "error": errors.get(name, 0.0),
            }
        )
    return seconds


def goals_of(name: str, seconds: dict[str, float]) -> dict[str, Goal]:
    in_pairs, lead = GOALS[name]
    ours = seconds["mrirecon"]
    goals = {f"normal_{name}_vs_fft": Goal(ours / seconds["fft pair"], in_pairs, "lower")}
    peers = [taken for side, taken in seconds.items() if side in PEERS]
    if peers:
        goals[f"fastest_peer_vs_normal_{name.removesuffix('_1d')}"] = Goal(min(peers) / ours, lead, "higher")
    return goals


def fft_pair(scan: Scan) -> Side:
    return lambda: torch.fft.ifftn(torch.fft.fftn(scan.y, dim=(-2, -1)), dim=(-2, -1))


def ours(scan: Scan) -> Operator:
    A = sense(scan.maps, scan.mask)
    return Operator(
        lambda: A.normal(scan.x), lambda: A.forward(scan.x), lambda: A.adjoint(scan.y), lambda x: x, lambda y: y
    )


def sigpy(scan: Scan) -> Operator:
    """``sigpy.mri.linop.Sense``: one operator per item of the batch, side by side (Hstack) for several map sets."""
    sp, mri = importlib.import_module("sigpy"), importlib.import_module("sigpy.mri")
    n_sets = scan.maps.shape[1]
    A = []
    for maps, mask in zip(scan.maps.numpy(), scan.mask.numpy(), strict=True):
        sets = [mri.linop.Sense(one, weights=mask[0]) for one in maps]
        A.append(sets[0] if n_sets == 1 else sp.linop.Hstack([add_axis(sp, one) for one in sets], axis=0))
    x = [item[0] if n_sets == 1 else item for item in scan.x.numpy()]
    y = list(scan.y.numpy())
    N, AH = [a.N for a in A], [a.H for a in A]
    return Operator(
        lambda: batched(N, x),
        lambda: batched(A, x),
        lambda: batched(AH, y),
        lambda image: torch.from_numpy(image).reshape(scan.x.shape),
        torch.from_numpy,
    )


def batched(operators: list[Any], items: list[Any]) -> Any:
    """The results as one array, as the other sides give them; without a copy where there is one item."""
    results = [operator(item) for operator, item in zip(operators, items, strict=True)]
    return np.stack(results) if len(results) > 1 else results[0][None]


def add_axis(sp: Any, A: Any) -> Any:
    """The same operator for images with a leading axis of 1, along which Hstack can stack."""
    return A * sp.linop.Reshape(A.ishape, (1, *A.ishape))


def deepinv(scan: Scan) -> Operator | None:
    """``MultiCoilMRI``: real and imaginary part on axis 1, one map set."""
    if scan.maps.shape[1] > 1:
        return None
    mask = scan.mask.expand(-1, -1, *scan.x.shape[-2:])
    A = importlib.import_module("deepinv.physics").MultiCoilMRI(mask=mask, coil_maps=scan.maps[:, 0])

    def native(z: Tensor) -> Tensor:
        return torch.view_as_real(z).movedim(-1, 1).contiguous()

    def complexed(z: Tensor) -> Tensor:
        return torch.view_as_complex(z.movedim(1, -1).contiguous())

    x, y = native(scan.x[:, 0]), native(scan.y)
    return Operator(
        lambda: A.A_adjoint_A(x), lambda: A.A(x), lambda: A.A_adjoint(y), lambda z: complexed(z)[:, None], complexed
    )


def mrpro(scan: Scan) -> Operator:
    """Mask, transform and coils composed; ``gram`` is its own A^H A. Shapes (batch, coil, z, y, x)."""
    ops = importlib.import_module("mrpro.operators")
    cartesian = importlib.import_module("mrpro.operators.CartesianSamplingOp")
    outer = cartesian.CartesianMaskingOp(scan.mask[:, :, None]) @ ops.FastFourierOp(dim=(-2, -1))
    sets = [outer @ ops.SensitivityOp(scan.maps[:, e, :, None]) for e in range(scan.maps.shape[1])]
    x = [scan.x[:, e, None, None] for e in range(scan.x.shape[1])]
    y = scan.y[:, :, None]
    if len(sets) == 1:
        A, N = sets[0], sets[0].gram
    else:
        A = sets[0] | sets[1]
        N = A.H @ A
    return Operator(
        lambda: N(*x),
        lambda: A(*x),
        lambda: A.adjoint(y),
        lambda parts: torch.cat([part[:, :, 0] for part in parts], 1),
        lambda parts: parts[0][:, :, 0],
    )


def fastmri(scan: Scan) -> Operator | None:
    """``sens_expand``, mask and ``sens_reduce`` as in fastmri's VarNet: real and imaginary part on the last axis."""
    if scan.maps.shape[1] > 1:
        return None
    fm = importlib.import_module("fastmri")
    maps, x, y = (torch.view_as_real(z).contiguous() for z in (scan.maps[:, 0], scan.x, scan.y))
    mask = scan.mask.unsqueeze(-1)

    def forward(image: Tensor) -> Tensor:
        return mask * fm.fft2c(fm.complex_mul(image, maps))

    def adjoint(kspace: Tensor) -> Tensor:
        return fm.complex_mul(fm.ifft2c(kspace), fm.complex_conj(maps)).sum(dim=1, keepdim=True)

    return Operator(
        lambda: adjoint(forward(x)),
        lambda: forward(x),
        lambda: adjoint(mask * y),
        lambda z: torch.view_as_complex(z.contiguous()),
        lambda z: torch.view_as_complex(z.contiguous()),
    )


PEERS: dict[str, Callable[[Scan], Operator | None]] = {
    "sigpy": sigpy,
    "deepinv": deepinv,
    "mrpro": mrpro,
    "fastmri": fastmri,
}
