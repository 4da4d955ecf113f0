"""Scale-equivariant denoisers beside ordinary ones: cost at 320 x 320, and how far they are from commuting with scale.

All have two blocks. The reference is a ResNet of 64 channels. The others keep as much memory for the backward pass, but
for one ResNet that has as many weights as the scale-equivariant denoiser of the model cards. ``arithmetic`` counts the
multiplications of the forward pass relative to the reference, ``uncropped`` with all kernels as large as the largest,
and none with holes; ``train`` and ``infer`` are times relative to it, and ``per arithmetic`` their quotients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.denoisers_equivariance import (
    SCALES,
    Branching,
    layer_error,
    natural_noise,
    random_errors,
    trained_errors,
    white_noise,
)
from benchmarks.measure import Goal, Report, alternate, kept_bytes
from mrirecon.denoisers import ResNet, ScaleEquivariant
from mrirecon.denoisers.scales import Basis, Dilated, Hermite, ScaleConv, Zoomed
from mrirecon.testing import resampling_error

SIZE = 320
REFERENCE, DEFAULT = "ResNet", "scale-equivariant"
FEWER = ("one scale", "2 scales of 2", "3 scales of 2")  # cheaper ones, whose errors are compared too
# At most: time over arithmetic, error of a layer, error of a denoiser over the ordinary one's.
TIME, LAYER, DENOISER = 1.3, 0.01, 0.33
SEEDS, TRAININGS = 32, 3


@dataclass(frozen=True)
class Denoiser:
    """A denoiser of ``channels`` and, where it has scales, ``hidden`` features and a basis."""

    channels: int
    hidden: int = 0
    basis: Basis | None = None
    wide: bool = False  # second convolutions of a block with the basis too, and not 1x1

    def make(self) -> Branching:
        if self.basis is None:
            return ResNet(self.channels)
        second = self.basis if self.wide else None
        return ScaleEquivariant(self.channels, self.hidden, basis=self.basis, second=second)


def denoisers() -> dict[str, Denoiser]:
    """Those that are compared."""
    parameters = signature(ScaleEquivariant).parameters
    channels, hidden = (int(parameters[name].default) for name in ("channels", "hidden"))
    weights = sum(p.numel() for p in ScaleEquivariant().parameters())
    few = min(range(8, 65), key=lambda c: abs(sum(p.numel() for p in ResNet(c).parameters()) - weights))
    axes: dict[str, Basis] = {
        "2 scales of 2": Dilated(2),
        "3 scales of 2": Dilated(3),
        "5 scales of 2": Dilated(5),
        "3 scales of 3": Dilated(3, ratio=3),
        "3 scales of 1.4, zoomed": Zoomed(3, 1.4),
        "3 scales of 1.7, zoomed": Zoomed(3, 1.7),
        "4 scales of 1.6, zoomed": Zoomed(4, 1.6),
        "3 scales of 1.7, Hermite": Hermite(3, 1.7, 17, base=0.9),
    }
    return {
        REFERENCE: Denoiser(64),
        DEFAULT: Denoiser(channels, hidden, Dilated()),
        "ResNet of as many weights": Denoiser(few),
        "one scale": Denoiser(channels, as_many_bytes(channels, 1), Dilated(1)),
        **{name: Denoiser(channels, as_many_bytes(channels, axis.n_scales), axis) for name, axis in axes.items()},
        "both convolutions over scales": Denoiser(channels, channels // Dilated().n_scales, Dilated(), wide=True),
    }


def as_many_bytes(channels: int, n_scales: int) -> int:
    """Hidden features whose mean, and a byte of each where there are several scales, are ``channels`` floats."""
    return round(channels / (1 + n_scales / 4)) if n_scales > 1 else channels


def measure(size: int = SIZE, seeds: int = SEEDS, trainings: int = TRAININGS, updates: int = 700) -> Report:
    torch.set_num_threads(2)
    compared = denoisers()
    costs = cost_rows(compared, size)
    halved = {  # in width, so that training takes minutes
        name: replace(compared[name], channels=compared[name].channels // 2, hidden=compared[name].hidden // 2)
        for name in (REFERENCE, DEFAULT, *FEWER)
    }
    random = {name: random_errors(compared[name].make, seeds) for name in halved}
    trained = {
        (name, noise): trained_errors(halved[name].make, halved[REFERENCE].make, trainings, updates, noise)
        for name, noise in (*((name, natural_noise) for name in (DEFAULT, *FEWER)), (DEFAULT, white_noise))
    }
    own = [resampling_error(scale) for scale in SCALES]
    rows: list[dict[str, str | float]] = [
        *costs,
        *(r for n in (DEFAULT, *FEWER) for r in equivariance_rows("random", n, random[n], random[REFERENCE], own)),
    ]
    for (name, noise), found in trained.items():
        weights = "trained" if noise is natural_noise else "trained, white noise"
        rows += equivariance_rows(weights, name, found.equivariant, found.ordinary, found.resampling)
    for (name, noise), found in trained.items():
        ours, plain = found.psnr.values()
        psnr: dict[str, str | float] = {"PSNR": ours, "of the ResNet": plain, "apart at most": found.apart}
        rows.append({"table": "trained", "denoiser": name + ", white noise" * (noise is white_noise), **psnr})
    row = next(r for r in costs if r["denoiser"] == DEFAULT)
    natural = trained[DEFAULT, natural_noise]
    ratios = (ratio(random[DEFAULT], random[REFERENCE]), ratio(natural.equivariant, natural.ordinary))
    goals = {
        "scale_equivariant_time_vs_arithmetic": Goal(float(row["train per arithmetic"]), TIME, "lower"),
        "layer_equivariance_error": Goal(float(row["layer error"]), LAYER, "lower"),
        "denoiser_error_vs_cnn": Goal(max(ratios), DENOISER, "lower"),  # the worse of random and trained weights
    }
    return Report(rows, goals, ("torch", "numpy"))


def ratio(errors: np.ndarray, reference: np.ndarray) -> float:
    """Geometric mean over seeds and scales: errors of single seeds differ by a factor of ten."""
    return float(np.exp(np.log(errors / reference).mean()))


def equivariance_rows(
    weights: str, denoiser: str, ours: np.ndarray, plain: np.ndarray, own: Sequence[float]
) -> list[dict[str, str | float]]:
    """A row a scale; errors are geometric means over seeds, with a 95 % interval of the ratio."""
    rows: list[dict[str, str | float]] = []
    for i, scale in enumerate(SCALES):
        logs = np.log(ours[:, i] / plain[:, i])
        half = 2 * float(logs.std(ddof=1)) / len(logs) ** 0.5 if len(logs) > 1 else np.nan
        rows.append(
            {
                "table": "equivariance",
                "weights": weights,
                "denoiser": denoiser,
                "scale": scale,
                "ResNet": float(np.exp(np.log(plain[:, i]).mean())),
                "equivariant": float(np.exp(np.log(ours[:, i]).mean())),
                "ratio": ratio(ours[:, i], plain[:, i]),
                "least": float(np.exp(logs.mean() - half)),
                "most": float(np.exp(logs.mean() + half)),
                "of resampling": own[i],
            }
        )
    return rows


def cost_rows(compared: Mapping[str, Denoiser], size: int) -> list[dict[str, str | float]]:
    x = torch.randn(1, 1, size, size, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    nets = {name: denoiser.make() for name, denoiser in compared.items()}
    train, infer = ({name: beside(name, what, nets, x) for name in nets} for what in (training, inference))
    # Of two images: of a single one, pixels beyond the border are computed too, which saves a copy; they do not count.
    work = {name: multiplications(net, torch.cat([x, x])) / 2 for name, net in nets.items()}
    rows: list[dict[str, str | float]] = []
    for name, denoiser in compared.items():
        sizes = denoiser.basis.kernel_sizes if denoiser.basis else (3,)
        arithmetic = work[name] / work[REFERENCE]
        times = [seconds[name] / seconds[REFERENCE] for seconds in (train[name], infer[name])]
        whole = (work[name] + added_by_whole_kernels(nets[name], x, max(sizes))) / work[REFERENCE]
        rows.append(
            {
                "table": "cost",
                "denoiser": name,
                "kernels": " ".join(map(str, sizes)),
                "channels": denoiser.channels,
                "hidden": denoiser.hidden or "",
                "weights": sum(p.numel() for p in nets[name].parameters()),
                "kept_MB": 1e-6 * kept_bytes(partial(nets[name], x), nets[name].parameters()),
                "arithmetic": arithmetic,
                "uncropped": whole,
                "train": times[0],
                "infer": times[1],
                "train per arithmetic": times[0] / arithmetic,
                "infer per arithmetic": times[1] / arithmetic,
                "layer error": layer_error(denoiser.basis) if denoiser.basis and denoiser.basis.n_scales > 1 else "",
                "train_s": train[name][name],
                "infer_s": infer[name][name],
            }
        )
    return rows


def beside(
    name: str, what: Callable[[Branching, Tensor], Callable[[], object]], nets: Mapping[str, Branching], x: Tensor
) -> dict[str, float]:
    """Seconds of a denoiser and of the reference, which take turns.

    These two alone: after one that needs ten times the memory, the next would pay for getting its own from the system.
    """
    return alternate({key: what(nets[key], x) for key in (REFERENCE, name)})


def training(net: Branching, x: Tensor) -> Callable[[], object]:
    def step() -> None:
        net.train()
        net.zero_grad()
        net(x).abs().square().sum().backward()

    return step


def inference(net: Branching, x: Tensor) -> Callable[[], object]:
    def infer() -> None:
        net.eval()
        with torch.no_grad():
            net(x)

    return infer


def multiplications(net: nn.Module, x: Tensor | tuple[Tensor, ...]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    return int(counter.get_total_flops()) // 2


def added_by_whole_kernels(net: Branching, x: Tensor, size: int) -> int:
    """Multiplications more, were all kernels over scales ``size`` wide, without holes and blur."""
    added, pixels = 0, x[0, 0].numel()
    for module in net.modules():
        if isinstance(module, ScaleConv):
            z = torch.zeros(1, module.weight.shape[2], *x.shape[2:])
            added += pixels * module.n_scales * module.weight[..., 0].numel() * size**2
            added -= multiplications(module, (z,) * module.n_scales)
    return added
