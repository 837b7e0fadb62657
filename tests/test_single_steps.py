"""Stages in single precision (`single_steps.py`): what a step is, when it will not do, and that nothing is lost."""

import subprocess
import sys

import numpy as np
import pytest
from numba import types

import dln
from dln._inverse_factor import FACTOR_ROOM, inverse_shape, invert_factor
from dln._jit import SINGLE_MATRIX, SINGLE_VECTOR, address, njit
from dln._large import NONE
from dln._simd import lanes, load, store
from dln.integrate import single_parts
from dln.integrate import single_steps as single
from dln.integrate import state as st
from dln.integrate.awake_steps import awake_attempt
from dln.integrate.rosenbrock import rosenbrock_attempt, stage_weights
from dln.integrate.tableaus import RODAS4, W6
from dln.integrate.tiles import flow_tile
from dln.integrate.work import work_of

GR, SAM = dln.GradientRegularization, dln.SAM
PENALTIES = [GR(0.02, 0.1), GR(0.02, 0.1, "backward"), GR(0.02, scheme="exact"), SAM(0.05)]
RULES = [dln.GradientFlow(), *PENALTIES]
flows = sys.modules["dln.flow"]
EPS = float(np.finfo(np.float32).eps)


def distance(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.fixture
def in_double(monkeypatch):
    """Return a flow without steps in single precision."""
    def run(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(flows, "noise_of_single", lambda *_: 0.0)
            return dln.flow(*args, **kwargs)
    return run


@njit(types.void(SINGLE_VECTOR, SINGLE_MATRIX), allocates=False)
def _exponentials(x, out):
    for j in range(0, x.shape[0], lanes(x)):
        a, b = single_parts._expm1_of_both_signs(load(x, j))
        store(a, out[0], j)
        store(b, out[1], j)
        store(single_parts._expm1(load(x, j)), out[2], j)
        store(single_parts._expm1(-1.0 * load(x, j)), out[3], j)


@pytest.mark.interpreted
def test_the_exponentials():
    # Reference: NumPy in double precision.
    half = np.concatenate([np.linspace(0.0, 60.0, 2000), np.geomspace(1e-30, 1.0, 400)])
    x = np.concatenate([half, -half]).astype(np.float32)
    out = np.empty((4, len(x)), dtype=np.float32)
    _exponentials(x, out)
    exact = np.expm1(x.astype(float))
    for found, wanted in zip(out, 2 * (exact, np.expm1(-x.astype(float))), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2.0 * EPS, atol=0.0)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_what_a_rule_says_of_itself_is_what_its_kernel_does(rule):
    # Reference: the formulas in the docstring of `Rule`, in NumPy.
    rng = np.random.default_rng(0)
    n, d, c = 5, 9, 0.1
    X, y, beta, size = rng.standard_normal((n, d)), rng.standard_normal(n), rng.standard_normal(d), rng.random(d) + 2.0
    r, coef, q, work_n = np.empty(n), np.empty(n), np.zeros(d), np.empty((2, n))
    rule.kernel(X, y, c, beta, size, rule.parameters(d), r, coef, q, np.empty((4, d)), work_n)
    s, w = rule.one_sided
    g = c * X.T @ (X @ beta - y)
    penalty = X @ (4.0 * g * (size + w * g * beta))
    np.testing.assert_allclose(coef, c * (X @ beta - y + s * penalty), rtol=1e-13)
    np.testing.assert_allclose(q, 2.0 * s * g * (g + w * c * X.T @ penalty), rtol=1e-12, atol=1e-16)
    scale = np.zeros(n)
    assert rule.curvature(X, c, beta, size, r, rule.parameters(d), scale, np.empty((4, d))) == s
    np.testing.assert_array_equal(scale, np.ones(n))


def test_other_rules_say_nothing():
    # Reference: their formulas, which are others.
    for rule in (GR(0.02, 0.1, "centered"), GR(0.02, 0.1, squared=False), SAM(0.05, normalized=True),
                 SAM(0.05, per_sample=True), dln.WeightDecay(0.01)):
        assert rule.one_sided is None


@pytest.mark.interpreted
@pytest.mark.parametrize("n", [8, 9, 15, 20, 33, 64])
def test_the_inverse(n):
    # Reference: NumPy.
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, 2 * n))
    M = A @ A.T + np.eye(n)
    W = np.zeros(inverse_shape(n))
    W[:n, :n] = np.tril(M)
    assert invert_factor(W, n, np.empty(FACTOR_ROOM))
    found = np.full((n + -n % 4, n + -n % 32), np.nan)
    single._invert(W, found)
    np.testing.assert_allclose(found[:n, :n], np.linalg.inv(M), rtol=1e-10, atol=1e-12)


