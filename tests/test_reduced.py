"""Gradient flow in the coordinates that are awake: bases, triangular systems, the slowest rate, one step."""

import numpy as np
import pytest

from dln.integrate.reduced import back_substitute, basis_of, extended, forward_substitute, room, slowest_rate, split

pytestmark = pytest.mark.interpreted
RNG = np.random.default_rng(5)


def members(d, chosen):
    member = np.zeros(d, dtype=bool)
    member[list(chosen)] = True
    return member


@pytest.mark.parametrize("chosen", [(), (3,), (0, 2, 5), (0, 1, 2, 3, 4, 5, 6)])
def test_basis_is_a_qr_factorisation(chosen):
    """Reference: the columns themselves, and orthonormality."""
    X = RNG.standard_normal((5, 7))
    basis = basis_of(X, members(7, chosen), room(5, 7, 2))
    k = min(5, len(chosen))
    assert basis.R.shape == (k, len(chosen)) and tuple(basis.columns) == chosen
    np.testing.assert_allclose(basis.rows @ basis.rows.T, np.eye(k), atol=1e-14)
    np.testing.assert_allclose(basis.rows.T @ basis.R, X[:, list(chosen)], atol=1e-14)


def test_dependent_columns_add_no_direction():
    X = RNG.standard_normal((6, 5))
    X[:, 2], X[:, 4] = -X[:, 1], 0.0
    basis = basis_of(X, members(5, range(5)), room(6, 5, 2))
    assert basis.R.shape == (3, 5)
    np.testing.assert_allclose(basis.rows.T @ basis.R, X, atol=1e-14)


def test_a_basis_grows_by_the_new_members():
    X = RNG.standard_normal((6, 8))
    space = room(6, 8, 2)
    basis = basis_of(X, members(8, (5, 7)), space)
    basis = extended(X, basis, members(8, (1, 5, 6, 7)), space)
    assert list(basis.columns) == [5, 7, 1, 6]
    np.testing.assert_allclose(basis.rows.T @ basis.R, X[:, [5, 7, 1, 6]], atol=1e-14)


def test_split_is_the_projection():
    """Reference: the projector from NumPy's pseudo-inverse."""
    X = RNG.standard_normal((6, 8))
    basis = basis_of(X, members(8, (0, 3, 4)), room(6, 8, 2))
    r, inside, across = RNG.standard_normal(6), np.empty(3), np.empty(6)
    split(basis, r, inside, across)
    A = X[:, [0, 3, 4]]
    np.testing.assert_allclose(across, r - A @ np.linalg.pinv(A) @ r, atol=1e-14)
    np.testing.assert_allclose(basis.rows.T @ inside + across, r, atol=1e-14)


def test_triangular_systems():
    R = np.triu(RNG.standard_normal((4, 4))) + 3.0 * np.eye(4)
    b = RNG.standard_normal(4)
    x, z = b.copy(), b.copy()
    back_substitute(R, x)
    forward_substitute(R, z)
    np.testing.assert_allclose(R @ x, b, atol=1e-14)
    np.testing.assert_allclose(R.T @ z, b, atol=1e-14)


def test_slowest_rate_is_a_lower_bound_and_not_far():
    """Reference: NumPy's eigenvalues; the Frobenius norm of an inverse is at most sqrt(m) of its largest eigenvalue."""
    for m in (1, 3, 6):
        R = np.triu(RNG.standard_normal((m, m))) + 2.0 * np.eye(m)
        beta = RNG.standard_normal(m)
        root = np.sqrt(np.abs(beta))
        least = 4.0 * 0.1 * np.linalg.eigvalsh((R * root).T @ (R * root))[0]
        assert least / np.sqrt(m) <= slowest_rate(R, beta, 0.1) * (1 + 1e-12) <= least * (1 + 1e-9)
