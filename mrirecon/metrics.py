"""Scores of a reconstructed volume: NMSE, PSNR and SSIM as fastMRI's ``evaluate.py`` computes them.

A volume is a real magnitude array (slices, h, w). PSNR and SSIM use the maximum of the whole target volume as data
range, and SSIM is the mean over slices of scikit-image's with a uniform 7x7 window; scores are computed in the number
type of the arrays, as there, so that they agree to the last digit. Zbontar et al. 2018, arXiv:1811.08839.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.segmentation import clear_border

from mrirecon.cropping import center_crop
from mrirecon.errors import InputError

SSIM_WINDOW = 7


class Scores(NamedTuple):
    """nmse: |target - prediction|^2 / |target|^2; psnr: dB; ssim: at most 1."""

    nmse: float
    psnr: float
    ssim: float


def nmse(target: np.ndarray, prediction: np.ndarray) -> float:
    """Normalised mean squared error of a volume, |target - prediction|^2 / |target|^2; (slices, h, w) both."""
    _check(target, prediction)
    return float(np.linalg.norm(target - prediction) ** 2 / np.linalg.norm(target) ** 2)


def psnr(target: np.ndarray, prediction: np.ndarray, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio of a volume in dB, infinite where they are equal; (slices, h, w) both.

    peak: data range; the target's maximum unless given (that of the volume, where only some of its slices are here).
    """
    _check(target, prediction)
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(target, prediction, data_range=target.max() if peak is None else peak))


def ssim(target: np.ndarray, prediction: np.ndarray, peak: float | None = None) -> float:
    """Structural similarity of a volume, mean over slices; (slices, h, w) both. peak: as for :func:`psnr`."""
    _check(target, prediction)
    peak = target.max() if peak is None else peak
    slices = zip(target, prediction, strict=True)
    return float(np.mean([structural_similarity(t, p, data_range=peak) for t, p in slices]))


def score(target: np.ndarray, prediction: np.ndarray) -> Scores:
    """The three scores of a volume, inside fastMRI's crop; prediction may have a larger field of view than target."""
    target, prediction = scored(target, prediction)
    return Scores(nmse(target, prediction), psnr(target, prediction), ssim(target, prediction))


def scored(target: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What fastMRI scores of a volume: the centre (w, w) of both, with w the target's width; all of the usual square.

    Where the target has fewer rows than columns, fastMRI's script stops; here all its rows count.
    """
    size = (min(target.shape[-2:]), target.shape[-1])
    if target.ndim != 3 or prediction.ndim != 3 or any(n < m for n, m in zip(prediction.shape[1:], size, strict=True)):
        raise InputError(
            f"prediction {prediction.shape} cannot be scored against target {target.shape}; expected (slices, h, w), "
            f"slices of at least {size}"
        )
    return center_crop(target, size), center_crop(prediction, size)


def body_mask(magnitude: np.ndarray) -> np.ndarray:
    """Where the body is in one slice, (h, w) bool, from the magnitude of the fully sampled image (h, w).

    The rule: smooth with a Gaussian of 1 % of the longer side, so that noise in air averages out; threshold at half of
    Otsu's value, since Otsu separates bright from dark tissue as readily as tissue from air; keep the largest connected
    part; fill its holes (ventricles, sinuses, flow voids).
    """
    if magnitude.ndim != 2 or np.iscomplexobj(magnitude) or not np.any(magnitude > 0):
        raise InputError(
            f"body mask of an array {magnitude.shape} {magnitude.dtype}; expected the magnitude (h, w) of one slice "
            "that is not zero everywhere"
        )
    smooth = gaussian(magnitude.astype(np.float64), 0.01 * max(magnitude.shape), mode="reflect")
    parts = label(smooth > 0.5 * threshold_otsu(smooth), connectivity=1)
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return np.asarray(body | clear_border(~body), dtype=bool)  # air that does not reach the border is a hole


def psnr_inside(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray) -> float:
    """PSNR in dB over the pixels of ``mask``; data range: the target's maximum inside. All arrays (slices, h, w)."""
    _check(target, prediction, mask)
    inside = target[mask]
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(inside, prediction[mask], data_range=inside.max()))


