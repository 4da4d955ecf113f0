"""A strip of neighbouring rows of a problem, which is a problem of its own.

Where the mask does not depend on the row (lines along the readout), the transforms along the rows' axis cancel, and
A^H A = S^H F_w^H M F_w S acts on every row by itself. Hence (A^H A x)[rows] depends on x[rows] alone, and training on
strips meets exactly the data consistency of the whole image, at a fraction of the time and memory. Only a denoiser sees
that a strip has edges.
"""

from __future__ import annotations

from mrirecon.errors import InputError
from mrirecon.physics.fourier import Fourier
from mrirecon.physics.problem import Problem
from mrirecon.physics.sense import Sense


def strip(problem: Problem, start: int, n: int) -> Problem:
    """Rows ``start`` to ``start + n`` of a problem whose operator is a 2-D :class:`Sense` with a mask of columns.

    The strip's image is those rows of the image; its k-space is their transform, (batch, coil, n, width).

    Raises InputError for a mask that depends on the row, and for another operator.
    """
    A = problem.A
    if not isinstance(A, Sense) or A.ndim != 2 or A.mask.shape[-2] != 1:
        raise InputError(
            "strips of rows need a 2-D problem and a mask of whole columns; with a 2-D mask set model.rows to null"
        )
    rows = (..., slice(start, start + n), slice(None))
    along = Fourier(1)
    y = along.forward(along.adjoint(problem.y.mT).mT[rows].mT).mT
    return Problem(Sense(A.maps[rows], A.mask, 2), y, problem.AHy[rows])
