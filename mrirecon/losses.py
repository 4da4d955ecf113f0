"""Training losses on images: L1 and L2 of complex images or their parts, L1 and structural similarity of magnitudes.

Complex losses compare x and target of shape (batch, map, *space), both complex; magnitude losses compare magnitudes
(batch, h, w), both cropped alike. All return the mean over the batch, in the scale of the images they are given.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mrirecon.errors import InputError


class Loss(ABC):
    """A scalar that falls to zero as the image x approaches its target.

    ``target`` names the truth a loss is meant for: ``sense``, the complex image sum_c conj(S_c) F^-1(full k-space) with
    the maps in use, or ``rss``, the magnitude image of the file (root of the sum of squares over coils). The two differ
    by the coils' shading and by the phase, so a complex loss against ``rss`` would be wrong without any sign of it.
    """

    target: ClassVar[Literal["sense", "rss"]]

    @abstractmethod
    def __call__(self, x: Tensor, target: Tensor, peak: Tensor) -> Tensor:
        """The loss of a batch.

        peak: (batch,), maximum of each item's target volume in the scale of ``target``; SSIM's data range.
        """


class L1(Loss):
    """Mean absolute error of complex images, mean |x - target|."""

    target = "sense"

    def __call__(self, x: Tensor, target: Tensor, peak: Tensor) -> Tensor:
        return (x - target).abs().mean()


class PartsL1(Loss):
    """Mean absolute error of real and imaginary parts, mean |Re(x - target)| + |Im(x - target)|."""

    target = "sense"

    def __call__(self, x: Tensor, target: Tensor, peak: Tensor) -> Tensor:
        return torch.view_as_real(x - target).abs().sum(-1).mean()


class L2(Loss):
    """Mean squared error of complex images, mean |x - target|^2."""

    target = "sense"

    def __call__(self, x: Tensor, target: Tensor, peak: Tensor) -> Tensor:
        # not abs().square(): the squares of the parts need no root, and their gradient is smooth at zero
        return torch.view_as_real(x - target).square().sum(-1).mean()


class MagnitudeL1(Loss):
    """Mean absolute error of magnitudes, mean |x - target|."""

    target = "rss"

    def __call__(self, x: Tensor, target: Tensor, peak: Tensor) -> Tensor:
        return (x - target).abs().mean()


class SSIM(Loss):
    """1 - SSIM of magnitudes, with the volume's maximum as data range.

    The same number as ``skimage.metrics.structural_similarity`` with its default uniform 7x7 window and sample
    covariance, which is what fastMRI trains with and scores by; windows that reach over the border do not count.
    Wang et al. 2004, doi:10.1109/TIP.2003.819861.
    """

    target = "rss"

    def __call__(self, x: Tensor, target: Tensor, peak: Tensor) -> Tensor:
        return 1 - _ssim(x, target, peak).mean()


def _ssim(x: Tensor, y: Tensor, peak: Tensor, window: int = 7, k1: float = 0.01, k2: float = 0.03) -> Tensor:
    """SSIM at every pixel whose window lies inside the image, (batch, h - 6, w - 6); x, y: (batch, h, w), real."""
    if x.shape != y.shape or min(x.shape[-2:]) < window:
        raise InputError(f"SSIM of {tuple(x.shape)} and {tuple(y.shape)}; expected equal shapes, at least 7x7 pixels")
    R = peak.reshape(-1, 1, 1)
    # In units of the data range: variances are differences of squares, which in the scanner's units (1e-6 and less)
    # would leave the range of single precision.
    x, y = x / R, y / R
    moments = torch.stack((x, y, x * x + y * y, x * y), dim=1)
    moments = avg_pool2d(avg_pool2d(moments, (window, 1), stride=1), (1, window), stride=1)
    ux, uy, squares, product = moments.unbind(1)
    unbiased = window**2 / (window**2 - 1)
    uxuy, uxux_uyuy = ux * uy, ux * ux + uy * uy
    C1, C2 = k1**2, k2**2
    luminance = (2 * uxuy + C1) / (uxux_uyuy + C1)
    structure = (2 * unbiased * (product - uxuy) + C2) / (unbiased * (squares - uxux_uyuy) + C2)
    return luminance * structure