class Step:
    """One step of a rule from a point of its flow, in single and in double precision."""

    def __init__(self, rule, alpha, h, n=8, d=30, chosen=(), scale=1.0, noise=1e-9, residual=1.0):
        self.rule, self.h, self.noise = rule, h, noise
        rng = np.random.default_rng(3)
        X = np.ascontiguousarray(scale * rng.standard_normal((n, d)))
        y = np.ascontiguousarray(X[:, 0] - X[:, 1])
        self.n, self.d, self.c = n, d, 0.5 / n
        self.rows = np.zeros((st.ROWS, d))
        self.rows[st.LOG_PRODUCT] = 2.0 * np.log(alpha)
        self.chosen = np.array(chosen, dtype=np.int64)
        if len(chosen):  # the others are far smaller
            self.rows[st.LOG_PRODUCT, np.setdiff1d(np.arange(d), chosen)] -= 40.0
        for array in (X, y):
            array.flags.writeable = False
        self.X, self.y = X, y
        self.params = rule.parameters(d)[None, :]
        self.method = W6 if rule.shrinks else RODAS4
        self.z = np.zeros(n + d if rule.shrinks else n)
        self.z[:n] = 0.3 * np.linalg.lstsq(X.T, rng.standard_normal(d), rcond=None)[0]
        self.z[n:] = 0.01 * rng.random(len(self.z) - n)
        st.fix_scale(self.rows, rule.shrinks)
        self.r, self.f, self.work_n = np.empty(n), np.empty(len(self.z)), np.zeros((2, n))
        self._evaluate()
        if residual != 1.0:  # so many times smaller: near the end, where steps are long
            self.y = X @ self.rows[st.BETA] - residual * self.r
            self.y.flags.writeable = False
            self._evaluate()

    def _evaluate(self):
        assert st.evaluate(address(self.rule.kernel), self._system(self.rows), self.c, self.z, self.params[0], self.r, self.f,
                           self.work_n)

    def _system(self, rows):
        return st.System(self.X, self.y, rows)

    def _made(self, attempt, singly):
        total, sleepers = len(self.z), len(self.chosen) > 0
        room = self.n * (self.d + 1) if sleepers else 0
        work = work_of(self.X, self.rows, total, len(self.method.m), True, room, singly, np.empty((0, 0)), np.empty(0))
        if sleepers and self.rule.shrinks:
            work.trace[0], work.trace[1] = self.r, self.work_n[0]
        end = self.rows.copy()
        out = [np.full(total, np.nan), np.full(total, np.nan), self.r.copy(), np.full(total, np.nan)]
        scaled, stiffness = attempt(work, self._system(end), *out)
        return scaled, stiffness, *out, end

    def in_single(self):
        t = self.method

        def attempt(work, end, z_new, f_new, r, local):
            if self.rule.shrinks:
                single.weigh_stages(work.singles, t.A, t.C, t.m, t.e, t.gamma)
            return single.single_attempt(
                self._system(self.rows), end, work.singles, self.c, self.z, self.f, self.h, 0.01, 1.0, t.A, t.C, t.m, t.e,
                t.gamma, not t.stiff_error, *map(float, self.rule.one_sided), self.noise, self.chosen, True, z_new, f_new, r,
                local, work.M, work.W, work.panel, work.diagonal, work.row_scale, work.room, work.trace)

        return self._made(attempt, True)

    def in_double(self):
        t = self.method

        def attempt(work, end, z_new, f_new, r, local):
            kernels = address(self.rule.kernel), address(self.rule.curvature)
            if len(self.chosen) and self.rule.shrinks:
                stage_weights(t.C, t.m, t.gamma, work.weights[0])
                stage_weights(t.C, t.e, t.gamma, work.weights[1])
                rows = np.ascontiguousarray(self.rows[:, self.chosen])
                X = np.ascontiguousarray(self.X[:, self.chosen])
                y = X @ rows[st.BETA] - self.r
                for array in (X, y):
                    array.flags.writeable = False
                return awake_attempt(
                    *kernels, st.System(X, y, rows), end, self.c, self.z, self.f, self.h, 0.01, 1.0, self.params, t.A, t.C, t.m,
                    t.e, t.gamma, True, *self.rule.dormant_pair, work.weights, self.chosen, work.parts, z_new, f_new, r, local,
                    work.K, work.M, work.W, work.panel, work.diagonal, work.row_scale, self.work_n.copy(), work.room,
                    work.trace)
            return rosenbrock_attempt(
                *kernels, NONE, end, end, self.c, self.z, self.f, self.h, 0.01, 1.0, self.params, t.A, t.C, t.m, t.e,
                t.gamma, not t.stiff_error, False, z_new, f_new, r, local, work.K, work.M, work.W, work.panel, work.diagonal,
                np.empty(0), 0.0, 0.0, work.row_scale, self.work_n.copy(), work.room, work.trace[:0])

        return self._made(attempt, False)


