"""Which module may import which: each layer in a fresh interpreter, and what came with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "sigpy", "h5py", "skimage", "pytorch_lightning", "matplotlib")
LAYERS = {
    "mrirecon": (),
    "mrirecon.cli": (),
    "mrirecon.cards": (),
    "mrirecon.commands.reconstruct": (),
    "mrirecon.commands.evaluate": (),
    "mrirecon.commands.simulate": (),
    "mrirecon.commands.tune": (),
    "mrirecon.commands.explain": (),
    "mrirecon.solvers": ("torch",),
    "mrirecon.denoisers": ("torch",),
    "mrirecon.convex.augmented_lagrangian": ("torch",),
    "mrirecon.convex.path": ("torch",),
    "mrirecon.inversion": ("torch",),
    "mrirecon.unrolled": ("torch",),
    "mrirecon.explain": ("torch",),
    "mrirecon.stage_inputs": ("torch",),
    "mrirecon.losses": ("torch",),
    "mrirecon.physics": ("torch",),
    "mrirecon.training.stages": ("torch",),
    "mrirecon.physics.sampling": ("torch",),
    "mrirecon.metrics": ("torch", "skimage"),
    "mrirecon.simulation.volumes": (),
    "mrirecon.data.fastmri": ("torch", "h5py"),
    "mrirecon.data.slices": ("torch", "h5py"),
    "mrirecon.physics.calibration": ("torch", "sigpy"),
    "mrirecon.checkpoint": ("torch", "sigpy"),
    "mrirecon.reconstruct": ("torch", "sigpy", "h5py"),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_it_stands_on(layer: str) -> None:
    code = f"import sys, {layer}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= set(LAYERS[layer])
