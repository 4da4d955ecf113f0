"""Steerable bases of Hermite polynomials under a Gaussian, of scale-equivariant steerable networks.

phi_n(x; s) = He_n(x / s) exp(-x^2 / (2 s^2)) / s,  He_n the probabilists' Hermite polynomials

Type A: all products of phi_n over the axes with n < order.
Type B: the products of total order n + m (+ l) <= 4; then the same at scale s / spread, s / spread^2, ..., until there
are as many functions as type A has.

Every function is divided, at all scales alike, by its l2 norm at the finest scale. Sosnovik, Szmaja, Smeulders: Scale-
Equivariant Steerable Networks, ICLR 2020, arXiv:1910.11093.
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mrirecon.denoisers.scales.basis import TOLERANCE, Basis, check_axis
from mrirecon.errors import InputError

_HIGHEST = 4  # total order of type B
_LARGEST = 41


class Hermite(Basis):
    """Hermite polynomials under a Gaussian.

    Args:
        n_scales: number of scales.
        ratio: between neighbouring scales.
        kernel_size: odd width of the kernel at the coarsest scale; those of finer ones shrink with their scale.
        order: number of functions along an axis; there are order^2 of an image, order^3 of a volume.
        base: s of the finest scale, in pixels.
        kind: A or B, see the head of this file.
        spread: ratio of the scales within type B.
    """

    def __init__(
        self,
        n_scales: int = 3,
        ratio: float = 1.4,
        kernel_size: int = 13,
        order: int = 3,
        base: float = 1.0,
        kind: Literal["A", "B"] = "A",
        spread: float = 1.2,
    ) -> None:
        check_axis(n_scales, ratio)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(f"kernel_size is {kernel_size}; it must be odd, such as 13, so that pixels stay in place")
        if not 1 <= order <= 9 or not 0.3 <= base <= 10 or not spread > 1 or kind not in ("A", "B"):
            raise InputError(
                f"order={order}, base={base}, spread={spread}, kind={kind}; expected 1 to 9, 0.3 to 10 pixels, more "
                "than 1, and A or B"
            )
        self.n_scales, self.ratio, self.kernel_size = n_scales, ratio, kernel_size
        self.order, self.base, self.kind, self.spread = order, base, kind, spread
        self.check(self._remedy)

    def functions(self, ndim: int) -> tuple[Tensor, ...]:
        orders = self._orders(ndim)
        sampled = [self._sampled(orders, i) for i in range(self.n_scales)]
        norm = np.sqrt((sampled[0] ** 2).sum(tuple(range(1, ndim + 1)), keepdims=True))
        # Of a single pixel, odd functions are nothing.
        return tuple(torch.from_numpy(f / np.where(norm > 0, norm, 1)) for f in sampled)

    def _orders(self, ndim: int) -> list[tuple[float, tuple[int, ...]]]:
        """(scale, orders along the axes) of every function, scale 1 being that of the axis."""
        n = self.order**ndim
        if self.kind == "A":
            return [(1.0, orders) for orders in product(range(self.order), repeat=ndim)]
        low = [orders for orders in product(range(_HIGHEST + 1), repeat=ndim) if sum(orders) <= _HIGHEST]
        low.sort(key=lambda orders: (sum(orders), orders))
        return [(self.spread ** -(i // len(low)), low[i % len(low)]) for i in range(n)]

    def _sampled(self, orders: list[tuple[float, tuple[int, ...]]], i: int) -> np.ndarray:
        size = 2 * (int(self.kernel_size * self.ratio ** (i + 1 - self.n_scales) + 1e-9) // 2) + 1
        x = np.arange(size) - size // 2
        found = []
        for scale, along in orders:
            s, taps = scale * self.base * self.ratio**i, np.ones(())
            for n in along:
                taps = np.multiply.outer(taps, gaussian(n, x, s))
            found.append(taps)
        return np.stack(found)

    def _remedy(self) -> str:
        """The kernel that would do, and else that there is none."""
        asked = self.kernel_size
        try:
            for self.kernel_size in range(asked + 2, _LARGEST + 1, 2):
                if self.error <= TOLERANCE:
                    return f"kernel_size={self.kernel_size} would do"
        finally:
            self.kernel_size = asked
        return (
            f"no kernel_size up to {_LARGEST} would do; raise base, which is {self.base} pixels, or use fewer "
            "scales, or a ratio nearer to 1"
        )


def gaussian(n: int, x: np.ndarray, s: float) -> np.ndarray:
    """phi_n at x."""
    polynomial = np.polynomial.hermite_e.hermeval(x / s, [0] * n + [1])
    return np.asarray(polynomial * np.exp(-(x**2) / (2 * s**2)) / s)