@pytest.mark.parametrize("shape", [(8, 30), (3, 40), (20, 100), (70, 33)], ids=str)
@pytest.mark.parametrize("alpha, h", [(0.3, 0.1), (1e-2, 1.0), (1e-4, 1.0)])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_step_is_that_of_double_precision(rule, alpha, h, shape):
    # Reference: `rosenbrock_attempt`.  Rounding errors are parts of what changes in the step; that the penalty has
    # K + kappa K^2 near a multiple of K changes where the step ends by a part of its error.
    step = Step(rule, alpha, h, *shape)
    scaled, stiffness, z, f, r, local, end = step.in_single()
    other, stiff, z_double, _, _, local_double, _ = step.in_double()
    np.testing.assert_allclose(stiffness, stiff, rtol=1e-5)
    np.testing.assert_allclose(scaled, other, rtol=0.3 if rule.shrinks else 1e-4, atol=0.01 if rule.shrinks else 1e-6)
    exact = 4.0 * EPS * np.abs(z_double - step.z).max() + (0.3 * np.abs(local_double).max() if rule.shrinks else 0.0)
    np.testing.assert_allclose(z, z_double, rtol=0.0, atol=exact)
    np.testing.assert_allclose(local, local_double, rtol=0.0, atol=exact)
    # What the step reports is its end: the weights and the residual in double precision, what a penalty adds not.
    fresh, r_fresh, f_fresh = end.copy(), np.empty(step.n), np.empty(len(z))
    st.evaluate(address(rule.kernel), step._system(fresh), step.c, z, step.params[0], r_fresh, f_fresh, step.work_n.copy())
    np.testing.assert_array_equal(r, r_fresh)
    np.testing.assert_allclose(f, f_fresh, rtol=0.0, atol=(4.0 * EPS if rule.shrinks else 1e-16) * np.abs(f_fresh).max())
    np.testing.assert_array_equal(end[st.BETA:st.RATIO + 1], fresh[st.BETA:st.RATIO + 1])


