"""What a reconstruction may know: the operator A and the measured data y = A x + noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.physics.linop import LinearOperator


@dataclass(frozen=True)
class Problem:
    """Operator, data, and A^H y, computed once because every step of every method uses it.

    y: coil k-space (batch, coil, *space); AHy: image (batch, map, *space).
    """

    A: LinearOperator
    y: Tensor
    AHy: Tensor

    @classmethod
    def pose(cls, A: LinearOperator, y: Tensor) -> Problem:
        return cls(A, y, A.adjoint(y))

    def scaled(self) -> tuple[Problem, Tensor]:
        """The problem with data divided by a scale, and that scale: (batch, 1, *ones), real and positive.

        The scale is the 95th percentile of |A^H y| of each batch item, so that a network meets images of one size
        whatever the scanner's units (methods of GLEAM, arXiv:2207.08393). A^H A is left as it is. Multiply the
        reconstruction by the scale to undo it. An item without data keeps its zeros; its scale is next to nothing, so
        that whatever a network makes of it vanishes too.
        """
        magnitude = self.AHy.detach().abs().flatten(1)
        # A k-th value rather than `torch.quantile`, which refuses more than 16 million pixels.
        k = max(1, round(0.95 * magnitude.shape[1]))
        scale = magnitude.kthvalue(k, dim=1).values
        scale = torch.where(scale > 0, scale, magnitude.amax(1))
        scale = scale.clamp_min(torch.finfo(scale.dtype).tiny)
        y_scale = scale.view(-1, *[1] * (self.y.ndim - 1))
        x_scale = scale.view(-1, *[1] * (self.AHy.ndim - 1))
        return Problem(self.A, self.y / y_scale, self.AHy / x_scale), x_scale