def ssim_inside(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray) -> float:
    """Mean of the SSIM map over the pixels of ``mask``; data range: the target's maximum inside. All (slices, h, w).

    Windows centred near the mask's edge look 3 pixels beyond it. Pixels within 3 of the image's border do not count, as
    in the whole-image score.
    """
    _check(target, prediction, mask)
    peak, border = target[mask].max(), SSIM_WINDOW // 2
    slices = zip(target, prediction, strict=True)
    maps = np.stack([structural_similarity(t, p, data_range=peak, full=True)[1] for t, p in slices])
    interior = np.zeros_like(mask)
    interior[:, border:-border, border:-border] = True
    return float(maps[mask & interior].mean(dtype=np.float64))


@dataclass
class _Unfinished:
    """Slices of a volume seen so far, by slice index: (target, prediction)."""

    n_slices: int
    slices: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def score(self) -> Scores:
        targets, predictions = zip(*(self.slices[i] for i in sorted(self.slices)), strict=True)
        return score(np.stack(targets), np.stack(predictions))


def _named(volume: str, part: _Unfinished) -> Scores:
    try:
        return part.score()
    except InputError as error:
        raise InputError(f"{volume}: {error}") from None


class VolumeMetrics:
    """Scores volumes whose slices arrive one by one in any order, as validation does; one object per epoch.

    Only unfinished volumes are kept in memory: a volume is scored when its last slice arrives, so the scores are those
    of :func:`score` on the whole volume, never means over slices. A slice that comes twice (from a sampler that pads
    the last batch) counts once.
    """

    def __init__(self) -> None:
        self._finished: dict[str, Scores] = {}
        self._unfinished: dict[str, _Unfinished] = {}

    def update(self, volume: str, index: int, n_slices: int, prediction: np.ndarray, target: np.ndarray) -> None:
        """Take slice ``index`` of the ``n_slices`` of ``volume``; prediction, target: (h, w), real, cropped alike."""
        if prediction.shape != target.shape or prediction.ndim != 2:
            raise InputError(
                f"slice {index} of {volume}: prediction {prediction.shape} scored against target {target.shape}; "
                "crop both alike, to (h, w), before scoring"
            )
        if volume in self._finished:
            return
        part = self._unfinished.setdefault(volume, _Unfinished(n_slices))
        # copies: a view would keep the whole batch it was cut from alive
        part.slices.setdefault(index, (target.copy(), prediction.copy()))
        if len(part.slices) == part.n_slices:
            self._finished[volume] = _named(volume, self._unfinished.pop(volume))

    def volumes(self) -> dict[str, Scores]:
        """Scores by volume; a volume of which only some slices came (limited validation) is scored over those."""
        return self._finished | {name: _named(name, part) for name, part in self._unfinished.items()}

    def compute(self) -> tuple[Scores, int]:
        """Mean scores over volumes, and the number of volumes."""
        scores = list(self.volumes().values())
        if not scores:
            raise InputError("no volume to score; expected at least one validation slice")
        return Scores(*np.mean(scores, axis=0).tolist()), len(scores)


def _check(target: np.ndarray, prediction: np.ndarray, mask: np.ndarray | None = None) -> None:
    if target.ndim != 3 or target.shape != prediction.shape or (mask is not None and mask.shape != target.shape):
        shapes = f"target {target.shape}, prediction {prediction.shape}"
        raise InputError(
            f"scores of {shapes if mask is None else f'{shapes}, mask {mask.shape}'}; expected one shape (slices, h, w)"
        )
    if target.shape[0] < 1 or min(target.shape[1:]) < SSIM_WINDOW:
        raise InputError(f"scores of a volume {target.shape}; expected slices of at least 7x7 pixels, SSIM's window")
    if np.iscomplexobj(target) or np.iscomplexobj(prediction):
        raise InputError(f"scores of {target.dtype} and {prediction.dtype}; take the magnitude of complex images first")
    if mask is not None and (mask.dtype != bool or not mask.any()):
        raise InputError(f"scores in a mask {mask.dtype} of {np.count_nonzero(mask)} pixels; expected bool, not empty")
    if not np.any((target if mask is None else target[mask]) > 0):
        raise InputError("the target is nowhere above zero, so its scores have no scale; leave this volume out")
