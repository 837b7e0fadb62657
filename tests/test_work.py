"""Columns of zeros that make whole vectors: what a run returns does not depend on them."""

import numpy as np
import pytest

import dln
from dln._simd import WIDTH
from dln.integrate import state
from dln.integrate.work import widened, widened_data, widened_rows


def narrow(rule):
    """Return the rule, of a class that does not allow columns of zeros."""
    kind = type(rule)
    cut = type("Narrow", (kind,), {"ignores_zero_columns": False})
    return cut(*(getattr(rule, name) for name in kind.__dataclass_fields__)) if hasattr(kind, "__dataclass_fields__") else cut()


@pytest.mark.parametrize("method", ["rosenbrock", "explicit"])
@pytest.mark.parametrize("rule", [
    dln.GradientFlow(), dln.GradientRegularization(0.02, 0.1), dln.GradientRegularization(0.01, squared=False, scheme="exact"),
    dln.SAM(0.05), dln.SAM(0.05, per_sample=True),
])
@pytest.mark.parametrize("d", [9, 20, 31])
def test_runs_with_columns_of_zeros_agree_with_runs_without(d, rule, method):
    # Reference: the same run without; what differs is the order of sums.
    problem = dln.sparse_regression(6, d, 2, rng=d)
    settings = {"log_alpha": np.linspace(-6.0, -2.0, d), "log_ratio": 0.3 * np.random.default_rng(d).standard_normal(d),
                "t_end": 8.0, "save_at": [1.0, 3.0], "method": method, "rtol": 1e-6}
    wide, plain = dln.flow(problem, rule, **settings), dln.flow(problem, narrow(rule), **settings)
    assert wide.success and plain.success
    assert (wide.n_steps, wide.n_rejected, wide.n_rhs) == (plain.n_steps, plain.n_rejected, plain.n_rhs)
    for name in ("beta", "log_u", "log_v", "dual", "shrinkage", "betas", "log_us", "losses", "loss"):
        found, wanted = getattr(wide, name), getattr(plain, name)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-11 * (1.0 + np.abs(wanted).max()), err_msg=name)
    np.testing.assert_allclose(wide.error_estimate, plain.error_estimate, rtol=1e-3)


@pytest.mark.interpreted
@pytest.mark.parametrize("more", [1, WIDTH - 1])
def test_what_is_widened(more):
    # Reference: NumPy.
    rng = np.random.default_rng(0)
    X, rows, z = rng.standard_normal((3, 9)), rng.standard_normal((state.ROWS, 9)), rng.standard_normal(12)
    np.testing.assert_array_equal(widened_data(X, more), np.pad(X, ((0, 0), (0, more))))
    np.testing.assert_array_equal(widened(z, more), np.pad(z, (0, more)))
    wide = widened_rows(rows, more)
    wanted = np.pad(rows, ((0, 0), (0, more)))
    wanted[[state.LOG_PRODUCT, state.PRODUCT], 9:] = rows[state.LOG_PRODUCT].min()
    np.testing.assert_array_equal(wide, wanted)
    for array in (widened_data(X, more), wide):
        assert array.ctypes.data % 64 == 0
