"""pyscnn's R-FISTA, https://github.com/pilancilab/scnn, as the benchmark runs it; in an environment of its own.

Its objective is ours over the number of patches. It sorts the gates' patterns; which gate is which is read off the
vectors, which it sorts alike. An iterate is what a step leaves in the model.
"""

from __future__ import annotations

import importlib
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scnn.metrics import Metrics
from scnn.models import ConvexGatedReLU
from scnn.optimize import optimize_model
from scnn.private.methods import FISTA
from scnn.regularizers import NeuronGL1
from scnn.solvers import RFISTA
from torch import Tensor

from benchmarks.convex_clock import Clock
from benchmarks.convex_problems import Problem

STEPS = 10**7
lab = importlib.import_module("lab")  # its arrays, of one backend or the other


def pyscnn(
    problem: Problem, clock: Clock, precision: str = "float32", backend: str = "numpy", restarts: bool = True
) -> None:
    """backend: on a CPU the package takes numpy, though it can use torch. restarts: of the momentum, as it does."""
    X, y, G = problem.Y.numpy(), problem.b.numpy()[:, None], problem.u.numpy().T
    step, set_backend = FISTA.step, lab.set_backend

    def watched(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        if not restarts:
            self.restart_rule = None
        result = step(self, model, *args, **kwargs)
        clock.look(lambda: problem.objective(in_order(lab.to_np(model.weights), lab.to_np(model.U), problem.u)))
        return result

    with patch.object(FISTA, "step", watched), patch.object(lab, "set_backend", lambda name: set_backend(backend)):
        model = ConvexGatedReLU(G)
        optimize_model(
            model,
            RFISTA(model, tol=1e-16, max_iters=STEPS),
            Metrics(),
            X,
            y,
            regularizer=NeuronGL1(problem.beta / len(X)),
            unitize_data=False,
            dtype=precision,
            return_convex=True,
        )


def in_order(weights: np.ndarray, U: np.ndarray, u: Tensor) -> Tensor:
    """Filters (gate, tap) in the order of gates u, of weights (1, gate, tap) behind the columns of U; else 0."""
    places = {gate.tobytes(): number for number, gate in enumerate(u.numpy())}
    v = torch.zeros(u.shape, dtype=torch.float64)
    for column, filters in zip(U.T.astype(np.float32), weights[0], strict=True):
        v[places[column.tobytes()]] = torch.from_numpy(filters.astype(np.float64))
    return v
