"""From the convex program's solution to an ordinary two-layer ReLU network, and back.

A filter w_i behind its gate is the neuron u = w_i / sqrt(||w_i||) with weight v = sqrt(||w_i||); a filter z_i is
u = z_i / sqrt(||z_i||) with v = -sqrt(||z_i||). Both layers then have equal length, and the network's weight decay
beta / 2 sum_j (||u_j||^2 + v_j^2) is the program's penalty beta sum_i (||w_i|| + ||z_i||).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrirecon.convex.cones import Cones
from mrirecon.denoisers.convex_dual import ConvexDual, TwoLayerReLU
from mrirecon.errors import InputError

ROUNDS = 50


def neurons_of(w: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """First layer u (neuron, tap) and second layer v (neuron,) of filters w and z (gate, tap), for those not zero."""
    filters = torch.cat([w, z])
    lengths = filters.norm(dim=1).sqrt()
    on = lengths > 0
    signs = torch.ones_like(lengths)
    signs[len(w) :] = -1
    return filters[on] / lengths[on, None], (signs * lengths)[on]


def network_of(w: Tensor, z: Tensor, like: ConvexDual) -> TwoLayerReLU:
    """The ReLU network that does what filters w and z do if they keep their cones' constraints.

    like: the gated denoiser whose gates they stand behind; gives kernel, strength, padding and precision.
    """
    u, v = neurons_of(w, z)
    kernel = like.gates.shape[1:]
    net = TwoLayerReLU(len(v), kernel[0], like.strength, like.ndim, like.padding).to(like.gates)
    with torch.no_grad():
        net.u.copy_(u.reshape(-1, *kernel))
        net.v.copy_(v)
    return net


def gated_of(net: TwoLayerReLU) -> tuple[ConvexDual, Tensor, Tensor]:
    """A ReLU network as a gated denoiser whose gates are its own filters, and its filters w and z (neuron, tap).

    The denoiser's penalty is at most the network's weight decay, and as large where its layers are of equal length.
    """
    neurons, kernel_size = net.u.shape[0], net.u.shape[-1]
    if neurons == 0:
        raise InputError("a ReLU network without neurons has no gates; it is the identity")
    u, v = net.u.detach().flatten(1), net.v.detach()
    dual = ConvexDual(neurons, kernel_size, net.strength, net.ndim, net.padding).to(net.u)
    w, z = u * v.clamp_min(0)[:, None], u * (-v).clamp_min(0)[:, None]
    with torch.no_grad():
        dual.gates.copy_(net.u)
        dual.filters.copy_((w - z).reshape(net.u.shape))
    return dual, w, z


def decomposed(v: Tensor, cones: Cones, tolerance: float = 1e-9) -> tuple[Tensor, Tensor]:
    """Filters w and z, both inside the cones of their gates, with w - z = v: a ReLU network that does what v does.

    Of all such pairs it is the one of least ||w||^2 + ||z||^2, to the tolerance, then moved inside along the gate. Its
    norms can be much larger than v's: behind the same gates the ReLU network is the more expensive one.

    v: (gate, tap), and one gate for each. Raises InputError where a patch lies on a gate's border and v does not keep
    its sign there, so that no filter along the gate does.
    """
    v = v.double()
    signed = torch.cat([values for _, _, _, values in cones.values(v)], 1)
    least, sizes = (-signed).clamp_min(0), signed.norm(dim=1).clamp_min(1e-300)  # least of (2 D - I) Y z
    middle, z = -v / 2, -v / 2
    multipliers, delta, before = torch.zeros_like(least), 1.0, float("inf")
    eye = torch.eye(v.shape[1]).to(v)
    for _ in range(ROUNDS):
        z = _nearest(z, middle, cones, multipliers + delta * least, delta, eye)
        multipliers = delta * cones.lack(z, multipliers + delta * least, delta)
        short = _short(z, least, cones)
        worst = float((short.norm(dim=1) / sizes).max())
        if worst <= tolerance:
            break
        delta, before = delta * (5 if worst > before / 4 else 1), worst
    along = torch.cat([values for _, _, _, values in cones.values(cones.u)], 1)
    move = torch.where(short > 0, short / along, 0.0).amax(1).to(v)
    if not bool(torch.isfinite(move).all()):
        raise InputError(
            "a patch lies exactly on the border of a gate, where no filter along the gate has a sign; draw other gates"
        )
    z = z + move[:, None] * cones.u.to(v)
    return v + z, z


def _nearest(z: Tensor, middle: Tensor, cones: Cones, multipliers: Tensor, delta: float, eye: Tensor) -> Tensor:
    """argmin 1/2 ||z - middle||^2 + charge, group by group: Newton steps, halved until each group's value falls."""

    def value(z: Tensor) -> Tensor:
        return (z - middle).square().sum(1) / 2 + cones.charge(z, multipliers, delta)[0]

    now = value(z)
    for _ in range(ROUNDS):
        _, g, H = cones.charge(z, multipliers, delta)
        g = z - middle + g
        step = -torch.linalg.solve(eye + H, g)
        promised = (g * step).sum(1)
        if bool((-promised <= 1e-14 * now).all()):
            break
        a = torch.ones_like(now)
        for _ in range(30):
            new = z + a[:, None] * step
            reached = value(new)
            risen = reached > now + 1e-4 * a * promised
            if not bool(risen.any()):
                break
            a = torch.where(risen, a / 2, a)
        fell = reached < now
        z, now = torch.where(fell[:, None], new, z), torch.where(fell, reached, now)
        if not bool(fell.any()):
            break
    return z


def _short(z: Tensor, least: Tensor, cones: Cones) -> Tensor:
    return (least - torch.cat([values for _, _, _, values in cones.values(z)], 1)).clamp_min(0)
