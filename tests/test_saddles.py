"""The process from saddle to saddle: closed forms, an independent process, optimality, uniqueness, scaling, bad input."""

import itertools

import numpy as np
import pytest
from random_data import KINDS, data
from scipy.optimize import linprog, nnls

import dln

SHAPES = [(4, 9), (6, 6), (9, 5), (12, 30)]
RANDOM = [data(kind, *shape) for kind in KINDS for shape in SHAPES]


def gradient_flow(problem, path, log_alpha, tau, rtol=1e-6):
    """Return beta and the dual per log(1/alpha) of the flow itself at times tau > 0."""
    times = np.asarray(tau) * -log_alpha
    run = dln.flow(problem, log_alpha=log_alpha * path.exponents, t_end=float(times[-1]), save_at=times, rtol=rtol)
    assert run.success and len(run.times) == len(times), run
    s = (run.log_us - run.log_vs) / (-4.0 * log_alpha)
    return run.betas, -s @ np.linalg.pinv(problem.X)


def middles(path):
    """Give the middle of every plateau, the last one taken as long as all before."""
    return 0.5 * (path.times + np.append(path.times[1:], 2.0 * path.times[-1]))


# --- closed forms ------------------------------------------------------------------------------------------------------


def test_orthogonal_columns_jump_one_by_one():
    """Reference: by hand, d beta_j at tau_j = (1/2)/(c |x_j.y|), one-dimensional least squares."""
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.standard_normal((6, 4)))[0] * [1.0, 2.0, 3.0, 4.0]
    y = rng.standard_normal(6)
    path = dln.saddles(dln.Problem(X, y))
    times = 6.0 / np.abs(X.T @ y)
    order = np.argsort(times)
    np.testing.assert_allclose(path.times, [0.0, *times[order]], rtol=1e-13)
    ends = X.T @ y / np.sum(X * X, axis=0)
    for k in range(5):
        expected = np.where(np.isin(np.arange(4), order[:k]), ends, 0.0)
        np.testing.assert_allclose(path.betas[k], expected, atol=1e-14 * np.abs(ends).max())
    assert path.success and path.entered == ((), *((j,) for j in order)) and not any(path.left)


def test_one_number():
    """Reference: by hand: 1x1, x = 2, y = -3, c = 1/2: g = 6/2, so that s = -1/2 at tau = 1/6."""
    path = dln.saddles(dln.Problem([[2.0]], [-3.0]))
    np.testing.assert_allclose(path.times, [0.0, 1.0 / 6.0], rtol=1e-15)
    np.testing.assert_allclose(path.betas, [[0.0], [-1.5]], rtol=1e-15)
    np.testing.assert_allclose(path.losses, [9.0 / 4.0, 0.0], atol=1e-30)
    np.testing.assert_allclose(path.duals[:, 0], [0.0, 0.25], rtol=1e-15)
    assert path.signs.tolist() == [[0], [-1]] and path.supports == ((), (0,))


def test_a_coordinate_leaves_and_returns_with_the_other_sign():
    """Reference: by hand, x_1 = (4, 0), x_2 = (1, 1), y = (1, 2), c = 1/4.

    x_1.y = 4 wins over x_2.y = 3: tau = 1/2, beta = (1/4, 0), residual (0, 2), s_2 = 3/8, which needs 1/4 more. Least squares
    of both has beta_1 < 0, so beta = (0, 3/2), residual (-1/2, 1/2), and s_1 goes from 1/2 to -1/2 at velocity -1/2.
    """
    path = dln.saddles(dln.Problem([[4.0, 1.0], [0.0, 1.0]], [1.0, 2.0]))
    np.testing.assert_allclose(path.times, [0.0, 0.5, 0.75, 2.75], rtol=1e-14)
    np.testing.assert_allclose(path.betas, [[0.0, 0.0], [0.25, 0.0], [0.0, 1.5], [-0.25, 2.0]], atol=1e-14)
    assert path.entered == ((), (0,), (1,), (0,)) and path.left == ((), (), (0,), ())
    assert path.signs.tolist() == [[0, 0], [1, 0], [0, 1], [-1, 1]]


def test_exponents_move_the_bounds():
    """Reference: orthogonal columns: tau_j is proportional to k_j."""
    problem = dln.Problem(np.eye(3), [1.0, 2.0, 3.0])
    k = np.array([0.5, 3.0, 1.0])
    path = dln.saddles(problem, exponents=k)
    times = k * 3.0 / np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(path.times, [0.0, *np.sort(times)], rtol=1e-14)


