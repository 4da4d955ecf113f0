"""Gates whose patterns differ: each opens on other patches than all others, and on some.

A gate is what it does to the patches of the training data. Two with one pattern are one group of the program twice; one
that never opens does nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mrirecon.convex.operator import Patches
from mrirecon.denoisers.gated import GATES, gates_of
from mrirecon.errors import InputError

Sampling = Literal["normal", "data"]
ROUNDS = 20


def distinct_gates(gates: Tensor, patches: Patches, sampling: Sampling = "normal", seed: int = 0) -> Tensor:
    """As many gates (gate, tap) as are given, the same where their patterns are new and alive, others drawn anew.

    sampling: ``normal`` keeps those given; ``data`` draws all anew from a normal distribution whose covariance is the
        inverse of the patches' second moments. Patches differ most in their mean, so that gates of equal variance in
        all directions open by its sign, nearly all alike; these open by details as often.

    Raises InputError where the patches do not have so many patterns.
    """
    n = len(gates)
    draws = torch.Generator().manual_seed(seed)
    spread = _spread(patches, gates.shape[1]) if sampling == "data" else None

    def draw() -> Tensor:
        u = torch.randn(gates.shape, generator=draws, dtype=torch.float64)
        return (u if spread is None else u @ spread).to(gates)

    kept, seen = gates[:0], torch.zeros(0, 3, dtype=torch.float64, device=gates.device)
    for number in range(ROUNDS):
        new = draw() if number or sampling == "data" else gates
        prints = torch.cat([seen, fingerprints(new, patches)])
        fresh = _first(prints)
        fresh = fresh[fresh >= len(seen)]
        kept, seen = torch.cat([kept, new[fresh - len(seen)]]), torch.cat([seen, prints[fresh]])
        if len(kept) >= n:
            return kept[:n]
    if len(kept) == 0:
        raise InputError("the training images are zero everywhere, so that no gate opens; look at the files")
    raise InputError(
        f"n_gates is {n}, but only {len(kept)} different patterns were found in {ROUNDS} draws of as many gates; use "
        f"n_gates: {len(kept)}, or more data"
    )


def different_gates(gates: Tensor, patches: Patches) -> Tensor:
    """Those gates (gate, tap) that open somewhere, and on other patches than any before them."""
    return gates[_first(fingerprints(gates, patches))]


def data_directions(patches: Patches, n: int, taps: int, generator: torch.Generator) -> Tensor:
    """Directions (n, tap) as ``data`` gates have them, in double precision."""
    return torch.randn(n, taps, generator=generator, dtype=torch.float64) @ _spread(patches, taps)


def fingerprints(gates: Tensor, patches: Patches) -> Tensor:
    """Three numbers for each gate, (gate, 3), equal for gates of one pattern, different for others, 0 for a dead one.

    Sums of random whole numbers over the patches on which a gate opens. They are exact in double precision, so in
    whatever order they are taken; that two patterns have equal sums happens once in 10^15.
    """
    draws = torch.Generator().manual_seed(0)
    total = torch.zeros(len(gates), 3, dtype=torch.float64, device=gates.device)
    for _, Y in patches:
        weights = torch.randint(1, 2**20, (len(Y), 3), generator=draws).double().to(gates.device)
        weights *= Y.any(1, keepdim=True)  # a patch of zeros opens every gate, and is nothing behind any
        for at in torch.arange(len(gates)).split(GATES):
            total[at] += gates_of(Y, gates[at]).double().T @ weights
    return total


def _first(prints: Tensor) -> Tensor:
    """The numbers of rows (gate, 3) that are not zero and appear for the first time, in their order."""
    if len(prints) == 0:
        return torch.zeros(0, dtype=torch.int64, device=prints.device)
    _, group = prints.unique(dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(prints), device=prints.device)
    first.scatter_reduce_(0, group, torch.arange(len(prints), device=prints.device), "amin")
    return first[(prints[first] != 0).any(1)].sort().values


def _spread(patches: Patches, taps: int) -> Tensor:
    """A symmetric root of the inverse of the patches' second moments, (tap, tap)."""
    moments = torch.zeros(taps, taps, dtype=torch.float64)
    for _, Y in patches:
        moments += (Y.T @ Y).double().cpu()
    if not bool(torch.isfinite(moments).all()):
        raise InputError("squares of the patches are not finite; look for such pixels, or use a smaller step_size")
    m, vectors = torch.linalg.eigh(moments)
    return (vectors * m.clamp_min(1e-6 * m[-1]).rsqrt()) @ vectors.T
