"""Receive coils: loops of wire around the object, their sensitivity by Biot and Savart's law and reciprocity.

B(r) = sum over the wire of dl x (r - r') / |r - r'|^3;  sensitivity = the two components of B across the main field,
as B_u - i B_v. Away from the wires B is smooth, so it is computed on Chebyshev nodes and interpolated exactly enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrirecon.simulation.shapes import Grid

SEGMENTS = 16
# Wires have a width and lie in air; a softened distance keeps maps finite where a loop crosses the field of view.
SOFTENING = 0.25
NODES_PER_UNIT = 16


@dataclass(frozen=True)
class Loops:
    """center, normal: (coils, 3) as z, y, x; radius, gain (complex): (coils,); field: main field's axis, 0 is z."""

    center: np.ndarray
    normal: np.ndarray
    radius: np.ndarray
    gain: np.ndarray
    field: int

    def sensitivity(self, grid: Grid) -> np.ndarray:
        """(coils, rows, columns), complex64, not normalised."""
        node_y, weights_y = chebyshev(grid.y)
        node_x, weights_x = chebyshev(grid.x)
        r = np.stack(np.broadcast_arrays(grid.z, node_y[:, None], node_x[None, :]), axis=-1)
        u, v = (axis for axis in (0, 1, 2) if axis != self.field)
        maps = []
        for center, normal, radius, gain in zip(self.center, self.normal, self.radius, self.gain, strict=True):
            wire, dl = circle(center, normal, radius)
            offset = r[:, :, None, :] - wire
            cubed = (np.sum(offset**2, axis=-1, keepdims=True) + SOFTENING**2) ** 1.5
            B = np.sum(np.cross(dl, offset) / cubed, axis=2)
            at_nodes = gain * (B[..., u] - 1j * B[..., v])
            maps.append((weights_y @ at_nodes @ weights_x.T).astype(np.complex64))
        return np.stack(maps)


def draw_loops(rng: np.random.Generator, n_coils: int, extent: tuple[float, float]) -> Loops:
    """Loops on a cylinder or one side of an object that reaches ``extent`` along y and x."""
    gap = rng.uniform(1.05, 1.7)
    rows = 1 if n_coils < 8 else int(rng.integers(1, 4))
    arc = 2 * np.pi if rng.random() < 0.85 or n_coils < 4 else rng.uniform(0.8, 1.6) * np.pi
    position = (np.arange(n_coils) // rows + rng.uniform(-0.25, 0.25, n_coils)) / np.ceil(n_coils / rows)
    angle = rng.uniform(0, 2 * np.pi) + arc * position
    z = (np.arange(n_coils) % rows - (rows - 1) / 2) * rng.uniform(0.4, 0.7) + rng.normal(0, 0.1, n_coils)
    outward = np.stack([np.zeros(n_coils), np.sin(angle), np.cos(angle)], axis=1)
    center = outward * (0.0, gap * extent[0], gap * extent[1])
    center[:, 0] = z
    normal = -outward + rng.normal(0, 0.2, (n_coils, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    # Neighbours overlap a little, as arrays are built; few coils are large.
    radius = np.clip(arc * gap * np.mean(extent) * rows / n_coils * rng.uniform(0.5, 1.1), 0.25, 1.1)
    gain = np.exp(rng.normal(0, 0.2, n_coils) + 1j * rng.uniform(0, 2 * np.pi, n_coils))
    return Loops(center, normal, radius * rng.uniform(0.85, 1.15, n_coils), gain, int(rng.choice([0, 0, 1])))


def circle(center: np.ndarray, normal: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points on the wire and the wire elements there, both (segments, 3)."""
    across = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    across /= np.linalg.norm(across)
    up = np.cross(normal, across)
    turn = 2 * np.pi * np.arange(SEGMENTS)[:, None] / SEGMENTS
    wire = center + radius * (np.cos(turn) * across + np.sin(turn) * up)
    return wire, 2 * np.pi * radius / SEGMENTS * (np.cos(turn) * up - np.sin(turn) * across)


def chebyshev(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes over the range of x, and the matrix from values at the nodes to values at x: (len(x), nodes)."""
    middle, half = (x[0] + x[-1]) / 2, max((x[-1] - x[0]) / 2, 1e-6)
    n = int(np.ceil(2 * half * NODES_PER_UNIT)) + 4
    theta = np.pi * (np.arange(n) + 0.5) / n
    at_x = np.polynomial.chebyshev.chebvander(np.clip((x - middle) / half, -1, 1).astype(np.float64), n - 1)
    at_nodes = np.cos(np.outer(np.arange(n), theta)) * (2 / n)
    at_nodes[0] /= 2
    return middle + half * np.cos(theta), at_x @ at_nodes