# --- against other solvers ---------------------------------------------------------------------------------------------


def independent_process(X, y, c, most=200):
    """Follow the process with SciPy's nnls and no state but s, in the full sample space."""
    s, tau, jumps = np.zeros(X.shape[1]), 0.0, []
    for _ in range(most):
        at = np.flatnonzero(np.abs(s) >= 0.5 - 1e-9)
        beta = np.zeros(X.shape[1])
        if at.size:
            beta[at] = np.sign(s[at]) * nnls(X[:, at] * np.sign(s[at]), y)[0]
        jumps.append((tau, beta))
        rate = c * X.T @ (y - X @ beta)
        rate[np.abs(rate) <= 1e-10 * c * np.linalg.norm(X, axis=0) * np.linalg.norm(y)] = 0.0
        free = (rate != 0.0) & ~((np.abs(s) >= 0.5 - 1e-9) & (rate * s > 0.0))
        if not free.any():
            return np.array([t for t, _ in jumps]), np.array([b for _, b in jumps])
        dt = float(np.min((0.5 - np.sign(rate[free]) * s[free]) / np.abs(rate[free])))
        s, tau = s + dt * rate, tau + dt
    raise AssertionError("no end")


@pytest.mark.parametrize("problem", RANDOM, ids=repr)
def test_random_problems_against_another_process(problem):
    """Reference: an event-driven process with scipy.optimize.nnls."""
    path = dln.saddles(problem)
    times, betas = independent_process(problem.X, problem.y, 0.5 / problem.n_samples)
    assert path.success, path.message
    np.testing.assert_allclose(path.times, times, rtol=1e-9)
    np.testing.assert_allclose(path.betas, betas, atol=1e-9 * np.abs(betas).max())


def test_some_coordinate_leaves_in_the_random_problems():
    """Else nothing above would show that leaving is right."""
    paths = [dln.saddles(problem) for problem in RANDOM]
    assert sum(len(left) for path in paths for left in path.left) >= 3


def test_every_saddle_is_best_among_all_supports():
    """Reference: brute force: least squares on every subset of the coordinates at their bounds, signs demanded."""
    problem = data("correlated", 5, 8)
    path = dln.saddles(problem)
    s = -path.duals @ problem.X
    for k, beta in enumerate(path.betas):
        at = np.flatnonzero(np.abs(s[k]) >= 0.5 - 1e-12)
        losses = [problem.loss(np.zeros(8))]
        for size in range(1, len(at) + 1):
            for subset in map(list, itertools.combinations(at, size)):
                inside = np.linalg.lstsq(problem.X[:, subset], problem.y, rcond=None)[0]
                if np.all(inside * s[k, subset] >= 0.0):
                    trial = np.zeros(8)
                    trial[subset] = inside
                    losses.append(problem.loss(trial))
        assert problem.loss(beta) == pytest.approx(min(losses), rel=1e-12, abs=1e-28)


@pytest.mark.parametrize("problem", RANDOM, ids=repr)
def test_the_end_is_an_l1_minimiser(problem):
    """Reference: `basis_pursuit`, by linear programming; its value, as the certificate says."""
    path, best = dln.saddles(problem), dln.basis_pursuit(problem)
    assert path.duality_gap <= 1e-12
    np.testing.assert_allclose(np.sum(np.abs(path.betas[-1])), best.objective, rtol=1e-11)
    assert np.max(np.abs(2.0 * path.duals[-1] @ problem.X)) <= 1.0 + 1e-12


def test_the_end_with_exponents_is_a_weighted_l1_minimiser():
    """Reference: `basis_pursuit` with weights k."""
    problem, k = data("noisy", 6, 14), np.random.default_rng(0).uniform(0.4, 2.0, 14)
    path, best = dln.saddles(problem, exponents=k), dln.basis_pursuit(problem, k)
    assert path.success
    np.testing.assert_allclose(path.betas[-1], best.beta, atol=1e-11 * np.abs(best.beta).max())


