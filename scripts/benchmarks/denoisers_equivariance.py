"""Errors of equivariance of layers and denoisers: with random weights, and with weights trained to denoise.

What is trained away is Gaussian noise of spectrum 1 / |frequency|, the images' own, as that of undersampling artefacts
is; or white noise. This has a scale, that of the pixel: its best denoiser does not commute with changes of scale, and
two that come near it are alike in that too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mrirecon.denoisers import ResNet, ScaleEquivariant
from mrirecon.denoisers.scales import Basis, ScaleConv
from mrirecon.denoisers.scales.resampling import low_passed, natural_images
from mrirecon.simulation.volumes import simulate_volume
from mrirecon.testing import resampling_error, scale_equivariance_error, unit_gain

Branching: TypeAlias = ResNet | ScaleEquivariant
Noise: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]

# The ratio of the default axis and, between its scales, those of the study.
SCALES = (0.5, 0.7, 0.8, 0.9, 1.1, 1.25, 1.4, 2.0)
IMAGES, PATCH, BATCH = 40, 64, 8
SIZE = 160
NOISE = (0.1, 0.5)  # per real channel; 95 % of an image's magnitudes are below 1


def natural_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images with noise of their own spectrum, and of a level of its own for each."""
    seed = int(torch.randint(2**31, (), generator=generator))
    return x + level(x, generator) * natural_images(x.shape, np.inf, seed, x.dtype)


def white_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """The same of a flat spectrum."""
    return x + level(x, generator) * torch.randn(x.shape, dtype=x.dtype, generator=generator)


def level(x: Tensor, generator: torch.Generator) -> Tensor:
    """Root mean square of the noise of each image."""
    low, high = np.log(NOISE)
    return 2**0.5 * torch.exp(low + (high - low) * torch.rand(len(x), 1, 1, 1, generator=generator))


def layer_error(basis: Basis, seeds: int = 3) -> float:
    """Of a convolution of images with random weights: the largest over the factors of the scale axis."""
    worst = 0.0
    for seed in range(seeds):
        torch.manual_seed(seed)
        layer = unit_gain(ScaleConv(2, 16, basis))

        def lifted(x: Tensor, layer: ScaleConv = layer) -> tuple[Tensor, ...]:
            return layer(torch.cat([x.real, x.imag], 1))

        for places in {-1, 1, basis.n_scales - 1}:
            worst = max(worst, scale_equivariance_error(lifted, basis.ratio**places, places=places))
    return worst


def random_errors(make: Callable[[], Branching], seeds: int) -> np.ndarray:
    """Of networks with random weights of unit gain and no bias: (seed, scale)."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        net = unit_gain(make())
        found.append([scale_equivariance_error(net.branch, scale) for scale in SCALES])
    return np.array(found)


@dataclass(frozen=True)
class Trained:
    """Errors (seed, scale) of denoisers of equal PSNR, those of resampling, and the PSNR in dB, means over seeds.

    apart: the most that the PSNR of the two differs by in a seed, which is more than the progress from one look to the
        next where the ordinary one never becomes as good.
    """

    equivariant: np.ndarray
    ordinary: np.ndarray
    resampling: list[float]
    psnr: dict[str, float]
    apart: float


def trained_errors(
    equivariant: Callable[[], Branching],
    ordinary: Callable[[], Branching],
    seeds: int,
    updates: int,
    with_noise: Noise = natural_noise,
) -> Trained:
    """The equivariant one is trained in full, the ordinary one until it is as good; on noisy images, as in training."""
    train, test = images()
    noisy = with_noise(test, torch.Generator().manual_seed(1))
    errors: list[list[list[float]]] = []
    reached = []
    for seed in range(seeds):
        *_, ours = training(equivariant, train, test, with_noise, seed, updates)
        found = training(ordinary, train, test, with_noise, seed, updates)
        plain = next(state for state in found if state.psnr >= ours.psnr or state.done)
        errors.append([[error_of(state.net, scale, noisy) for scale in SCALES] for state in (ours, plain)])
        reached.append([ours.psnr, plain.psnr])
    equivariant_psnr, ordinary_psnr = np.mean(reached, 0).tolist()
    both = np.array(errors)
    own = [resampling_error(scale, noisy.shape, images=limited(noisy)) for scale in SCALES]
    return Trained(
        both[:, 0],
        both[:, 1],
        own,
        {"scale-equivariant": equivariant_psnr, "ResNet": ordinary_psnr},
        float(np.ptp(reached, axis=1).max()),
    )


def error_of(net: Branching, scale: float, noisy: Tensor) -> float:
    return scale_equivariance_error(net.branch, scale, noisy.shape, images=limited(noisy))


def limited(noisy: Tensor) -> Callable[[float], Tensor]:
    """The images without frequencies beyond a band."""
    return lambda band: low_passed(noisy, band).to(noisy.dtype)


class State(NamedTuple):
    net: Branching
    psnr: float
    done: bool


def training(
    make: Callable[[], Branching],
    train: Tensor,
    test: Tensor,
    with_noise: Noise,
    seed: int,
    updates: int,
    every: int = 25,
) -> Iterator[State]:
    """The network with averaged weights, after every few updates and at the end."""
    torch.manual_seed(seed)
    net = make()
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.98))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=updates)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, updates + 1):
        which = torch.randint(len(train), (BATCH,), generator=generator)
        top, left = torch.randint(SIZE - PATCH + 1, (2,), generator=generator).tolist()
        x = train[which]
        x, y = (image[..., top : top + PATCH, left : left + PATCH] for image in (x, with_noise(x, generator)))
        loss = (net(y) - x).abs().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        averaged.update_parameters(net)
        if step % every == 0 or step == updates:
            now = cast(Branching, averaged.module)
            yield State(now, psnr_of(now, test, with_noise), step == updates)


def images() -> tuple[Tensor, Tensor]:
    """Simulated slices (image, 1, SIZE, SIZE), of which four fifths are trained on."""
    found = []
    for i in range(IMAGES):
        truth = simulate_volume((13, i), n_slices=1, n_coils=1, shape=(SIZE, SIZE)).truth
        found.append(torch.from_numpy(truth / np.quantile(np.abs(truth), 0.95)))
    whole = torch.stack(found)
    return whole[: 4 * IMAGES // 5], whole[4 * IMAGES // 5 :]


def psnr_of(net: Branching, test: Tensor, with_noise: Noise) -> float:
    """Of images whose values are about 1, in dB."""
    with torch.no_grad():
        error = (net(with_noise(test, torch.Generator().manual_seed(2))) - test).abs().square().mean()
    return float(-10 * torch.log10(error / 2))
