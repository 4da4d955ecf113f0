"""Reconstructions without training: zero-filled, CG-SENSE and L1-wavelet compressed sensing.

Each takes a :class:`~mrirecon.physics.Problem` and returns images (batch, map, *space). Strengths mean the same on
every scan only if data are scaled alike: pass ``problem.scaled()``, which makes the 95th percentile of |A^H y| one, and
multiply the result by the scale.
"""

from __future__ import annotations

import re

import numpy as np
import sigpy as sp
import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics import Problem
from mrirecon.solvers import conjugate_gradient


def zero_filled(problem: Problem) -> Tensor:
    """A^H y: what was measured, zeros elsewhere, coils combined by the maps."""
    return problem.AHy


def cg_sense(problem: Problem, strength: float, iterations: int = 30, tolerance: float = 1e-5) -> Tensor:
    """CG-SENSE: argmin_x |A x - y|^2 + strength |x|^2, solved as (A^H A + strength) x = A^H y.

    strength: >= 0, in units of ||A||^2 = 1. On scaled data 1e-3 to 1e-1 is useful (measured brain at 4x: best near
        0.007); 0 leaves only the number of iterations as regularisation.
    tolerance: an item is finished at this |residual| / |A^H y|.

    Pruessmann et al. 2001, doi:10.1002/mrm.1241.
    """
    _check("cg-sense", strength, iterations)
    return conjugate_gradient(
        lambda x: problem.A.normal(x) + strength * x, problem.AHy, iterations=iterations, tolerance=tolerance
    )


def l1_wavelet(problem: Problem, strength: float, wavelet: str = "db4", iterations: int = 100) -> Tensor:
    """L1-wavelet compressed sensing: argmin_x |A x - y|^2 / 2 + strength |W x|_1, by sigpy's FISTA and wavelets.

    This is ``sigpy.mri.app.L1WaveletRecon`` from its parts with our A^H A in place of sigpy's, so that maps, mask and
    centring are exactly those of the other methods, and with step 1, which ||A|| <= 1 allows: sigpy would estimate the
    step from a random start of its own. Runs on the CPU, in the precision of the data.

    strength: >= 0, the soft threshold. On scaled data 3e-4 to 3e-2 is useful (measured brain at 4x: best near 0.002).
    iterations: 100 were enough for 0.1 dB at 0.001 and above; weaker strengths need more.
    wavelet: an orthogonal wavelet of PyWavelets, such as "haar", "db4" or "sym4".

    One set of maps only. Lustig et al. 2007, doi:10.1002/mrm.21391.
    """
    _check("l1-wavelet", strength, iterations)
    check_wavelet(wavelet)
    AHy = problem.AHy
    if AHy.shape[1] != 1:
        raise InputError(f"l1-wavelet with {AHy.shape[1]} sets of maps; expected one set: estimate maps with 1 set")
    W = sp.linop.Wavelet(AHy.shape[2:], wave_name=wavelet)
    shrink = sp.prox.UnitaryTransform(sp.prox.L1Reg(W.oshape, strength), W)

    def gradient(x: np.ndarray) -> np.ndarray:
        return (problem.A.normal(torch.from_numpy(x).to(AHy.device)) - AHy).cpu().numpy()

    def prox(step: float, x: np.ndarray) -> np.ndarray:
        return np.stack([shrink(step, item[0])[None] for item in x]).astype(x.dtype)

    x = np.zeros(tuple(AHy.shape), dtype=AHy.cpu().numpy().dtype)
    # FISTA's momentum depends on the iteration only, so the items of a batch stay independent.
    fista = sp.alg.GradientMethod(gradient, x, alpha=1, proxg=prox, accelerate=True, max_iter=iterations)
    with torch.no_grad():
        while not fista.done():
            fista.update()
    return torch.from_numpy(fista.x).to(AHy.device)


def check_wavelet(wavelet: str) -> None:
    """Raises InputError for what is no orthogonal wavelet of PyWavelets: thresholding another is no proximal map."""
    try:
        if re.fullmatch(r"haar|(db|sym|coif)\d+", wavelet):
            sp.linop.Wavelet((8, 8), wave_name=wavelet)
            return
    except ValueError:  # such as db99
        pass
    raise InputError(
        f"wavelet={wavelet!r}; expected an orthogonal one: haar, db1 to db38, sym2 to sym20, coif1 to coif17"
    )


def _check(method: str, strength: float, iterations: int) -> None:
    if not 0 <= strength < float("inf") or iterations < 1:
        raise InputError(
            f"{method} with strength={strength}, iterations={iterations}; expected a finite strength >= 0 and at least "
            "one iteration"
        )