@pytest.mark.parametrize("size", [5, 16, 17])
@pytest.mark.parametrize("rule", PENALTIES, ids=str)
def test_a_step_with_sleepers(rule, size):
    # Reference: `awake_attempt`.
    step = Step(rule, 0.1, 1.0, chosen=np.sort(np.random.default_rng(size).permutation(30)[:size]))
    scaled, _, z, _, _, local, _ = step.in_single()
    other, _, z_double, _, _, local_double, _ = step.in_double()
    np.testing.assert_allclose(scaled, other, rtol=0.2, atol=0.01)
    exact = 4.0 * EPS * np.abs(z_double - step.z).max() + 0.3 * np.abs(local_double).max()
    np.testing.assert_allclose(z, z_double, rtol=0.0, atol=exact)
    np.testing.assert_allclose(local, local_double, rtol=0.0, atol=exact)


@pytest.mark.parametrize("change", [{"noise": 1.0}, {"alpha": 0.3, "h": 1e5, "noise": 0.0, "residual": 1e-9}, {"scale": 1e25},
                                    {"scale": 1e-25, "noise": np.nan}], ids=str)
@pytest.mark.parametrize("rule", [RULES[0], PENALTIES[0]], ids=str)
def test_a_step_that_will_not_do_says_so_and_changes_nothing(rule, change):
    # Reference: the state before.  Rounding errors would be felt, the matrix is too stiff, the range is left.
    step = Step(rule, **{"alpha": 0.1, "h": 1.0, **change})
    scaled, stiffness, _, _, r, _, end = step.in_single()
    assert np.isnan(scaled) and np.isnan(stiffness)
    np.testing.assert_array_equal(r, step.r)
    np.testing.assert_array_equal(end, step.rows)


