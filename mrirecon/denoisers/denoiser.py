"""What a denoiser is, and the only place where a complex image becomes real channels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mrirecon.errors import InputError


class Denoiser(nn.Module, ABC):
    """A learned proximal operator: complex image ``(batch, map, *space)`` to an image of the same shape.

    Its input is scaled so that the 95th percentile of |A^H y| is 1.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def inverse(self, y: Tensor) -> Tensor:
        """The image x with D(x) = y; InputError for a denoiser that does not define it."""
        raise no_inverse(self)

    def penalty(self) -> Tensor:
        """What training adds to the loss for this denoiser's weights; zero unless they are regularised."""
        return torch.zeros(())


def no_inverse(denoiser: nn.Module) -> InputError:
    """The error of a denoiser that has no inverse."""
    return InputError(
        f"the denoiser {type(denoiser).__name__} has no inverse, which activations: inverted needs; "
        "use mrirecon.denoisers.Contractive, or activations: recomputed"
    )


def to_channels(x: Tensor) -> Tensor:
    """Complex image (batch, map, *space) to real channels (batch, 2 map, *space), real parts first."""
    return torch.cat([x.real, x.imag], dim=1)


def to_complex(channels: Tensor) -> Tensor:
    """The inverse of :func:`to_channels`; half-precision channels give a complex64 image, as no shorter one exists."""
    if channels.dtype in (torch.bfloat16, torch.float16):
        channels = channels.float()
    real, imag = channels.chunk(2, dim=1)
    return torch.complex(real, imag)
