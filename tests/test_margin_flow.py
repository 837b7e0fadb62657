"""Training on two classes, in the flow and in steps: against weights in ordinary time, closed forms, laws, and limits."""

import math

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import dln
from dln import Classification, margin_descent, margin_flow, maximum_margin


def planted(n_samples, n_features, seed=0):
    rng = np.random.default_rng([n_samples, n_features, seed])
    X = rng.standard_normal((n_samples, n_features)) + 0.3
    return Classification(X, np.where(X @ rng.standard_normal(n_features) > 0, 1.0, -1.0))


def pull(margins, loss):
    return (np.exp(-margins) if loss == "exponential" else 1 / (1 + np.exp(margins))) / len(margins)


def identity(run):
    """Check the law: beta from scale, shape and multipliers, and multipliers that are at least 0."""
    assert np.all(run.dual >= 0)
    turned = run.effective_log_ratio + 4 * run.dual @ run.problem.Z
    size = np.abs(turned)
    expected = np.sign(turned) * np.exp(2 * run.log_effective_alpha + size) * -np.expm1(-2 * size)
    np.testing.assert_allclose(run.beta, expected, rtol=1e-9, atol=1e-9 * np.abs(run.beta).max())


# The flow -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("alpha", [0.05, 1.0, 5.0])
def test_flow_against_raw_weights_in_ordinary_time(alpha, loss):
    """Reference: SciPy's DOP853 on (u, v) in ordinary time, with the multipliers integrated along."""
    problem = planted(5, 8)
    d, ratio = 8, 0.3 * np.random.default_rng(1).standard_normal(8)
    times = np.array([0.5, 10.0, 500.0]) / alpha**2

    def velocity(t, state):
        u, v = state[:d], state[d : 2 * d]
        a = pull(problem.Z @ (u * u - v * v), loss)
        return np.concatenate([2 * u * (a @ problem.Z), -2 * v * (a @ problem.Z), a])

    start = np.concatenate([alpha * np.exp(ratio / 2), alpha * np.exp(-ratio / 2), np.zeros(5)])
    raw = solve_ivp(velocity, (0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-12, atol=1e-15).y
    run = margin_flow(problem, loss=loss, alpha=alpha, log_ratio=ratio, log_t_end=math.log(times[-1]),
                      save_log_times=np.log(times), rtol=1e-10)
    assert run.success and run.status == "reached time"
    betas = (raw[:d] ** 2 - raw[d : 2 * d] ** 2).T
    np.testing.assert_allclose(run.betas, betas, atol=1e-9 * np.abs(betas).max())
    np.testing.assert_allclose(run.duals, raw[2 * d :].T, atol=1e-9 * raw[2 * d :].max())
    np.testing.assert_allclose(run.log_ts, np.log(times), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.exp(run.log_u), raw[:d, -1], rtol=1e-8)
    np.testing.assert_allclose(np.exp(run.log_v), raw[d : 2 * d, -1], rtol=1e-8)
    identity(run)


@pytest.mark.parametrize(("log_alpha", "margin"), [
    (-3.0, 1e6), pytest.param(1.0, 30.0, marks=pytest.mark.interpreted), (-1e4, 1e3)])
def test_one_sample_in_closed_form(log_alpha, margin):
    """Reference: beta = 2 alpha^2 sinh(4 z nu); time by quadrature of exp(m) dnu, its growth taken out."""
    z = np.array([2.0, -1.0])
    run = margin_flow(Classification([z], [1]), log_alpha=log_alpha, margin_end=margin, rtol=1e-11)
    assert run.success and run.margin == pytest.approx(margin, rel=1e-11)

    def margin_of(nu):
        return sum(2 * abs(x) * math.exp(2 * log_alpha + 4 * abs(x) * nu) * -math.expm1(-8 * abs(x) * nu) / 2 for x in z)

    nu = run.dual[0]
    assert margin_of(nu) == pytest.approx(margin, rel=1e-11 + 4e-16 * abs(log_alpha) * 10)
    # t = int exp(m(nu)) dnu, nearly all of it where m is within some tens of its end.
    slope = sum(8 * x * x * math.exp(2 * log_alpha + 4 * abs(x) * nu) for x in z)
    width = min(nu, 60 / slope)
    integral = quad(lambda x: math.exp(margin_of(x) - margin), nu - width, nu, epsabs=0, epsrel=1e-9)[0]
    if abs(log_alpha) < 100:
        assert run.log_t == pytest.approx(margin + math.log(integral), rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("scale", [{"log_alpha": -1e6}, {"log_alpha": -50.0}, {"alpha": 0.1}, {"alpha": 1e4}])
def test_margins_of_a_million_at_every_scale(scale, loss):
    """Reference: the same run at a tighter tolerance; the estimated error bounds the true one; the budget of steps."""
    problem = planted(8, 15)
    run = margin_flow(problem, loss=loss, **scale)
    fine = margin_flow(problem, loss=loss, rtol=1e-10, **scale)
    assert run.success and fine.success and run.status == "reached margin"
    assert run.margin == pytest.approx(1e6, rel=1e-9)
    difference = np.abs(run.beta - fine.beta).max() / np.abs(fine.beta).max()
    assert difference <= min(run.error_estimate + fine.error_estimate, 1e-7)
    assert run.n_steps + run.n_rejected < 5000
    # Logarithms of weights of 1e6 are known to rounding alone: at any tolerance log_t differs by a few 1e-10 of itself.
    assert run.log_t == pytest.approx(fine.log_t, rel=1e-9 + 4e-15 * abs(scale.get("log_alpha", 0.0)))
    identity(run) if "log_alpha" not in scale or scale["log_alpha"] > -1000 else None


def test_a_margin_of_1e9_still_keeps_the_support_vectors_apart():
    """Reference: the maximum margin of Q_mu, to order 1/margin."""
    problem = planted(8, 15)
    run = margin_flow(problem, alpha=1e4, margin_end=1e9)
    assert run.success
    best = maximum_margin(problem, "potential", log_mu=run.log_mu)
    np.testing.assert_allclose(run.beta / run.margin, best.beta, atol=1e-7 * np.abs(best.beta).max())


def test_at_a_margin_of_1e12_multipliers_still_grow_on_the_tight_samples_alone():
    """Reference: a pull is exp(-margin): samples that are not within some tens of the least margin have none."""
    problem = planted(8, 15)
    run = margin_flow(problem, alpha=0.1, margin_end=1e12, save_margins=[9e11])
    assert run.success and run.margin == pytest.approx(1e12, rel=1e-12)
    excess = problem.margins(run.beta) - run.margin
    grown = run.dual - run.duals[0]
    assert np.all(grown >= 0) and grown.sum() > 0
    assert np.count_nonzero(excess < 60) >= 2
    np.testing.assert_array_equal(grown > 1e-9 * grown.sum(), excess < 60)
    identity(run)


def test_tighter_tolerances_converge():
    """Reference: convergence: the error falls with the tolerance, by at least its power 0.7."""
    problem = planted(6, 9)
    fine = margin_flow(problem, alpha=0.1, margin_end=50.0, rtol=1e-12).beta
    errors = [np.abs(margin_flow(problem, alpha=0.1, margin_end=50.0, rtol=rtol).beta - fine).max()
              for rtol in (1e-4, 1e-6, 1e-8)]
    assert errors[1] <= errors[0] * 100**-0.7 and errors[2] <= errors[1] * 100**-0.7


def test_saved_margins_are_those_of_a_run_that_stops_there():
    problem = planted(6, 9)
    run = margin_flow(problem, alpha=0.1, margin_end=1e4, save_margins=[0.5, 10.0, 1e4])
    np.testing.assert_allclose(run.margins_saved, [0.5, 10.0, 1e4], rtol=1e-11)
    for k, margin in enumerate(run.margins_saved):
        alone = margin_flow(problem, alpha=0.1, margin_end=float(margin))
        np.testing.assert_allclose(run.betas[k], alone.beta, rtol=1e-6)
        assert run.log_losses[k] == pytest.approx(problem.log_loss(run.betas[k]), rel=1e-12)
        assert run.log_ts[k] == pytest.approx(alone.log_t, rel=1e-6)
    assert np.all(np.diff(run.duals, axis=0) >= 0)


def test_scaling_the_data_rescales_the_run_and_nothing_else():
    """Reference: beta, alpha^2 and 1/X share a unit, and t has that unit, too; nothing else has one, not even a step."""
    problem = planted(6, 9)
    one = margin_flow(problem, alpha=0.1, margin_end=1e3)
    other = margin_flow(Classification(4.0**-20 * problem.X, problem.labels), alpha=0.1 * 2.0**20, margin_end=1e3)
    np.testing.assert_allclose(other.beta * 4.0**-20, one.beta, rtol=1e-8)
    assert abs(one.n_steps - other.n_steps) <= 3
    assert other.log_t == pytest.approx(one.log_t + 20 * math.log(4), abs=1e-4)


def test_normalised_margins_and_mu():
    run = margin_flow(planted(6, 9), alpha=0.1, margin_end=100.0)
    assert run.l1_margin == pytest.approx(run.margin / np.abs(run.beta).sum(), rel=1e-15)
    assert run.l2_margin == pytest.approx(run.margin / np.linalg.norm(run.beta), rel=1e-15)
    np.testing.assert_allclose(run.mu, 1e-4, rtol=1e-9)
    assert run.log_loss == pytest.approx(run.problem.log_loss(run.beta))
    np.testing.assert_array_equal(run.center, 0)
    assert repr(run).startswith("MarginResult(reached margin: margin=100")


# The limit of the direction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("mu", [0.1, 10.0])
def test_direction_tends_to_the_maximum_margin_of_the_potential_like_1_over_margin(mu, loss):
    """Reference: the solver, at fixed mu = alpha^2/margin; order 1 in the margin."""
    problem = planted(6, 12)
    best = maximum_margin(problem, "potential", mu=mu).beta
    distances = [np.linalg.norm(margin_flow(problem, loss=loss, alpha=math.sqrt(mu * m), margin_end=m).beta / m - best)
                 for m in (1e2, 1e3, 1e4, 1e5)]
    np.testing.assert_allclose(np.array(distances[1:]) / distances[:-1], 0.1, rtol=0.2)


# Outcomes -------------------------------------------------------------------------------------------------------------


def test_data_that_are_not_separable_end_at_once_with_their_certificate():
    problem = Classification([[1.0, 2.0], [3.0, 1.0], [1.0, 2.0]], [1, 1, -1])
    run = margin_flow(problem, alpha=0.1)
    assert not run.success and run.status == "not separable" and run.n_steps == 0
    assert "a convex combination of the samples z_i vanishes" in run.message and "log_t_end" in run.message
    np.testing.assert_allclose(run.separation.weights @ problem.Z, 0, atol=1e-15)
    steps = margin_descent(problem, alpha=0.1, step=0.1, n_steps=50)
    assert not steps.success and steps.status == "not separable" and steps.n_steps == 50
    identity(steps)


def test_data_that_are_not_separable_can_be_followed_in_time():
    """Reference: the minimiser of the loss, which the flow reaches: two contradicting samples of one feature, log 2 apart."""
    problem = Classification([[1.0], [1.0], [1.0]], [1, 1, -1])
    run = margin_flow(problem, alpha=1.0, log_t_end=8.0)
    assert run.success and run.status == "reached time"
    assert run.beta[0] == pytest.approx(math.log(2) / 2, abs=1e-9)


def test_a_budget_that_is_spent_is_a_status():
    run = margin_flow(planted(5, 8), alpha=0.1, max_steps=20)
    assert not run.success and run.status == "step limit"
    assert "20 attempted steps" in run.message and "raise max_steps" in run.message


@pytest.mark.parametrize(("given", "words"), [
    ({}, "give exactly one of alpha, log_alpha and initial_weights"),
    ({"alpha": 1.0, "loss": "hinge"}, "unknown loss 'hinge'"),
    ({"alpha": 1.0, "margin_end": 1e13}, "margin_end must be at most 1e.12, got 1e.13"),
    ({"alpha": 1.0, "rtol": 0.1}, "rtol must be at most 0.01, got 0.1"),
    ({"alpha": 1.0, "max_steps": 0}, "max_steps must be a positive integer, got 0"),
    ({"alpha": 1.0, "save_margins": [2.0, 1.0]}, r"save_margins must increase, but save_margins\[1\] = 1 follows 2"),
    ({"alpha": 1.0, "save_margins": [2.0, 1e7]}, r"save_margins\[1\] = 1e\+07 lies beyond margin_end = 1e\+06"),
    ({"alpha": 1.0, "save_log_times": [np.nan]}, r"save_log_times\[0\] must be finite"),
    ({"alpha": 1.0, "save_margins": [1.0], "save_log_times": [1.0]}, "give save_margins or save_log_times, not both"),
    ({"alpha": 1.0, "margin_end": 1.0, "log_t_end": 1.0}, "give margin_end or log_t_end, not both"),
    ({"log_alpha": 300.0}, "the initial weights overflow"),
])
def test_bad_arguments_of_the_flow_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        margin_flow(planted(3, 5), **given)


def test_degenerate_data(degenerate):
    """Reference: the verdict on the data, and the identity."""
    _, X, y = degenerate
    problem = Classification(X, np.where(y > 0, 1, -1))
    unit = 1 / np.abs(X).max()
    run = margin_flow(problem, alpha=math.sqrt(0.1 * unit), margin_end=1e3)
    assert run.success == problem.separation.separable, run.message
    identity(run)


# Steps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.interpreted
def test_descent_against_raw_steps(normalized, loss):
    """Reference: u and v themselves, step by step, with steps large enough to change signs."""
    problem = planted(5, 8)
    u, v, dual = np.full(8, 0.7), np.full(8, 0.4), np.zeros(5)
    sizes = [1.5 if normalized else 0.2] + [0.03] * 29
    for eta in sizes:
        m = problem.Z @ (u * u - v * v)
        value = np.mean(np.exp(-m) if loss == "exponential" else np.log1p(np.exp(-m)))
        a = eta * pull(m, loss) / (value if normalized else 1)
        g = a @ problem.Z
        u, v, dual = u * (1 + 2 * g), v * (1 - 2 * g), dual + a
    run = margin_descent(problem, step=lambda k: sizes[k], n_steps=30, loss=loss, normalized=normalized,
                         initial_weights=(0.7, 0.4), save_at=[0, 30])
    assert run.success and run.n_steps == 30
    beta = u * u - v * v
    np.testing.assert_allclose(run.beta, beta, atol=1e-12 * np.abs(beta).max())
    np.testing.assert_allclose(run.dual, dual, atol=1e-11 * dual.max())
    np.testing.assert_array_equal(run.sign_u, np.sign(u))
    np.testing.assert_array_equal(run.sign_v, np.sign(v))
    np.testing.assert_allclose(run.betas[1], run.beta)
    np.testing.assert_allclose(run.betas[0], 0.7**2 - 0.4**2)
    assert run.log_t == pytest.approx(math.log(sum(sizes)))
    identity(run)
    if normalized:
        assert (run.sign_u < 0).any() or (run.sign_v < 0).any()


def test_small_steps_follow_the_flow():
    """Reference: the flow in the same multipliers: order 1 in the step."""
    problem = planted(5, 8)
    flow = margin_flow(problem, alpha=0.5, margin_end=20.0, rtol=1e-10)
    total = flow.dual.sum()
    errors = []
    for count in (200, 400, 800):
        run = margin_descent(problem, step=total / count, n_steps=count, alpha=0.5)
        errors.append(np.abs(run.beta - flow.beta).max())
    np.testing.assert_allclose(np.array(errors[1:]) / errors[:-1], 0.5, atol=0.06)


def test_normalised_steps_reach_margins_at_which_the_loss_underflows():
    problem = planted(5, 8)
    run = margin_descent(problem, step=0.02, n_steps=100_000, alpha=1e-3, margin_end=1e5)
    assert run.success and run.status == "reached margin" and run.margin >= 1e5 and run.log_loss < -9e4
    identity(run)
    best = maximum_margin(problem, "l1")
    assert 0.5 / best.objective < run.l1_margin <= 1 / best.objective * (1 + 1e-9)


def test_a_step_that_would_overflow_is_not_made():
    run = margin_descent(planted(5, 8), step=1.0, n_steps=10_000, alpha=1.0)
    assert not run.success and run.status == "overflow" and "give margin_end" in run.message
    assert np.isfinite(run.beta).all()
    identity(run)


def test_a_step_that_would_end_at_0_is_not_made():
    """Reference: v (1 - 2 eta z a) = 0 for eta = 1/2, z = 1, a = 1."""
    run = margin_descent(Classification([[1.0]], [1]), step=0.5, n_steps=3, alpha=1.0, normalized=True)
    assert run.status == "diverged" and "would take a weight to 0 exactly" in run.message and run.n_steps == 0


@pytest.mark.parametrize(("given", "error", "words"), [
    ({"step": 0.0}, ValueError, "step must be finite and above 0, got 0.0"),
    ({"step": lambda k: -1.0}, ValueError, r"step\(0\) must be finite and above 0, got -1.0"),
    ({"step": 0.1, "n_steps": 0}, ValueError, "n_steps must be a positive integer, got 0"),
    ({"step": 0.1, "save_at": [1, 11]}, ValueError, r"save_at\[1\] = 11: step numbers must increase, from 0 to n_steps = 10"),
    ({"step": 0.1, "save_at": [0.5]}, TypeError, "save_at must be a vector of step numbers"),
])
def test_bad_arguments_of_the_descent_are_refused(given, error, words):
    with pytest.raises(error, match=words):
        margin_descent(planted(3, 5), **{"n_steps": 10, "alpha": 1.0, **given})


def test_public_names():
    for name in ("Classification", "MarginResult", "MarginStatus", "MarginMaximizer", "Separation", "margin_flow",
                 "margin_descent", "maximum_margin"):
        assert name in dln.__all__ and hasattr(dln, name)