@pytest.mark.parametrize("problem", RANDOM, ids=repr)
def test_optimality_velocity_and_loss_at_every_saddle(problem):
    """Reference: the definition: signs at bounds, no gradient on supports, no pull outward; ``dual' = c (X beta - y)``."""
    path = dln.saddles(problem)
    s, sizes = -path.duals @ problem.X, np.linalg.norm(problem.X, axis=0) * np.linalg.norm(problem.y)
    assert np.all(np.abs(s) <= 0.5 + 1e-12) and np.all(path.kkt <= 1e-12)
    for k, beta in enumerate(path.betas):
        on, pull = beta != 0.0, problem.X.T @ (problem.y - problem.X @ beta)
        np.testing.assert_allclose(s[k, on], 0.5 * np.sign(beta[on]), atol=1e-12)
        assert np.all(np.abs(pull[on]) <= 1e-12 * sizes[on])
        edge = np.abs(s[k]) >= 0.5 - 1e-12
        assert np.all(pull[edge] * np.sign(s[k, edge]) <= 1e-12 * sizes[edge])
        assert path.losses[k] == pytest.approx(problem.loss(beta), rel=1e-10, abs=1e-28)
    assert np.all(np.diff(path.losses) < 0.0) and np.all(np.diff(path.times) > 0.0)
    speeds = np.diff(path.duals, axis=0) / np.diff(path.times)[:, None]
    rows = problem.row_space
    basis = np.eye(problem.n_samples) if rows.basis is None else rows.basis
    pulls = (path.betas[:-1] @ problem.X.T - problem.y) @ basis @ basis.T / (2 * problem.n_samples)
    np.testing.assert_allclose(speeds, pulls, atol=1e-10 * np.abs(pulls).max())


# --- against the flow --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 9), (6, 6)])
def test_the_flow_follows_at_the_middle_of_plateaus(shape):
    """Reference: `dln.flow` at four scales: the error at the middles falls from each to the next, by 100 in all or to 1e-6."""
    problem = data("noisy", *shape)
    path = dln.saddles(problem)
    tau = middles(path)
    errors = [np.max(np.abs(gradient_flow(problem, path, log_alpha, tau)[0] - path.at(tau)), axis=1)
              for log_alpha in (-30.0, -300.0, -3e3, -3e4)]
    assert np.all(errors[-1] <= 1e-6 * np.abs(path.betas).max())
    for coarse, fine in itertools.pairwise(errors):
        assert np.max(fine) < 0.9 * np.max(coarse) or np.max(fine) <= 1e-6 * np.abs(path.betas).max()


def test_the_flow_chooses_the_most_entropy_among_several():
    """Reference: `dln.flow`, and x_1 = (1, 0), x_2 = (0, 1), x_3 = (1/2, 1/2): b_3 = sqrt(b_1 b_2), from stationarity."""
    problem = dln.Problem([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]], [2.0, 1.0])
    path = dln.saddles(problem)
    b = path.betas[-1]
    assert path.success and b[2] == pytest.approx(np.sqrt(b[0] * b[1]), rel=1e-12)
    np.testing.assert_allclose(gradient_flow(problem, path, -1e4, [6.0])[0][0], b, rtol=1e-9)


def test_the_most_entropy_is_stationary_and_complete():
    """Reference: optimality: on the support ``sign(b_j) log|b_j| = x_j.e``; and no tied column could join it (LP)."""
    n_chosen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, y = rng.integers(-2, 3, (3, 9)).astype(float), rng.integers(-3, 4, 3).astype(float)
        path = dln.saddles(dln.Problem(X, y))
        for k, b in enumerate(path.betas):
            on = np.flatnonzero(b)
            if on.size <= np.linalg.matrix_rank(X[:, on]):
                continue
            n_chosen += 1
            target = np.sign(b[on]) * np.log(np.abs(b[on]))
            e = np.linalg.lstsq(X[:, on].T, target, rcond=None)[0]
            np.testing.assert_allclose(X[:, on].T @ e, target, atol=1e-9)
            s = -path.duals[k] @ X
            idle = (np.abs(s) >= 0.5 - 1e-12) & (b == 0.0) & (np.abs(X.T @ (X @ b - y)) <= 1e-10)
            tied = np.append(on, np.flatnonzero(idle))
            A = X[:, tied] * np.sign(s[tied])
            for j in range(on.size, tied.size):
                found = linprog(-np.eye(tied.size)[j], A_eq=A, b_eq=X @ b, bounds=(0, None))
                assert found.status == 0 and found.x[j] <= 1e-9
    assert n_chosen >= 10


