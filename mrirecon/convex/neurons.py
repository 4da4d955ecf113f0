"""Gates for the constrained program, found where its dual constraint over all gates is broken.

The exact program has a gate for every pattern of the patches, far too many to list, and of gates that are drawn at
random few are good. Its dual asks of the residual r that  |r^T relu(Y u)| <= beta ||u||  for every u, so a direction u
that breaks this is a neuron that the network lacks. Rounds: such directions are sought by ascent from random starts and
from the neurons there are; the worst join; a lasso gives all their weights; and neurons and weights are moved together
by L-BFGS, on the network's own objective

F(u, v) = 1/2 ||relu(Y U^T) v - b||^2 + beta / 2 sum_j (||u_j||^2 + v_j^2)

These are conditional gradients with sliding: Denoyelle et al., Inverse Problems 36, 2020, arXiv:1811.06416; Bach,
"Breaking the curse of dimensionality with convex neural networks", JMLR 18, 2017. The ascent may miss directions, so
what it finds bounds nothing: a certificate is given by :func:`solve_cones` alone, for the gates it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mrirecon.convex.gates import data_directions
from mrirecon.convex.group_lasso import minimise_quadratic
from mrirecon.convex.least_squares import LeastSquares
from mrirecon.convex.operator import GatedOperator, Patches
from mrirecon.denoisers.gated import gates_of
from mrirecon.errors import InputError

JOINING = 15  # neurons of a round
ALIKE = 0.98  # cosine above which two new directions are one
TWINS = 0.999  # and two neurons
ASCENTS, DESCENTS = 30, 150  # steps of a round
LEAST = 1e-4  # ||u|| |v| of a neuron relative to the largest, below which it goes
ACCURACY = 1e-6  # of the weights, a relative gap


@dataclass(frozen=True)
class Neurons:
    """A two-layer network and what was found of its place among all networks.

    u: (neuron, tap), first layer. v: (neuron,), second layer; both of one length in every neuron.
    objective: F(u, v).
    price: the largest |r^T relu(Y u)| / (beta ||u||) that was found; 1 at the minimum over all networks.
    directions: (direction, tap), of length 1: where the ascents ended, the most expensive first, without twins.
    """

    u: Tensor
    v: Tensor
    objective: float
    price: float
    directions: Tensor

    @property
    def gates(self) -> Tensor:
        """The neurons' directions, and after them those of the ascents."""
        return torch.cat([normalize(self.u, dim=1), self.directions])


def grown(
    program: LeastSquares,
    tolerance: float = 1e-2,
    starts: int = 100,
    rounds: int = 20,
    seed: int = 0,
    report: Callable[[Neurons], object] = lambda neurons: None,
) -> Neurons:
    """Neurons to which the ascents find none to add whose price is above 1 + ``tolerance``, or those of all rounds.

    program: gives patches, targets and strength; its own gates do not matter. starts: of the ascents, in each round.
    report: called with every round's neurons.
    """
    K = program.K
    if not isinstance(K, GatedOperator):
        raise InputError("a ReLU network is grown for one-shot denoisers and proximal-gradient steps, not for MoDL's")
    draws = torch.Generator().manual_seed(seed)
    u, v = K.gates[:0], K.gates[:0, 0]
    for number in range(rounds + 1):
        value, r, _, _ = evaluated(program, K.patches, u, v)
        random = data_directions(K.patches, starts, K.gates.shape[1], draws).to(K.gates)
        ends, prices = _ascended(program, K.patches, r, normalize(torch.cat([random, u]), dim=1))
        worst = _apart(ends, prices.abs().argsort(descending=True, stable=True), ALIKE)  # most expensive first
        found = Neurons(u, v, value, float(prices.abs().max()), ends[worst])
        report(found)
        if found.price <= 1 + tolerance or number == rounds:
            break
        new = worst[prices[worst].abs() > 1][:JOINING]
        u, v = _weighted(program, K.patches, _merged(torch.cat([normalize(u, dim=1), ends[new]])))
        u, v = _descended(program, K.patches, u, v)
    return found


def evaluated(program: LeastSquares, patches: Patches, u: Tensor, v: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
    """F, the residual (n,), and F's gradients to u and v."""
    b, beta = program.b, program.beta
    residual, du, dv = torch.empty_like(b), beta * u, beta * v
    for samples, Y in patches:
        hidden = (Y @ u.T).clamp_min(0)
        r = hidden @ v - b[samples]
        residual[samples] = r
        dv = dv + hidden.T @ r
        du = du + ((hidden > 0) * r[:, None]).T @ Y * v[:, None]
    value = float(residual.double().square().sum() / 2 + beta / 2 * (u.square().sum() + v.square().sum()))
    return value, residual, du, dv


def _ascended(program: LeastSquares, patches: Patches, r: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The best directions on the way from u (direction, tap), and r^T relu(Y u) / beta there, signed."""
    best, prices = u, torch.zeros_like(u[:, 0])
    for _ in range(ASCENTS):
        pulls = torch.zeros_like(u)
        for samples, Y in patches:
            pulls += gates_of(Y, u).T @ (r[samples][:, None] * Y)
        value = (pulls * u).sum(1) / program.beta
        higher = value.abs() > prices.abs()
        best, prices = torch.where(higher[:, None], u, best), torch.where(higher, value, prices)
        u = normalize(pulls * value.sign()[:, None], dim=1)
    return best, prices


def _apart(directions: Tensor, order: Tensor, alike: float) -> Tensor:
    """The numbers of directions that are nearer than a cosine ``alike`` to none before them, taken in an order."""
    kept: list[int] = []
    for i in order.tolist():
        if not kept or float((directions[kept] @ directions[i]).max()) < alike:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64, device=directions.device)


def _merged(directions: Tensor) -> Tensor:
    """One of each set of directions that are almost the same."""
    return directions[_apart(directions, torch.arange(len(directions)), TWINS)]


def _weighted(program: LeastSquares, patches: Patches, directions: Tensor) -> tuple[Tensor, Tensor]:
    """The best network whose first layer has these directions: a lasso, which leaves out what it does not need."""
    n = len(directions)
    Q, c = (torch.zeros(shape, dtype=torch.float64, device=directions.device) for shape in ((n, n), (n, 1)))
    for samples, Y in patches:
        hidden = (Y @ directions.T).clamp_min(0).double()
        Q += hidden.T @ hidden
        c += hidden.T @ program.b[samples].double()[:, None]
    v = minimise_quadratic(Q[:, None, :, None], c, program.beta, program.bb / 2, ACCURACY)[:, 0].to(directions)
    on = v != 0
    root = v[on].abs().sqrt()
    return directions[on] * root[:, None], v[on].sign() * root


def _descended(program: LeastSquares, patches: Patches, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """u and v after L-BFGS, with both layers of a neuron made equally long; neurons that have died are gone."""
    u, v = u.clone().requires_grad_(), v.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [u, v],
        max_iter=DESCENTS,
        history_size=20,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        value, _, u.grad, v.grad = evaluated(program, patches, u.detach(), v.detach())
        return torch.tensor(value, dtype=torch.float64)

    optimizer.step(closure)
    u, v = u.detach(), v.detach()
    lengths = u.norm(dim=1) * v.abs()
    on = lengths > LEAST * lengths.max()
    u, v, root = u[on], v[on], lengths[on].sqrt()
    return normalize(u, dim=1) * root[:, None], v.sign() * root
