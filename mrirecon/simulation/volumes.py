"""Simulated multi-coil volumes: a random phantom, seen by random coils, with correlated noise.

kspace = F(maps * truth) + noise, per slice and coil. The maps have unit sum of squares over the coils at every pixel,
so that |truth| is the noise-free root-sum-of-squares image, shading by the coils included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mrirecon.errors import InputError
from mrirecon.simulation.coils import Loops, draw_loops
from mrirecon.simulation.noise import draw_covariance, draw_noise
from mrirecon.simulation.phantoms import Anatomy, draw_anatomy, draw_phantom
from mrirecon.simulation.shapes import Grid, Phantom
from mrirecon.simulation.tissues import draw_contrast

Number = TypeVar("Number", int, float)

# Phantoms are drawn on a finer raster and cut in k-space, as a scanner does: edges ring as measured ones do.
SUPERSAMPLING = 2
# The brightest pixel of a volume; fastMRI's files lie around here.
PEAK = (3e-4, 2e-3)
SLICE_SPACING = (0.02, 0.05)  # of half the field of view: 2 to 6 mm in a head


@dataclass(frozen=True)
class SimulatedVolume:
    """kspace, maps: (slices, coils, rows, columns); truth: (slices, rows, columns); all complex64, rows the readout.

    recon_shape: the image cropped to it is the target (smaller than the rows where the readout is oversampled).
    covariance: the noise's, (coils, coils), E[n n^H]. snr: mean of |truth| inside the body over the noise's standard
    deviation per real channel.
    """

    kspace: np.ndarray
    truth: np.ndarray
    maps: np.ndarray
    covariance: np.ndarray
    recon_shape: tuple[int, int]
    acquisition: str
    snr: float

    @property
    def reconstruction_rss(self) -> np.ndarray:
        """(slices, *recon_shape), float32: root sum of squares of the noisy coil images, cropped."""
        rss = np.sqrt(np.sum(np.abs(image_of(self.kspace)) ** 2, axis=1))
        # fastMRI's crop starts at (N - n) // 2.
        top, left = ((n - m) // 2 for n, m in zip(rss.shape[-2:], self.recon_shape, strict=True))
        return rss[:, top : top + self.recon_shape[0], left : left + self.recon_shape[1]].astype(np.float32)


def simulate_volume(
    seed: Sequence[int],
    n_slices: int = 4,
    n_coils: int | tuple[int, int] = 8,
    shape: tuple[int, int] = (256, 256),
    *,
    readout_oversampling: int = 1,
    snr: float | tuple[float, float] = (20.0, 200.0),
    anatomy: Anatomy | None = None,
    scale: float = 1.0,
    coil_scale: float = 1.0,
) -> SimulatedVolume:
    """A volume, the same for the same seed and arguments.

    Args:
        seed: Whole numbers, as many for every volume of a set (numpy ignores zeros at the end), for example
            (seed, split, volume).
        n_slices: Slices, of one object at neighbouring heights.
        n_coils: Receive coils, or the least and the most of them.
        shape: Rows (readout) and columns (phase encoding) of the image to be reconstructed.
        readout_oversampling: k-space has this many times as many rows.
        snr: Mean signal in the body over the noise's standard deviation; or the bounds of a log-uniform draw.
        anatomy: What to draw; drawn at random where none is given.
        scale: Size of the object relative to the field of view's usual, applied to the continuous geometry; all else is
            drawn alike, and intensities and noise stay those of scale 1.
        coil_scale: Size of the coil array, likewise: ``scale`` alone is a larger patient, both together smaller pixels.
    """
    check_settings(n_slices, n_coils, shape, readout_oversampling, snr, scale, coil_scale)
    fewest, most = _range(n_coils)
    low, high = _range(snr)
    # One stream per cause: what is drawn for the coils must not depend on how much the phantom drew.
    object_rng, coil_rng, noise_rng = (np.random.default_rng((cause, *seed)) for cause in range(3))
    pixel = 2 / min(shape)
    extent = (shape[0] * pixel / 2, shape[1] * pixel / 2)
    encoded = (readout_oversampling * shape[0], shape[1])

    if anatomy is None:
        anatomy = draw_anatomy(object_rng)
    weighting, signals = draw_contrast(object_rng)
    # A limb goes on along the readout, beyond the target, as far as the receiver sees.
    reach = (extent[0] * readout_oversampling, extent[1]) if anatomy == "limb" else extent
    phantom = draw_phantom(object_rng, anatomy, signals, reach)
    blur = draw_point_spread(object_rng)
    spacing = min(object_rng.uniform(*SLICE_SPACING), 1.2 / n_slices)
    heights = object_rng.uniform(-0.2, 0.2) + spacing * (np.arange(n_slices) - (n_slices - 1) / 2)
    peak = float(np.exp(object_rng.uniform(*np.log(PEAK))))
    coils = int(coil_rng.integers(fewest, most + 1))
    loops = draw_loops(coil_rng, coils, extent)
    covariance = draw_covariance(coil_rng, coils, loops.center)

    truth = np.empty((n_slices, *encoded), np.complex64)
    maps = np.empty((n_slices, coils, *encoded), np.complex64)
    for i, z in enumerate(heights.tolist()):
        maps[i], truth[i] = _seen(phantom, blur, loops, encoded, z, pixel, scale, coil_scale)
    usual = truth
    if (scale, coil_scale) != (1, 1):
        usual = np.stack([_seen(phantom, blur, loops, encoded, z, pixel)[1] for z in heights.tolist()])
    gain = peak / np.abs(usual).max()
    brightness = np.abs(usual * gain)
    signal = brightness[brightness > 0.1 * brightness.max()].mean()
    truth *= gain
    ratio = float(np.exp(noise_rng.uniform(np.log(low), np.log(high))))
    # The covariance has mean variance 1 per complex sample, half of it per real channel.
    covariance = covariance * (2 * (signal / ratio) ** 2)
    kspace = np.empty_like(maps)
    for i in range(n_slices):
        noise = draw_noise(np.random.default_rng((3, i, *seed)), covariance, encoded)
        kspace[i] = kspace_of(maps[i] * truth[i]) + noise
    recon_shape = (int(shape[0]), int(shape[1]))
    return SimulatedVolume(kspace, truth, maps, covariance, recon_shape, f"SIM_{anatomy.upper()}_{weighting}", ratio)


def _seen(
    phantom: Phantom,
    blur: tuple[tuple[float, float], tuple[float, float]],
    loops: Loops,
    shape: tuple[int, int],
    z: float,
    pixel: float,
    scale: float = 1.0,
    coil_scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (coils, rows, columns) of unit sum of squares, and the image (rows, columns) with their shading."""
    sensitivity = loops.sensitivity(Grid.of(shape, z * scale, pixel).scaled(coil_scale))
    rss = np.sqrt(np.sum(np.abs(sensitivity) ** 2, axis=0))
    return sensitivity / rss, band_limited(phantom, shape, z * scale, pixel, scale, blur) * rss