def test_equal_and_opposite_columns_share():
    """Reference: symmetry."""
    problem = dln.Problem([[1.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], [2.0, 1.0])
    path = dln.saddles(problem)
    np.testing.assert_allclose(path.betas[1:], [[2 / 3, 2 / 3, -2 / 3, 0.0], [2 / 3, 2 / 3, -2 / 3, 1.0]], rtol=1e-13)


# --- ties, defects, scales ---------------------------------------------------------------------------------------------


def test_ties_on_a_grid_of_integers():
    """Reference: the certificate and the independent process's loss, on 120 problems full of ties."""
    n_ties = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 7), rng.integers(1, 10)
        X, y = rng.integers(-2, 3, shape).astype(float), rng.integers(-3, 4, shape[0]).astype(float)
        problem = dln.Problem(X, y)
        path = dln.saddles(problem)
        assert path.success, (seed, path.message)
        assert np.all(np.diff(path.losses) < 0.0)
        times, betas = independent_process(X, y, 0.5 / shape[0])
        np.testing.assert_allclose(path.times, times, rtol=1e-9, err_msg=str(seed))
        np.testing.assert_allclose(path.betas @ X.T, betas @ X.T, atol=1e-8 * max(1.0, np.abs(y).max()), err_msg=str(seed))
        n_ties += any(len(entered) > 1 for entered in path.entered)
    assert n_ties >= 40


def test_degenerate_data(degenerate):
    """Reference: the certificate, the l1 norm of `basis_pursuit`, and the same data at scale 1, rescaled."""
    _, X, y = degenerate
    problem = dln.Problem(X, y)
    path, best = dln.saddles(problem), dln.basis_pursuit(problem)
    assert path.success, path.message
    np.testing.assert_allclose(np.sum(np.abs(path.betas[-1])), best.objective, rtol=1e-9)


@pytest.mark.parametrize(("of_x", "of_y"), [(2.0**-40, 1.0), (1.0, 2.0**40), (2.0**400, 2.0**-300)])
def test_scaling_by_powers_of_two_changes_no_bit(of_x, of_y):
    """Reference: tau scales as 1/(x y), beta as y/x, the dual as 1/x."""
    plain = data("noisy", 5, 9)
    one, other = dln.saddles(plain), dln.saddles(dln.Problem(of_x * plain.X, of_y * plain.y))
    np.testing.assert_array_equal(other.times * of_x * of_y, one.times)
    np.testing.assert_array_equal(other.betas / (of_y / of_x), one.betas)
    np.testing.assert_array_equal(other.duals * of_x, one.duals)


def test_scaling_by_decimal_powers():
    """Reference: the same, to rounding."""
    plain = data("noisy", 5, 9)
    one, other = dln.saddles(plain), dln.saddles(dln.Problem(1e-12 * plain.X, 1e12 * plain.y))
    np.testing.assert_allclose(other.times, one.times, rtol=1e-12)
    np.testing.assert_allclose(other.betas, 1e24 * one.betas, rtol=1e-10)
    assert other.entered == one.entered and other.left == one.left


@pytest.mark.parametrize("kind", ["columns", "rows", "nearly equal columns"])
def test_data_of_very_different_sizes_are_certified(kind):
    """Reference: the certificates, and the objective of `basis_pursuit`, on 20 problems each, up to 12 decades apart."""
    for seed in range(20):
        rng = np.random.default_rng([seed, len(kind)])
        n_samples, n_features = rng.integers(2, 12), rng.integers(2, 25)
        X, y = rng.standard_normal((n_samples, n_features)), rng.standard_normal(n_samples)
        if kind == "columns":
            X = X * 10.0 ** rng.uniform(-6.0, 6.0, n_features)
        elif kind == "rows":
            X = X * 10.0 ** rng.uniform(-4.0, 4.0, (n_samples, 1))
        else:
            X[:, 1:] = X[:, :1] + 1e-5 * X[:, 1:]
        problem = dln.Problem(X, y)
        path, best = dln.saddles(problem), dln.basis_pursuit(problem)
        assert path.success and np.all(np.diff(path.losses) < 0.0), (seed, path.message)
        if best.success:
            np.testing.assert_allclose(np.sum(np.abs(path.betas[-1])), best.objective, rtol=1e-8)


