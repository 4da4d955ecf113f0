"""Conjugate gradients and the operator norm against dense linear algebra."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.physics import Fourier, orthonormal, sense
from mrirecon.physics.linop import LinearOperator
from mrirecon.solvers import conjugate_gradient, operator_norm
from mrirecon.testing import complex_normal, relative_error


def matrices(batch: int = 3, n: int = 6, dtype: torch.dtype = torch.complex128) -> Tensor:
    """Hermitian positive definite matrices, one per item, of condition about 10."""
    factor = complex_normal((batch, n, n), dtype)
    return factor @ factor.mH / n + 0.3 * torch.eye(n, dtype=dtype)


def times(H: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: (H @ x.unsqueeze(-1)).squeeze(-1)


def test_the_solution_is_that_of_dense_linear_algebra() -> None:
    H, b = matrices(), complex_normal((3, 6), torch.complex128, seed=1)
    x = conjugate_gradient(times(H), b, iterations=12, tolerance=0)
    assert relative_error(x, torch.linalg.solve(H, b)) < 1e-12


def test_a_start_is_used() -> None:
    H, b = matrices(), complex_normal((3, 6), torch.complex128, seed=1)
    solution = torch.linalg.solve(H, b)
    near = solution + 1e-6 * complex_normal((3, 6), torch.complex128, seed=2)
    error = relative_error(conjugate_gradient(times(H), b, near, iterations=1), solution)
    assert error < 1e-6
    assert relative_error(conjugate_gradient(times(H), b, solution), solution) < 1e-14


def test_the_energy_never_grows() -> None:
    H, b = matrices(), complex_normal((3, 6), torch.complex128, seed=1)
    solution = torch.linalg.solve(H, b)

    def energy(x: Tensor) -> Tensor:
        error = x - solution
        return torch.linalg.vecdot(error, times(H)(error)).real

    energies = torch.stack([energy(conjugate_gradient(times(H), b, iterations=k, tolerance=0)) for k in range(1, 7)])
    assert bool((energies[1:] <= energies[:-1]).all()), energies


def test_the_items_of_a_batch_do_not_influence_each_other() -> None:
    H, b = matrices(), complex_normal((3, 6), torch.complex128, seed=1)
    b = b * torch.tensor([[1.0], [1e6], [0.0]])  # very different scales, and nothing at all
    together = conjugate_gradient(times(H), b, iterations=4, tolerance=1e-3)
    for i in range(3):
        alone = conjugate_gradient(times(H[i : i + 1]), b[i : i + 1], iterations=4, tolerance=1e-3)
        assert relative_error(together[i : i + 1], alone) < 1e-14
    assert not together[2].any()


def test_a_converged_item_stays_put_while_another_goes_on() -> None:
    H = torch.stack([torch.eye(6, dtype=torch.complex64), matrices(1, dtype=torch.complex64)[0]])
    b = complex_normal((2, 6), seed=1) * 1e4
    x = conjugate_gradient(times(H), b, iterations=500, tolerance=0)
    assert relative_error(x[0], b[0]) == 0
    assert relative_error(x, torch.linalg.solve(H, b)) < 1e-5  # and 500 iterations gave no NaN


def test_a_nan_in_the_data_is_not_hidden() -> None:
    H, b = matrices(), complex_normal((3, 6), torch.complex128, seed=1)
    b[1, 2] = torch.nan
    x = conjugate_gradient(times(H), b)
    assert x[1].isnan().any()
    assert x[[0, 2]].isfinite().all()


@pytest.mark.parametrize("iterations", [3, 40])
def test_gradients_are_those_of_dense_linear_algebra_also_past_convergence(iterations: int) -> None:
    """Iterating on past convergence gave 0/0 in the backward pass where only the forward pass was guarded."""
    n = 3
    H, b = matrices(2, n), complex_normal((2, n), torch.complex128, seed=1)
    weight = complex_normal((2, n), torch.complex128, seed=2)

    def gradients(solve: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        lam, right = torch.tensor(0.2, dtype=torch.float64, requires_grad=True), b.clone().requires_grad_()
        x = solve(H + lam * torch.eye(n), right)
        return torch.autograd.grad((weight.conj() * x).real.sum(), (lam, right))

    expected = gradients(torch.linalg.solve)
    found = gradients(lambda H, b: conjugate_gradient(times(H), b, iterations=iterations, tolerance=1e-12))
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-8


def test_regularised_sense_is_solved() -> None:
    maps, _ = orthonormal(complex_normal((2, 1, 4, 9, 12), torch.complex128))
    A = sense(maps, (torch.arange(12) % 2 == 0).double().reshape(1, 1, 1, 12))
    lam, x_true = 1e-3, complex_normal((2, 1, 9, 12), torch.complex128, seed=3)
    AHy = A.adjoint(A.forward(x_true))
    x = conjugate_gradient(lambda v: A.normal(v) + lam * v, AHy, iterations=300, tolerance=1e-10)
    residual = relative_error(A.normal(x) + lam * x, AHy)
    assert residual < 1e-9, residual


class Diagonal(LinearOperator):
    """Stretches each pixel by its own factor."""

    def __init__(self, factors: Tensor) -> None:
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        return self.factors * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.factors.conj() * y


def test_the_operator_norm_is_the_largest_singular_value_of_each_item() -> None:
    factors = complex_normal((2, 5, 6), torch.complex128)
    factors[1, 2, 3] = 10
    factors[0, 0, 0] = 6j
    norm = operator_norm(Diagonal(factors), torch.zeros(2, 5, 6, dtype=torch.complex128), iterations=60)
    assert norm.tolist() == pytest.approx([6, 10])


def test_the_operator_norm_of_sense_is_at_most_one_and_repeatable() -> None:
    like = torch.zeros(2, 1, 9, 12, dtype=torch.complex64)
    maps, _ = orthonormal(complex_normal((2, 1, 4, 9, 12)))
    A = sense(maps, (torch.arange(12) % 2 == 0).float().reshape(1, 1, 1, 12))
    state = torch.get_rng_state()
    norm = operator_norm(A, like)
    assert bool(((norm > 0.9) & (norm <= 1 + 1e-6)).all()), norm
    assert torch.equal(norm, operator_norm(A, like))
    assert torch.equal(state, torch.get_rng_state())  # the global generator is not touched
    assert operator_norm(Fourier(2), like).tolist() == pytest.approx([1, 1])
    assert operator_norm(Diagonal(torch.zeros(9, 12)), like).tolist() == [0, 0]


def test_settings_out_of_range_are_refused() -> None:
    b = complex_normal((1, 3))
    with pytest.raises(InputError, match="iterations=0"):
        conjugate_gradient(lambda x: x, b, iterations=0)
    with pytest.raises(InputError, match="tolerance=-1"):
        conjugate_gradient(lambda x: x, b, tolerance=-1)
    with pytest.raises(InputError, match="iterations=0"):
        operator_norm(Fourier(2), b, iterations=0)