@pytest.mark.parametrize("alpha", [0.3, 1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_runs_are_those_of_double_precision(rule, alpha, in_double):
    # Reference: the same run with all stages in double precision, and one at rtol 1e-10.
    problem = dln.sparse_regression(12, 50, 3, noise=0.1, rng=4)
    times = [5.0, 20.0, 80.0, 400.0]
    exact = dln.flow(problem, rule, alpha=alpha, t_end=times[-1], save_at=times, rtol=1e-10)
    for rtol in (0.5, 0.05, 0.003) if rule.exact_curvature else (0.05, 0.003):
        settings = {"alpha": alpha, "t_end": times[-1], "save_at": times, "rtol": rtol}
        run, slow = (flow(problem, rule, **settings) for flow in (dln.flow, in_double))
        assert run.success and abs(run.n_steps - slow.n_steps) <= 3 + 0.05 * slow.n_steps
        for k in range(len(times)):
            assert distance(run.betas[k], exact.betas[k]) <= 2.0 * distance(slow.betas[k], exact.betas[k]) + 0.01 * rtol
        scales = [np.abs(found.log_effective_alpha - exact.log_effective_alpha).max() for found in (run, slow)]
        assert scales[0] <= 2.0 * scales[1] + 1e-5 * rtol


@pytest.mark.parametrize("rule", [RULES[0], *PENALTIES[:2]], ids=str)
def test_tiles_take_the_same_steps(rule):
    # Reference: single runs, to the bits; so few cells are not taken side by side.
    problem = dln.sparse_regression(9, 30, 3, rng=8)
    alphas, rtol = [0.1, 1e-3], 0.3 if rule.exact_curvature else 0.05
    tile = flow_tile(problem, [rule], np.log(alphas), t_end=[40.0], rtol=rtol)
    for k, alpha in enumerate(alphas):
        run = dln.flow(problem, rule, alpha=alpha, t_end=40.0, rtol=rtol)
        np.testing.assert_array_equal(tile.betas[k], run.beta)
        assert tile.n_steps[k] == run.n_steps


@pytest.mark.parametrize("correlation", [0.0, 0.99, 0.999999])
@pytest.mark.parametrize("rule", [RULES[0], PENALTIES[0]], ids=str)
def test_ill_conditioned_data(rule, correlation, in_double):
    # Reference: a run at rtol 1e-10, and one in double precision at the same tolerance.
    problem = dln.sparse_regression(15, 40, 3, correlation=correlation, rng=5)
    settings = {"alpha": 1e-2, "t_end": 1e4}
    exact = dln.flow(problem, rule, rtol=1e-10, **settings)
    for rtol in (0.1, 0.01) if rule.exact_curvature else (0.01,):
        run, slow = (flow(problem, rule, rtol=rtol, **settings) for flow in (dln.flow, in_double))
        assert run.success
        assert distance(run.beta, exact.beta) <= 2.0 * distance(slow.beta, exact.beta) + 0.01 * rtol


@pytest.mark.parametrize("rule", [RULES[0], PENALTIES[0]], ids=str)
def test_a_scale_beyond_the_range_of_single_precision_is_left_to_double(rule):
    # Reference: the flow is the same in other units, X scaled by 1/s and u^2, v^2 by s, time by s.
    problem = dln.sparse_regression(10, 30, 3, rng=6)
    one = dln.flow(problem, rule, alpha=1e-2, t_end=50.0, rtol=0.01)
    assert problem.row_space.rounding > 0.0
    if not rule.exact_curvature:
        return
    for s in (1e-20, 1e-4, 1e4, 1e20):
        scaled = dln.Problem(problem.X / s, problem.y)
        other = dln.flow(scaled, rule, alpha=1e-2 * np.sqrt(s), t_end=50.0 * s, rtol=0.01)
        assert (scaled.row_space.rounding > 0.0) == (1e-6 < s < 1e6)
        assert other.success and distance(other.beta / s, one.beta) <= 1e-4
    assert dln.Problem(problem.X, 0.0 * problem.y).row_space.rounding == 0.0


def test_strict_tolerances_are_left_to_double():
    # Reference: what is compiled.  Runs at rtol below 2.5e-3 need no kernels of single precision, strong penalties neither.
    space = dln.sparse_regression(10, 30, 3, rng=6).row_space
    c = 0.05
    assert flows.noise_of_single(RULES[0], space, c, 0.1, False) == c * space.rounding > 0.0
    large = dln.sparse_regression(100, 10500, 3, rng=6).row_space
    assert flows.noise_of_single(RULES[0], large, c, 0.1, False) == 0.0
    for rule, rtol, coupled in ((RULES[0], 1e-3, False), (PENALTIES[0], 0.01, True), (dln.WeightDecay(0.01), 0.01, False),
                                (GR(0.02, 0.1, "centered"), 0.01, False)):
        assert flows.noise_of_single(rule, space, c, rtol, coupled) == 0.0


@pytest.mark.parametrize("rule, rtol", [(dln.GradientFlow(), 0.5), (GR(0.05, 0.1), 0.05), (GR(0.3, scheme="exact"), 0.05),
                                        (GR(0.05, 0.1, "centered"), 0.05), (SAM(0.2), 0.05)], ids=str)
def test_the_loosest_tolerances_hold(rule, rtol):
    # Reference: runs at rtol 1e-10, of 40 random problems at random times.
    rng = np.random.default_rng(7)
    for _ in range(40):
        n, d = int(rng.integers(1, 20)), int(rng.integers(1, 40))
        X = rng.standard_normal((n, d)) + rng.uniform(-1.0, 1.0)
        problem = dln.Problem(X, X @ (rng.standard_normal(d) * (rng.random(d) < 0.3)) + 0.1 * rng.standard_normal(n))
        settings = {"alpha": 10.0 ** rng.uniform(-6.0, 0.0), "t_end": 10.0 ** rng.uniform(0.0, 3.0)}
        exact, run = (dln.flow(problem, rule, rtol=tol, **settings) for tol in (1e-10, rtol))
        if exact.success and run.success:
            assert distance(run.beta, exact.beta) <= rtol
            assert distance(run.beta, exact.beta) <= run.error_estimate


def test_no_kernel_of_single_precision_without_need():
    # Reference: what another process has compiled.
    code = ("import dln; from dln.integrate.single_steps import single_attempt as kernel\n"
            "for rtol in (1e-4, 1e-2):\n"
            "    dln.flow(dln.sparse_regression(5, 10, 2, rng=0), alpha=0.1, t_end=1.0, rtol=rtol)\n"
            "    print(len(kernel.dispatcher.overloads))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
