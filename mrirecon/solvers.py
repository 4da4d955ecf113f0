"""Iterative linear algebra: conjugate gradients for H x = b, and the operator norm by power iteration.

Both treat every item of a batch (first axis) as a problem of its own: inner products never run over the batch, so a
slice is solved alike alone and in company.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics.linop import LinearOperator


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    b: Tensor,
    x0: Tensor | None = None,
    iterations: int = 30,
    tolerance: float = 1e-6,
) -> Tensor:
    """Solve H x = b for a Hermitian positive (semi-)definite H, with b in its range.

    normal: x -> H x, for example ``lambda x: A.normal(x) + lam * x``; must treat the items of a batch separately.
    b: (batch, ...), complex or real.
    x0: start; zero unless given.
    iterations: largest number of applications of H, not counting the residual of x0.
    tolerance: an item with ||b - H x|| <= tolerance ||b|| is finished and stays as it is, while others go on; 0 uses
        all iterations. The residual is the recursion's: in float32, below about 1e-6 it is small on paper only.

    Plain torch code: gradients reach b, x0 and whatever ``normal`` holds through the iterations that were run. A NaN in
    b comes out as NaN in that item, never as a finished one. Hestenes and Stiefel 1952.
    """
    if iterations < 1 or not tolerance >= 0:
        raise InputError(f"iterations={iterations}, tolerance={tolerance}; expected at least 1 and at least 0")
    x = torch.zeros_like(b) if x0 is None else x0
    r = b if x0 is None else b - normal(x0)
    p = r
    rr, stop = inner(r, r), tolerance**2 * inner(b, b)
    for _ in range(iterations):
        going = ~(rr <= stop)  # so written that NaN goes on
        if not going.any():
            break
        Hp = normal(p)
        pHp = inner(p, Hp)
        going = going & ~(pHp <= 0)
        # The denominators of finished items are replaced before the division: `where` after it would keep 0/0 out of
        # x but not out of the gradient.
        alpha = torch.where(going, rr / torch.where(going, pHp, 1.0), 0.0)
        x = x + alpha * p
        r = r - alpha * Hp
        rr, previous = inner(r, r), rr
        p = r + torch.where(going, rr / torch.where(going, previous, 1.0), 0.0) * p
    return x


def operator_norm(A: LinearOperator, like: Tensor, iterations: int = 30, seed: int = 0) -> Tensor:
    """||A||, the largest singular value, for each item of a batch: (batch,), real and >= 0.

    Power iteration on A^H A from a random start. It approaches the norm from below, slowly where the largest singular
    values lie close together: as a step size 1 / ||A||^2, leave a margin of a few percent.

    like: any tensor of the shape, type and device of the operator's input, (batch, ...).
    """
    if iterations < 1:
        raise InputError(f"iterations={iterations}; expected at least 1")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(like.shape, dtype=like.dtype, generator=generator).to(like.device)
    for _ in range(iterations):
        length = inner(x, x).sqrt()
        x = x / torch.where(length > 0, length, 1.0)
        AHAx = A.normal(x)
        squared = inner(x, AHAx)  # the Rayleigh quotient: closer to ||A||^2 than the length of A^H A x
        x = AHAx
    return squared.clamp_min(0).sqrt().flatten()


def inner(u: Tensor, v: Tensor) -> Tensor:
    """Re <u, v> of each item, (batch, 1, ..., 1), ready to scale items of the same number of axes."""
    product: Tensor = torch.linalg.vecdot(u.flatten(1), v.flatten(1)).real
    return product.reshape(-1, *[1] * (u.ndim - 1))
