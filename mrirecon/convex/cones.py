"""The constraints under which a gated filter is a ReLU neuron: it must open and close with its gate on every patch.

(2 D_i - I) Y w_i >= 0   and the same for z_i,  with Y the patches and D_i = diag(1[Y u_i >= 0])

A neuron v relu(<y, u>) with v > 0 is the filter w = v u behind the gate u; one with v < 0 is z = -v u, which counts
negatively: the network's function is sum_i D_i Y (w_i - z_i). Where a constraint is kept exactly, relu(Y w_i) =
D_i Y w_i. Sahiner et al., ICLR 2021, arXiv:2012.05169, whose eq. (5) prints the weight of z_i with the wrong sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mrirecon.convex.operator import Patches
from mrirecon.denoisers.gated import gates_of


@dataclass(frozen=True)
class Cones:
    """The constraints of filters x (group, tap) behind gates u (gate, tap).

    There may be a multiple of filters: the w of all gates, and after them the z.
    """

    patches: Patches
    u: Tensor

    def lack(self, x: Tensor, multipliers: Tensor, delta: float) -> Tensor:
        """(multipliers / delta - (2 D - I) Y x)_+, (group, n): what the augmented Lagrangian charges for."""
        out = torch.empty_like(multipliers)
        for samples, _, _, values in self.values(x):
            out[:, samples] = (multipliers[:, samples] / delta - values).clamp_min(0)
        return out

    def charge(self, x: Tensor, multipliers: Tensor, delta: float) -> tuple[Tensor, Tensor, Tensor]:
        """delta / 2 ||lack||^2 of each group, its gradient (group, tap) and second derivatives (group, tap, tap)."""
        value, gradient = torch.zeros_like(x[:, 0]), torch.zeros_like(x)
        curvature = x.new_zeros(*x.shape, x.shape[1])
        for samples, Y, signs, values in self.values(x):
            lack = (multipliers[:, samples] / delta - values).clamp_min(0)
            value += delta / 2 * lack.to(value).square().sum(1)
            gradient -= delta * (lack * signs) @ Y
            squares = (Y[:, :, None] * Y[:, None, :]).flatten(1)
            curvature += delta * ((lack > 0).to(Y) @ squares).reshape(curvature.shape)
        return value, gradient, curvature

    def worst(self, x: Tensor, at: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """The constraints that filters x of groups ``at`` break most, or keep least, as many as ``most`` of each.

        Numbers of their samples (group, most), the signed patches scaled to length 1 (group, most, tap), and what they
        give with x, (group, most). Patches that are zero are none.
        """
        x = x.double()
        u = self.u[at % len(self.u)]
        values = torch.full((len(x), 0), 0.0, dtype=torch.float64, device=x.device)
        numbers, rows = values.to(torch.int64), values[:, :, None].expand(-1, -1, x.shape[1])
        for samples, Y in self.patches:
            signed, lengths = (2 * gates_of(Y, u) - 1).T, Y.norm(dim=1).double()
            seen = torch.where(lengths > 0, signed * (x @ Y.double().T) / lengths.clamp_min(1e-300), torch.inf)
            low, place = seen.topk(min(most, len(Y)), dim=1, largest=False)
            new = signed.gather(1, place)[:, :, None] * Y.double()[place] / lengths[place].clamp_min(1e-300)[:, :, None]
            values, numbers, rows = (
                torch.cat(pair, 1) for pair in ((values, low), (numbers, place + samples.start), (rows, new))
            )
            values, place = values.topk(min(most, values.shape[1]), dim=1, largest=False)
            numbers, rows = numbers.gather(1, place), rows.gather(1, place[:, :, None].expand(-1, -1, x.shape[1]))
        return numbers, rows, values

    def violation(self, x: Tensor) -> float:
        """||(-(2 D - I) Y x)_+|| of all groups together, relative to the largest ||Y x|| of any."""
        at = x.any(1).nonzero()[:, 0]
        if len(at) == 0:
            return 0.0
        few, x = Cones(self.patches, self.u[at % len(self.u)]), x[at]
        below, total = (torch.zeros_like(x[:, 0], dtype=torch.float64) for _ in range(2))
        for _, _, _, values in few.values(x):
            below += (-values).clamp_min(0).double().square().sum(1)
            total += values.double().square().sum(1)
        return float((below.sum() / total.max().clamp_min(1e-300)).sqrt())

    def rectified(self, w: Tensor, z: Tensor) -> Tensor:
        """What the ReLU network of filters w and z (gate, tap) gives, sum_i relu(Y w_i) - relu(Y z_i), (n,)."""
        on_w, on_z = w.any(1), z.any(1)
        layer = torch.cat([w[on_w], z[on_z]]).to(self.u)
        signs = torch.cat([torch.ones(int(on_w.sum())), -torch.ones(int(on_z.sum()))]).to(self.u)
        return torch.cat([(Y @ layer.T).relu() @ signs for _, Y in self.patches])

    def values(self, x: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Block by block: samples, patches, their signs (group, sample), and (2 D - I) Y x, (group, sample)."""
        for samples, Y in self.patches:
            signs = self._signs(Y, len(x))
            yield samples, Y, signs, signs * (x.to(Y) @ Y.T)

    def _signs(self, Y: Tensor, groups: int) -> Tensor:
        return (2 * gates_of(Y, self.u) - 1).T.repeat(groups // len(self.u), 1)
