"""Scale-equivariant denoisers beside ordinary ones: cost at 320 x 320, and how far they are from commuting with scale.

All have two blocks. The reference is a ResNet of 64 channels. The others keep as much memory for the backward pass, but
for one ResNet that has as many weights as the scale-equivariant denoiser of the model cards. ``arithmetic`` counts the
multiplications of the forward pass relative to the reference, ``uncropped`` with all kernels as large as the largest;
``train`` and ``infer`` are times relative to it, and ``per arithmetic`` their quotients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.denoisers_equivariance import SCALES, Branching, layer_error, random_errors, trained_errors
from benchmarks.measure import Goal, Report, alternate
from mrirecon.denoisers import ResNet, ScaleEquivariant
from mrirecon.denoisers.scales import Basis, Hermite, Zoomed
from mrirecon.testing import resampling_error

SIZE = 320
REFERENCE, DEFAULT = "ResNet", "scale-equivariant"
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

    def uncropped(self) -> Denoiser:
        """With kernels at all scales as large as the largest."""
        if not isinstance(self.basis, Zoomed):
            return self
        fine, *coarse = self.basis.kernel_sizes
        sizes = [fine, *[max(self.basis.kernel_sizes)] * len(coarse)]
        basis = Zoomed(self.basis.n_scales, self.basis.ratio, kernel_sizes=sizes)
        return Denoiser(self.channels, self.hidden, basis, self.wide)


def denoisers() -> dict[str, Denoiser]:
    """Those that are compared."""
    basis, parameters = Zoomed(), signature(ScaleEquivariant).parameters
    channels, hidden = (int(parameters[name].default) for name in ("channels", "hidden"))
    weights = sum(p.numel() for p in ScaleEquivariant().parameters())
    few = min(range(8, 65), key=lambda c: abs(sum(p.numel() for p in ResNet(c).parameters()) - weights))
    features = hidden * basis.n_scales
    axes = {
        "2 scales of 1.4": Zoomed(2, 1.4),
        "3 scales of 1.25": Zoomed(3, 1.25),
        "3 scales of 1.4": Zoomed(3, 1.4),
        "3 scales of 2": Zoomed(3, 2.0),
        "4 scales of 1.6": Zoomed(4, 1.6),
        "5 scales of 1.4": Zoomed(5, 1.4),
        "3 scales of 1.7, Hermite": Hermite(3, 1.7, 17, base=0.9),
    }
    return {
        REFERENCE: Denoiser(64),
        DEFAULT: Denoiser(channels, hidden, basis),
        "ResNet of as many weights": Denoiser(few),
        "one scale": Denoiser(channels, features, Zoomed(1)),
        **{name: Denoiser(channels, features // axis.n_scales, axis) for name, axis in axes.items()},
        "both convolutions over scales": Denoiser(channels, hidden, basis, wide=True),
    }


def measure(size: int = SIZE, seeds: int = SEEDS, trainings: int = TRAININGS, updates: int = 700) -> Report:
    torch.set_num_threads(2)
    compared = denoisers()
    costs = cost_rows(compared, size)
    default, features = compared[DEFAULT], compared["one scale"].hidden
    halved = {  # in width, so that training takes minutes
        REFERENCE: Denoiser(32),
        DEFAULT: replace(default, channels=default.channels // 2, hidden=default.hidden // 2),
        "one scale": replace(compared["one scale"], channels=default.channels // 2, hidden=features // 2),
    }
    random = {name: random_errors(compared[name].make, seeds) for name in halved}
    trained, single = (
        trained_errors(halved[name].make, halved[REFERENCE].make, trainings, updates) for name in (DEFAULT, "one scale")
    )
    own = [resampling_error(scale) for scale in SCALES]
    rows: list[dict[str, str | float]] = [
        *costs,
        *equivariance_rows("random", random[DEFAULT], random[REFERENCE], own),
        *equivariance_rows("random, one scale", random["one scale"], random[REFERENCE], own),
        *equivariance_rows("trained", trained.equivariant, trained.ordinary, trained.resampling),
        *equivariance_rows("trained, one scale", single.equivariant, single.ordinary, single.resampling),
    ]
    for name, found in ((DEFAULT, trained), ("one scale", single)):
        ours, plain = found.psnr.values()
        rows.append({"table": "trained", "denoiser": name, "PSNR": ours, "of the ResNet": plain})
    row = next(r for r in costs if r["denoiser"] == DEFAULT)
    ratios = (ratio(random[DEFAULT], random[REFERENCE]), ratio(trained.equivariant, trained.ordinary))
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
    weights: str, ours: np.ndarray, plain: np.ndarray, own: Sequence[float]
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
    train = alternate({name: training(net, x) for name, net in nets.items()}, 9)
    infer = alternate({name: inference(net.eval(), x) for name, net in nets.items()}, 9)
    work = {name: multiplications(net, x) for name, net in nets.items()}
    rows: list[dict[str, str | float]] = []
    for name, denoiser in compared.items():
        sizes = denoiser.basis.kernel_sizes if denoiser.basis else (3,)
        arithmetic, times = (
            work[name] / work[REFERENCE],
            (train[name] / train[REFERENCE], infer[name] / infer[REFERENCE]),
        )
        whole = multiplications(denoiser.uncropped().make(), x) / work[REFERENCE]
        rows.append(
            {
                "table": "cost",
                "denoiser": name,
                "kernels": " ".join(map(str, sizes)),
                "channels": denoiser.channels,
                "hidden": denoiser.hidden or "",
                "weights": sum(p.numel() for p in nets[name].parameters()),
                "kept_MB": 1e-6 * kept_bytes(nets[name], x),
                "arithmetic": arithmetic,
                "uncropped": whole,
                "train": times[0],
                "infer": times[1],
                "train per arithmetic": times[0] / arithmetic,
                "infer per arithmetic": times[1] / arithmetic,
                "layer error": layer_error(denoiser.basis) if denoiser.basis and denoiser.basis.n_scales > 1 else "",
                "train_s": train[name],
                "infer_s": infer[name],
            }
        )
    return rows


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


def multiplications(net: Branching, x: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x)
    return int(counter.get_total_flops()) // 2


def kept_bytes(net: Branching, x: Tensor) -> int:
    """What is kept for the backward pass, each storage once; weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is given out again

    def keep(y: Tensor) -> Tensor:
        kept[y.untyped_storage().data_ptr()] = y.untyped_storage()
        return y

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda y: y):
        result = net(x)
    assert result.requires_grad
    return sum(storage.nbytes() for place, storage in kept.items() if place not in weights)