def check_settings(
    n_slices: int,
    n_coils: int | tuple[int, int],
    shape: tuple[int, int],
    readout_oversampling: int,
    snr: float | tuple[float, float],
    scale: float = 1.0,
    coil_scale: float = 1.0,
) -> None:
    """Raises InputError for what :func:`simulate_volume` cannot simulate."""
    fewest, most = _range(n_coils)
    low, high = _range(snr)
    if n_slices < 1 or readout_oversampling < 1 or min(shape) < 16:
        raise InputError(
            f"slices {n_slices}, shape {tuple(shape)}, readout oversampling {readout_oversampling}; "
            "expected at least 1, 16 x 16 and 1"
        )
    if not 1 <= fewest <= most <= 32:
        raise InputError(f"coils {n_coils}; expected 1 to 32, or [least, most] within that")
    if max(n_slices, readout_oversampling * shape[0], shape[1]) > 4096:
        raise InputError(f"slices {n_slices}, shape {tuple(shape)}; expected at most 4096 of each")
    if not (0.1 <= scale <= 4 and 0.1 <= coil_scale <= 4):
        raise InputError(f"scale {scale}, coil_scale {coil_scale}; expected 0.1 to 4 times the usual size")
    if not 1e-3 <= low <= high <= 1e12:
        raise InputError(f"snr {snr}; expected a number from 0.001 to 1e12, or [least, most] within that")


def _range(value: Number | tuple[Number, Number]) -> tuple[Number, Number]:
    return value if isinstance(value, tuple) else (value, value)


def draw_point_spread(rng: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
    """(decay, cut) along y and x, for :func:`k_weight`: none in half of the volumes; decay over the echo train, and
    resolution below the matrix's in the others."""
    decay = rng.uniform(0, 1.2, 2) * (rng.random() < 0.35)
    cut = np.where(rng.random(2) < 0.15, rng.uniform(0.7, 1.0, 2), np.inf)
    return (float(decay[0]), float(cut[0])), (float(decay[1]), float(cut[1]))


def k_weight(n: int, decay: float, cut: float) -> np.ndarray:
    """exp(-decay k^2) with a soft end at ``cut``, k from -1 to 1 over the n samples, float32."""
    k = np.abs(np.arange(n) - n // 2) / (n / 2)
    return (np.exp(-decay * k**2) * np.clip((cut - k) / 0.06, 0, 1)).astype(np.float32)


def band_limited(
    phantom: Phantom,
    shape: tuple[int, int],
    z: float,
    pixel: float,
    scale: float = 1.0,
    blur: tuple[tuple[float, float], tuple[float, float]] = ((0.0, np.inf), (0.0, np.inf)),
) -> np.ndarray:
    """A slice of the phantom on the pixel grid, complex64: drawn finer, cut and weighted in k-space."""
    fine = (SUPERSAMPLING * shape[0], SUPERSAMPLING * shape[1])
    image = phantom(Grid.of(fine, z, pixel / SUPERSAMPLING).scaled(scale))
    top, left = (n // 2 - m // 2 for n, m in zip(fine, shape, strict=True))  # zero frequency stays at m // 2
    kspace = kspace_of(image)[top : top + shape[0], left : left + shape[1]]
    weight = k_weight(shape[0], *blur[0])[:, None] * k_weight(shape[1], *blur[1])
    return image_of(kspace * weight) / np.float32(SUPERSAMPLING)


def kspace_of(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal Fourier transform over the last two axes, complex64."""
    shifted = np.fft.fft2(np.fft.ifftshift(image, axes=(-2, -1)), norm="ortho")
    return np.fft.fftshift(shifted, axes=(-2, -1)).astype(np.complex64)


def image_of(kspace: np.ndarray) -> np.ndarray:
    """The inverse of kspace_of."""
    shifted = np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1)), norm="ortho")
    return np.fft.fftshift(shifted, axes=(-2, -1)).astype(np.complex64)
