"""One-shot denoisers of zero-filled images, trained as convex programs and as ReLU networks: objectives and scores.

All are trained on the same patches with the same penalty. The objective of a ReLU network is

F(u, v) = 1/2 ||relu(Y U^T) v - b||^2 + beta / 2 sum_j (||u_j||^2 + v_j^2)

and the constrained program's is the same function of filters in cones; that of the gated program lies below it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from convex_data import samples
from study import score
from torch import Tensor

from mrirecon.convex.augmented_lagrangian import solve_cones
from mrirecon.convex.gates import different_gates, distinct_gates
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.neurons import grown
from mrirecon.convex.operator import GatedOperator
from mrirecon.convex.relu import network_of
from mrirecon.convex.working_set import solve
from mrirecon.data.slices import Slice
from mrirecon.denoisers import ConvexDual, TwoLayerReLU
from mrirecon.denoisers.denoiser import Denoiser
from mrirecon.losses import L2
from mrirecon.training.convex_stage import stage_program
from mrirecon.unrolled import OneShot, Unrolled

Line = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How denoisers are trained.

    fraction: the penalty, as a part of the one from which on gated filters are zero. gates: numbers of random ones.
    tolerance: relative gaps of the programs. rounds, starts: in which neurons are grown. rates, steps: of Adam.
    """

    kernel_size: int = 3
    fraction: float = 0.03
    gates: tuple[int, ...] = (50, 200)
    tolerance: float = 1e-4
    rounds: int = 15
    starts: int = 100
    rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    steps: int = 1000


class OneShots:
    """Denoisers for one acceleration.

    train: what they are trained on. tests: by name, what they are scored on.
    """

    def __init__(self, settings: Settings, train: list[Slice], tests: dict[str, list[Slice]]) -> None:
        self.settings, self.tests = settings, tests
        self.samples = samples(train)
        like = ConvexDual(200, settings.kernel_size, strength=1.0)
        whole = stage_program(OneShot(like), self.samples, "data")
        self.beta = settings.fraction * whole.largest_strength
        assert isinstance(whole.K, GatedOperator)  # nothing follows the filters of a one-shot denoiser
        self.patches, self.b = whole.K.patches, whole.b

    def program(self, gates: Tensor) -> LeastSquares:
        return LeastSquares(GatedOperator(self.patches, gates), self.b, self.beta)

    def zero_filled(self) -> Line:
        return {"objective": float(self.b.double().square().sum()) / 2, "scores": self._scores(None)}

    def random(self, gates: int, seed: int) -> Line:
        """The gated and the constrained program behind random gates."""
        return self._solved(self._drawn(gates, seed))

    def grown(self, seed: int) -> Line:
        """Both programs behind gates that were grown, and what the growth ended with."""
        start = time.perf_counter()
        program = self.program(self._drawn(1, seed))
        neurons = grown(program, rounds=self.settings.rounds, starts=self.settings.starts, seed=seed)
        gates = neurons.gates
        prints = {"network": neurons.objective, "neurons": len(neurons.v), "price": neurons.price}
        seconds = time.perf_counter() - start
        return self._solved(different_gates(gates, self.patches)) | {"growth": prints | {"seconds": seconds}}

    def adam(self, neurons: int, rate: float, seed: int) -> Line:
        """A ReLU network with weight decay, trained by Adam on all patches at once, along a cosine of the rate."""
        start = time.perf_counter()
        torch.manual_seed(seed)
        net = self._relu(neurons)
        u, v = (p.detach().flatten(1) if p.ndim > 1 else p.detach() for p in (net.u, net.v))
        u, v = u.clone().requires_grad_(), v.clone().requires_grad_()
        Y = torch.cat([Y for _, Y in self.patches])
        adam = torch.optim.Adam([u, v], lr=rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.settings.steps)
        for _ in range(self.settings.steps):
            adam.zero_grad()
            r = torch.relu(Y @ u.T) @ v - self.b
            (r.square().sum() / 2 + self.beta / 2 * (u.square().sum() + v.square().sum())).backward()
            adam.step()
            falling.step()
        with torch.no_grad():
            net.u.copy_(u.reshape(net.u.shape))
            net.v.copy_(v)
        seconds = time.perf_counter() - start
        return {"objective": self.objective(net), "scores": self._scores(net), "seconds": seconds}

    def objective(self, net: Denoiser) -> float:
        """Of a denoiser, by the loss and the penalty with which `mrirecon fit` would train it."""
        with torch.no_grad():
            losses = [L2()(net(s.x), s.target, torch.ones(1)).double() for s in self.samples]
            return float(torch.stack(losses).mean() + net.penalty())

    def _solved(self, gates: Tensor) -> Line:
        program, shape = self.program(gates), self._dual(gates).gates.shape
        start = time.perf_counter()
        gated = solve(program, self.settings.tolerance)
        middle = time.perf_counter()
        cones = solve_cones(program, self.settings.tolerance)
        end = time.perf_counter()
        free, bound = self._dual(gates), self._dual(gates)
        with torch.no_grad():
            free.filters.copy_(gated.filters.reshape(shape))
            bound.filters.copy_((cones.w - cones.z).reshape(shape))
        relu = network_of(cones.w, cones.z, bound)
        return {
            "gates": len(gates),
            "beta": self.beta,
            "gated": gated.certificate.as_dict() | {"seconds": middle - start, "scores": self._scores(free)},
            "constrained": cones.certificate.as_dict() | {"seconds": end - middle, "scores": self._scores(bound)},
            "mapped": {"neurons": len(relu.v), "objective": self.objective(relu), "scores": self._scores(relu)},
        }

    def _drawn(self, gates: int, seed: int) -> Tensor:
        like = torch.zeros(gates, self.settings.kernel_size**2)
        return distinct_gates(like, self.patches, "data", seed)

    def _dual(self, gates: Tensor) -> ConvexDual:
        size = self.settings.kernel_size
        dual = ConvexDual(len(gates), size, self.beta)
        dual.gates.copy_(gates.reshape(dual.gates.shape))
        return dual

    def _relu(self, neurons: int) -> TwoLayerReLU:
        return TwoLayerReLU(neurons, self.settings.kernel_size, self.beta)

    def _scores(self, net: Denoiser | None) -> dict[str, list[list[float]]]:
        """PSNR and SSIM in the body of every slice of every test."""
        steps = [] if net is None else [OneShot(net)]
        return {
            name: np.round([score(Unrolled(steps), one) for one in slices], 4).tolist()
            for name, slices in self.tests.items()
        }
