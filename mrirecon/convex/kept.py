"""Constraints of cones that are kept, a few for each group of filters: those that were seen to matter.

C_i x_i >= 0,  with rows of C_i that are signed patches (2 D_i - I) y, scaled to length 1

Of the patches of a training set, one constraint each, hardly more than a filter has taps hold it back. So constraints
join as they are found to be broken, and what they cost does not grow with the number of patches.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from mrirecon.convex.cones import Cones

JOINING = 8  # constraints of a group that join at once, at most
PASSES = 100
CLOSE = 1e-7  # a filter is inside its cone if no constraint is broken by more than this part of its length


class Kept:
    """Rows and multipliers of all groups, (group, row, tap) and (group, row), in double precision; unused ones are 0.

    Args:
        cones: of the gates; groups are the filters w behind all of them, and after these the z.
        groups: their number.
    """

    def __init__(self, cones: Cones, groups: int) -> None:
        self.cones, taps = cones, cones.u.shape[1]
        empty = torch.zeros(groups, 0, taps, dtype=torch.float64, device=cones.u.device)
        self.rows, self.multipliers = empty, empty[:, :, 0]
        self.numbers = torch.zeros(groups, 0, dtype=torch.int64, device=cones.u.device)

    def lack(self, x: Tensor, at: Tensor, delta: float) -> Tensor:
        """(multipliers / delta - C x)_+ of groups ``at``, (group, row): what the augmented Lagrangian charges for."""
        return (self.multipliers[at] / delta - (self.rows[at] @ x[:, :, None])[:, :, 0]).clamp_min(0)

    def broken(self, x: Tensor, at: Tensor) -> float:
        """By how much a row is broken at most, relative to the longest filter."""
        if not self.rows.shape[1]:
            return 0.0
        values = (self.rows[at] @ x[:, :, None])[:, :, 0]
        return float((-values).clamp_min(0).max() / x.norm(dim=1).max().clamp_min(1e-300))

    def join(self, x: Tensor, at: Tensor) -> Tensor:
        """Keep the constraints, of all patches, that filters x of groups ``at`` break most; who breaks any new one."""
        numbers, rows, values = self.cones.worst(x, at, JOINING)
        new = values < -CLOSE * x.norm(dim=1, keepdim=True)
        new &= (numbers[:, :, None] != self.numbers[at][:, None, :]).all(2)
        found = new.any(1)
        if bool(found.any()):
            self._add(at, torch.where(new, numbers, -1), torch.where(new[:, :, None], rows, 0.0))
        return found

    def priced(self, h: Tensor, at: Tensor, limit: float) -> Tensor:
        """h of groups ``at`` projected on their cones, (group, tap), or anything else that shows it is short.

        The projection's length is the least ||h + C^T multipliers|| over multipliers >= 0, which any choice bounds:
        where that is at most ``limit`` it is enough. Multipliers that give the result are kept.
        """
        x = h.clone()
        left = torch.arange(len(at), device=h.device)
        for _ in range(PASSES):
            for i in left.tolist():
                x[i], self.multipliers[at[i]] = self._projected(h[i], int(at[i]))
            left = left[x[left].norm(dim=1) > limit]
            if len(left) == 0:
                break
            left = left[self.join(x[left], at[left])]
        return x

    def _projected(self, h: Tensor, group: int) -> tuple[Tensor, Tensor]:
        used = (self.numbers[group] >= 0).nonzero()[:, 0]
        found = torch.zeros_like(self.multipliers[group])
        if len(used) == 0:
            return h, found
        C = self.rows[group, used]
        try:
            a = torch.from_numpy(nnls(C.T.cpu().numpy(), (-h).cpu().numpy())[0]).to(h)
        except (RuntimeError, np.linalg.LinAlgError):  # too many steps: no bound from this group's rows
            return h, found
        found[used] = a
        return h + C.T @ a, found

    def _add(self, at: Tensor, numbers: Tensor, rows: Tensor) -> None:
        """Put rows, those with a number, behind the ones that their groups have."""
        order = (numbers < 0).to(torch.uint8).argsort(dim=1, stable=True)
        numbers, rows = numbers.gather(1, order), rows.gather(1, order[:, :, None].expand_as(rows))
        have, more = (self.numbers[at] >= 0).sum(1), (numbers >= 0).sum(1)
        wider = int((have + more).max()) - self.rows.shape[1]
        if wider > 0:
            self.numbers = torch.nn.functional.pad(self.numbers, (0, wider), value=-1)
            self.multipliers = torch.nn.functional.pad(self.multipliers, (0, wider))
            self.rows = torch.nn.functional.pad(self.rows, (0, 0, 0, wider))
        for i, group, start, n in self._counted(at, have, more):
            place = slice(start, start + n)
            self.numbers[group, place], self.rows[group, place] = numbers[i, :n], rows[i, :n]

    @staticmethod
    def _counted(at: Tensor, have: Tensor, more: Tensor) -> Iterator[tuple[int, int, int, int]]:
        for i, (group, start, n) in enumerate(zip(at.tolist(), have.tolist(), more.tolist(), strict=True)):
            if n:
                yield i, group, start, n
