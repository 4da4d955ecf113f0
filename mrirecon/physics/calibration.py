"""Coil sensitivity maps from the fully sampled centre of k-space: ESPIRiT, computed by sigpy.

Uecker et al., ESPIRiT: an eigenvalue approach to autocalibrating parallel MRI, Magn Reson Med 71 (2014) 990.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sigpy.mri.app import EspiritCalib

from mrirecon.errors import InputError


@dataclass(frozen=True)
class Calibration:
    """How maps are estimated.

    Args:
        width: At most this many centre lines, and as many centre rows, are used.
        kernel: Width of the ESPIRiT kernel; narrower where there are too few lines for it.
        threshold: Singular vectors below this part of the largest singular value count as noise.
        crop: Maps are zero where the eigenvalue is below; 0 keeps them everywhere, also in air.
        iterations: Power iterations. 50 equal 100 to 1e-4 inside a head; air converges more slowly.
    """

    width: int = 24
    kernel: int = 6
    threshold: float = 0.02
    crop: float = 0.8
    iterations: int = 50

    def __post_init__(self) -> None:
        if self.kernel < 2 or self.width < self.kernel or self.iterations < 1:
            raise InputError(
                f"calibration width={self.width}, kernel={self.kernel}, iterations={self.iterations}; "
                "expected kernel >= 2, width >= kernel, iterations >= 1"
            )
        if not 0 < self.threshold < 1 or not 0 <= self.crop < 1:
            raise InputError(
                f"calibration threshold={self.threshold}, crop={self.crop}; expected 0 < threshold < 1, 0 <= crop < 1"
            )


def calibration_square(shape: tuple[int, int], n_low: int, width: int) -> tuple[slice, slice]:
    """Rows and columns in the middle of k-space (H, W) that maps are estimated from, n = min(n_low, width, H) of each.

    Nothing else of the k-space is looked at, sampled or not, so maps do not depend on the mask drawn around it.

    n_low: fully sampled columns in the middle; they begin at (W - n_low + 1) // 2, fastMRI's rule.
    Raises InputError for fewer than three.
    """
    n = min(n_low, width, shape[0])
    if n < 3:
        raise InputError(
            f"{n_low} fully sampled centre lines; maps need at least 3, so use a larger center fraction "
            "or a mask with a sampled centre"
        )
    top, left = ((size - n + 1) // 2 for size in shape)
    return slice(top, top + n), slice(left, left + n)


def espirit(lines: np.ndarray, shape: tuple[int, int], calibration: Calibration) -> np.ndarray:
    """Maps (map = 1, coil, H, W), complex64, of unit norm at each pixel (zero where cropped).

    A map's phase is free at each pixel; it is set so that the virtual coil that sees most of the calibration data (its
    first principal component, its own phase such that its largest weight is positive) is real and positive. The same
    input gives the same maps, bit for bit, on one machine.

    lines: (coil, n, n), the samples of :func:`calibration_square`. shape: (H, W) of the image.
    """
    n_coils, n, _ = lines.shape
    if n_coils == 1:
        return np.ones((1, 1, *shape), np.complex64)
    if not lines.any():  # an empty slice has no sensitivities: all coils alike
        return np.full((1, n_coils, *shape), n_coils**-0.5, np.complex64)
    component = np.linalg.svd(lines.reshape(n_coils, -1), full_matrices=False)[0][:, 0]
    strongest = int(np.abs(component).argmax())
    component = component * np.exp(-1j * np.angle(component[strongest]))
    # sigpy divides by the first coil's map, so a dead coil must not come first.
    order = np.r_[strongest, np.delete(np.arange(n_coils), strongest)]
    kspace = np.zeros((n_coils, *shape), np.complex64)
    top, left = (size // 2 - n // 2 for size in shape)  # where sigpy looks for them
    kspace[:, top : top + n, left : left + n] = (lines / np.abs(lines).max())[order]
    with np.errstate(divide="ignore", invalid="ignore"):
        maps = EspiritCalib(
            kspace,
            calib_width=n,
            thresh=calibration.threshold,
            kernel_width=_kernel(n, calibration.kernel),
            crop=calibration.crop,
            max_iter=calibration.iterations,
            show_pbar=False,
        ).run()
    maps = np.nan_to_num(maps[np.argsort(order)], nan=0.0, posinf=0.0, neginf=0.0)
    reference = np.einsum("c,chw->hw", component.conj(), maps)
    size = np.abs(reference)
    maps *= np.where(size > 0, reference.conj() / np.where(size > 0, size, 1), 1)
    return np.asarray(maps[None], np.complex64)


def _kernel(n: int, widest: int) -> int:
    """The widest kernel, up to ``widest``, of which n lines hold at least 2.5 times as many places as it has elements.

    With fewer, the kernels explain what is not there, eigenvalues fall, and the support cuts into the body.
    """
    fitting = [k for k in range(2, widest + 1) if (n - k + 1) ** 2 >= 2.5 * k**2]
    return max(fitting, default=2)
