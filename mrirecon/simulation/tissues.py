"""How bright tissues are: spin-echo signal from proton density, T1 and T2, for randomly drawn sequences.

|M| = PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2), without the inversion PD (1 - exp(-TR/T1)) exp(-TE/T2).
Tissue values are round numbers between 1.5 and 3 T (Stanisz et al., MRM 54, 2005; de Bazelaire et al., Radiology 230,
2004), and are varied from volume to volume.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from mrirecon.simulation.fields import draw_field
from mrirecon.simulation.shapes import Grid

Weighting = Literal["T1", "T2", "PD", "FLAIR", "MIX"]
Signals = dict[str, complex]

# PD (water = 1), T1 and T2 in ms
TISSUES = {
    "fat": (0.90, 320.0, 85.0),
    "skin": (0.70, 900.0, 45.0),
    "muscle": (0.75, 1100.0, 40.0),
    "bone": (0.06, 900.0, 15.0),
    "marrow": (0.80, 420.0, 70.0),
    "fluid": (1.00, 3600.0, 900.0),
    "gray": (0.82, 1250.0, 95.0),
    "white": (0.70, 800.0, 72.0),
    "deep": (0.76, 1050.0, 75.0),
    "blood": (0.85, 1700.0, 180.0),
    "organ": (0.75, 700.0, 48.0),
    "spleen": (0.80, 1150.0, 75.0),
    "cartilage": (0.75, 1000.0, 42.0),
    "tendon": (0.12, 700.0, 12.0),
    "lesion": (0.90, 1500.0, 160.0),
    "air": (0.0, 1000.0, 50.0),
}


def draw_contrast(rng: np.random.Generator) -> tuple[Weighting, Signals]:
    """A weighting and the complex signal of every tissue; fat may be suppressed or turned in phase.

    MIX draws brightness at random, so that a network cannot rely on the order of tissues.
    """
    weighting: Weighting = rng.choice(["T1", "T2", "PD", "FLAIR", "MIX"], p=[0.22, 0.28, 0.18, 0.12, 0.2]).item()
    TR, TE, TI = {
        "T1": (rng.uniform(350, 900), rng.uniform(6, 20), None),
        "T2": (rng.uniform(2500, 6500), rng.uniform(75, 120), None),
        "PD": (rng.uniform(1800, 4000), rng.uniform(10, 40), None),
        "FLAIR": (rng.uniform(7000, 10000), rng.uniform(80, 130), rng.uniform(2000, 2600)),
        "MIX": (0.0, 0.0, None),
    }[weighting]
    signals: Signals = {}
    for tissue, (PD, T1, T2) in TISSUES.items():
        PD, T1, T2 = np.array([PD, T1, T2]) * np.exp(rng.normal(0, [0.05, 0.1, 0.1]))
        recovery = 1 - np.exp(-TR / T1) if TI is None else abs(1 - 2 * np.exp(-TI / T1) + np.exp(-TR / T1))
        signal = rng.uniform(0.08, 1.0) * (PD > 0.3) if weighting == "MIX" else PD * recovery * np.exp(-TE / T2)
        signals[tissue] = complex(signal)
    # Chemical shift: fat is off by 220 Hz at 1.5 T, which gradient echoes turn into a phase.
    fat = rng.uniform(0.05, 0.3) if rng.random() < 0.3 else 1.0
    turn = rng.uniform(-np.pi, np.pi) if rng.random() < 0.35 else rng.normal(0, 0.15)
    for tissue in ("fat", "marrow"):
        signals[tissue] *= fat * np.exp(1j * turn)
    signals["blood"] *= rng.choice([0.05, 1.0, 1.6])  # flow void, slow flow, inflow
    largest = max(abs(s) for s in signals.values())
    return weighting, {tissue: complex(s / largest) for tissue, s in signals.items()}


def draw_grain(rng: np.random.Generator, strength: float = 1.0) -> Callable[[Grid], np.ndarray]:
    """Texture within tissues, to multiply them by: mean 1, from coarse clouds down to a pixel, real."""
    fine, coarse = draw_field(rng, (0.012, 0.12), slope=rng.uniform(0.0, 0.6), waves=160), draw_field(rng, (0.1, 1.0))
    much = np.float32(strength * np.exp(rng.uniform(*np.log([0.015, 0.09]))))
    most = np.float32(strength * rng.uniform(0.02, 0.1))

    def grain(grid: Grid) -> np.ndarray:
        clouds = coarse(grid)
        # Texture is stronger in some places than in others.
        return 1 + most * clouds + much * fine(grid) * np.clip(1 + 0.7 * clouds, 0, 2)

    return grain
