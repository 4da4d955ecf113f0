"""Patch-denoising problems for convex solvers, and the one function by which everybody's iterates are judged.

min_v  1/2 ||sum_i D_i Y v_i - b||^2 + beta sum_i ||v_i||,   D_i = diag(1[Y u_i >= 0])

Patches Y are those of simulated heads with noise, real and imaginary parts as samples of their own; b is what is to be
added to their centres, the noise with the sign turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

NOISE = 0.1  # standard deviation; the mean signal is 1
SLICES, SIZE = 6, 256
BLOCK = 4096  # patches


@dataclass(frozen=True)
class Problem:
    """Patches Y (n, tap), targets b (n,), gates u (gate, tap), all in single precision, and the strength."""

    Y: Tensor
    b: Tensor
    u: Tensor
    beta: float

    def save(self, path: Path) -> None:
        np.savez(path, Y=self.Y.numpy(), b=self.b.numpy(), u=self.u.numpy(), beta=self.beta)

    @classmethod
    def load(cls, path: Path) -> Problem:
        with np.load(path) as f:
            Y, b, u = (torch.from_numpy(f[key]) for key in ("Y", "b", "u"))
            return cls(Y, b, u, float(f["beta"]))

    def objective(self, v: Tensor) -> float:
        """In double precision, of filters v (gate, tap); so are gates."""
        v, u, square = v.detach().double(), self.u.double(), 0.0
        for Y, b in zip(self.Y.split(BLOCK), self.b.split(BLOCK), strict=True):
            Y = Y.double()
            r = torch.linalg.vecdot(Y, (Y @ u.T >= 0).double() @ v) - b
            square += float(r @ r)
        return square / 2 + self.beta * float(v.norm(dim=1).sum())


@dataclass(frozen=True)
class Size:
    """Patches, width of a patch, gates; strength as a fraction of that from which on nothing is active."""

    patches: int
    kernel: int
    gates: int
    fraction: float

    def __str__(self) -> str:
        return f"{self.patches:,} patches {self.kernel}x{self.kernel}, {self.gates:,} gates, strength {self.fraction:g}"


def draw(size: Size, seed: int = 0) -> Problem:
    """The problem of a size, always the same. All gates are distinct on the patches, and alive."""
    from mrirecon.convex.gates import distinct_gates  # here: who only loads a problem needs no mrirecon
    from mrirecon.convex.operator import GatedOperator, PatchRows

    rng = np.random.default_rng((seed, size.patches, size.kernel, size.gates))
    Y, b = patches(size, rng)
    gates = torch.from_numpy(rng.standard_normal((size.gates, size.kernel**2), np.float32))
    u = distinct_gates(gates, PatchRows(Y))
    largest = GatedOperator(PatchRows(Y), u).adjoint(b).norm(dim=1).max()
    return Problem(Y, b, u, size.fraction * float(largest))


def patches(size: Size, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Drawn at random from where the object is; noisy, and what is to be added to their centres."""
    clean = heads()
    noisy = clean + NOISE * rng.standard_normal(clean.shape, np.float32)
    half = size.kernel // 2
    inside = np.repeat((np.hypot(clean[0::2], clean[1::2]) > NOISE), 2, axis=0)
    inside[:, :half] = inside[:, -half:] = inside[:, :, :half] = inside[:, :, -half:] = False
    places = np.argwhere(inside)
    image, row, column = places[rng.choice(len(places), size.patches, replace=False)].T
    windows = np.lib.stride_tricks.sliding_window_view(noisy, (size.kernel, size.kernel), axis=(1, 2))
    Y = windows[image, row - half, column - half].reshape(size.patches, -1)
    b = (clean - noisy)[image, row, column]
    return torch.from_numpy(np.ascontiguousarray(Y)), torch.from_numpy(b)


@cache
def heads() -> np.ndarray:
    """Real and imaginary parts of slices, in turn, (2 * slices, row, column); the mean signal is 1."""
    from mrirecon.simulation.volumes import simulate_volume

    image = simulate_volume((0, 0, 0), SLICES, 1, (SIZE, SIZE), anatomy="head").truth
    size = np.abs(image)
    image = image / size[size > 0.1 * size.max()].mean()
    return np.stack([image.real, image.imag], axis=1).reshape(-1, SIZE, SIZE)