def test_nothing_to_learn():
    """Reference: y = 0, y orthogonal to every column, X = 0: one saddle, the origin, for ever."""
    for X, y in (([1.0, 2.0], [0.0, 0.0]), ([1.0, 2.0], [0.0, 1.0]), ([0.0, 0.0], [1.0, 1.0])):
        path = dln.saddles(dln.Problem([X, [0.0, 0.0]], y))
        assert path.success and len(path.times) == 1 and not path.betas.any() and path.horizon == np.inf
        assert not path.at(5.0).any() and not path.mean(5.0).any() and path.bound(-10.0, [0.0, 5.0]).tolist() == [0.0, 0.0]


# --- the methods of a path ---------------------------------------------------------------------------------------------


def test_values_between_the_jumps():
    """Reference: piecewise constant and linear by hand; the average by trapezoids on a fine grid."""
    path = dln.saddles(data("noisy", 6, 6))
    tau = np.linspace(0.0, 1.5 * path.times[-1], 30001)
    betas, duals = path.at(tau), path.dual_at(tau)
    np.testing.assert_array_equal(path.at(path.times), path.betas)
    np.testing.assert_allclose(path.dual_at(path.times), path.duals)
    np.testing.assert_array_equal(path.at(0.5 * (path.times[1] + path.times[2])), path.betas[1])
    for i in range(duals.shape[1]):
        np.testing.assert_allclose(duals[:, i], np.interp(tau, path.times, path.duals[:, i]), atol=1e-13)
    average = np.sum(0.5 * (betas[1:] + betas[:-1]) * np.diff(tau)[:, None], axis=0) / tau[-1]
    np.testing.assert_allclose(path.mean(tau[-1]), average, atol=2e-4 * np.abs(path.betas).max())
    assert not path.mean(0.0).any() and path.mean(tau[:7]).shape == (7, 6)


def test_the_average_is_a_lasso_solution_where_nothing_has_left():
    """Reference: optimality of the Lasso, gradient of the loss at the average = -lam sign, lam = 1/(2 tau)."""
    problem = data("sparse", 12, 30)
    path = dln.saddles(problem)
    assert not any(path.left)
    for tau in np.linspace(0.1, 1.7, 9) * path.times[-1]:
        mean = path.mean(tau)
        g, lam = problem.gradient(mean), 0.5 / tau
        on = mean != 0.0
        np.testing.assert_allclose(g[on], -lam * np.sign(mean[on]), rtol=1e-9)
        assert np.all(np.abs(g) <= lam * (1.0 + 1e-9))


def test_a_path_cut_short_says_so():
    """Reference: the whole path."""
    problem = data("noisy", 6, 6)
    whole, path = dln.saddles(problem), dln.saddles(problem, max_jumps=2)
    assert not path.success and path.status == "jump limit" and "raise max_jumps" in path.message
    np.testing.assert_array_equal(path.times, whole.times[:3])
    assert path.horizon == whole.times[3]
    np.testing.assert_array_equal(path.at(path.horizon), whole.betas[2])
    np.testing.assert_allclose(path.dual_at(path.horizon), whole.duals[3], rtol=1e-12)
    with pytest.raises(ValueError, match=r"tau = .* is beyond .*: raise max_jumps"):
        path.at(1.01 * path.horizon)
    assert repr(path).startswith("SaddlePath(jump limit: 2 jumps") and repr(whole).startswith("SaddlePath(ended: ")


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({"exponents": [1.0, 2.0]}, ValueError, r"exponents must have shape \(1,\), one entry per column of X; got \(2,\)"),
    ({"exponents": [0.0]}, ValueError, r"exponents\[0\] must be positive and finite, got 0"),
    ({"max_jumps": -1}, ValueError, "max_jumps must be an integer, at least 0, got -1"),
    ({"max_jumps": 2.5}, ValueError, "max_jumps must be an integer"),
])
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        dln.saddles(dln.Problem([[1.0]], [1.0]), **arguments)


def test_bad_times_scales_and_problems():
    path = dln.saddles(dln.Problem([[1.0]], [1.0]))
    with pytest.raises(ValueError, match="tau must be finite and at least 0, got -1"):
        path.at([0.0, -1.0])
    with pytest.raises(ValueError, match="tau must be finite and at least 0, got nan"):
        path.mean(np.nan)
    with pytest.raises(ValueError, match="log_alpha must be finite and below 0, got 0"):
        path.bound(0.0, 1.0)
    with pytest.raises(TypeError, match=r"problem must be a dln\.Problem, got list"):
        dln.saddles([[1.0]])
