"""Stochastic flows: against raw weights, exact laws, closed forms, convergence orders and discrete SGD."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dln
from dln.integrate.stochastic import Increments, increments

PROBLEM = dln.sparse_regression(8, 14, 2, rng=3)
ETA = 0.04
ALPHA = np.linspace(0.2, 0.5, 14)
NOISES = {
    "samples": {},
    "batch": {"batch_size": 3},
    "centered": {"batch_size": 3, "centered": True},
    "centered with labels": {"centered": True, "label_noise": 0.2},
    "samples and labels": {"label_noise": 0.2},
    "isotropic": {"noise": "isotropic", "batch_size": 2, "label_noise": 0.1},
    "labels": {"noise": "labels", "batch_size": 2, "label_noise": 0.3},
}
RULES = {
    "gradient flow": None,
    "gr": dln.GradientRegularization(0.05, 0.1),
    "sam": dln.SAM(0.05, per_sample=True),
    "decay": dln.WeightDecay(lambda t: 0.01 * math.exp(-t)),
}


def train(rule=None, problem=PROBLEM, **options):
    given = {"step": ETA, "t_end": 4.0, "rng": 5} | options
    if not {"alpha", "log_alpha", "initial_weights"} & set(given):
        given["alpha"] = ALPHA
    return dln.stochastic_flow(problem, rule, **given)


def raw_weights(xi, dt, *, exponential, noise="samples", batch_size=1, label_noise=0.0, centered=False):
    """Steps of the SDE of u and v themselves, with the gradients of single samples and their covariance written out.

    Euler's, which knows nothing of Ito's correction; or `exponential`, the exact solution at frozen coefficients.
    """
    X, y = PROBLEM.X, PROBLEM.y
    n = len(y)
    u, v = np.array(ALPHA), np.array(ALPHA)
    for row in xi:
        r = X @ (u * u - v * v) - y
        gradients, labels = X * r[:, None] / 2, X * label_noise / 2
        g = gradients.mean(axis=0)
        drift = np.zeros_like(g)  # of u v, beside Ito's
        if noise == "samples":
            drift = (1 - 1 / batch_size) * g * g
            if centered:
                drift = drift + g * g / batch_size
                factor = (gradients - g).T  # (d, N): the covariance is factor factor^T / (B N)
                factor = np.hstack([factor, labels.T]) if label_noise else factor
            else:
                factor = (X * (np.sqrt(r * r + label_noise**2) if label_noise else r)[:, None] / 2).T
        elif noise == "isotropic":
            factor = X.T * math.sqrt((r @ r / n + label_noise**2) / 4)
        else:
            factor = labels.T
        factor = factor / math.sqrt(batch_size * n)
        move = g * dt + math.sqrt(ETA * dt) * (factor @ row)
        shrink = ETA * drift * dt
        if exponential:
            ito = ETA * (factor**2).sum(axis=1) * dt
            u, v = u * np.exp(-2 * (move + shrink + ito)), v * np.exp(2 * (move - shrink - ito))
        else:
            u, v = u * (1 - 2 * (move + shrink)), v * (1 + 2 * (move - shrink))
    return np.concatenate([np.log(u), np.log(v)])


def width(options):
    return 16 if options.get("centered") and options.get("label_noise") else 8


@pytest.mark.parametrize("name", NOISES)
def test_euler_steps_are_those_of_raw_weights(name):
    options = NOISES[name]
    run = train(method="euler", **options)
    raw = raw_weights(increments(100, width(options), 5), ETA, exponential=True, **options)
    np.testing.assert_allclose(np.concatenate([run.log_u, run.log_v]), raw, rtol=1e-11)


@pytest.mark.parametrize("name", ["samples", "centered with labels", "isotropic"])
def test_the_path_is_that_of_euler_in_raw_weights(name):
    # Without Ito's correction, or with one too large, the two would stay apart: they meet with order 1/2.
    options, sizes = NOISES[name], 0.08 / 4.0 ** np.arange(4)
    squares = np.zeros(4)
    for seed in range(12):
        for k, fine in enumerate((64, 16, 4, 1)):
            run = train(dt=sizes[k], t_end=2.0, rng=Increments(width(options), seed, fine), **options)
            xi = increments(round(2.0 / sizes[k]), width(options), seed, fine)
            raw = raw_weights(xi, sizes[k], exponential=False, **options)
            squares[k] += np.square(np.concatenate([run.log_u, run.log_v]) - raw).mean()
    assert 0.4 < 0.5 * np.polyfit(np.log(sizes), np.log(squares), 1)[0] < 1.2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NOISES)
def test_the_minimiser_at_every_time(name, rule):
    # The theorem: argmin of the divergence subject to X b = X beta(t), on every path; the solver is independent.
    run = train(RULES[rule], log_ratio=0.3, **NOISES[name])
    assert run.success, run.message
    assert abs(run.beta - dln.predict(run, at_time=True).beta).max() <= 1e-10 * abs(run.beta).max()
    np.testing.assert_allclose(run.log_u - run.log_v, 0.3 - 4 * run.dual @ PROBLEM.X, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("delta", [0.0, 0.3])
def test_effective_initialisation_of_sampling_noise(batch_size, centered, delta):
    # exp(-2 eta int [mean g_i^2 / B + (1 - 1/B) g^2]), mean r^2 raised by delta^2.
    run = train(batch_size=batch_size, centered=centered, label_noise=delta)
    of_samples = (PROBLEM.X**2).T @ (run.square_residuals + delta**2 * run.t) / (4 * 8)
    law = np.log(ALPHA) - 2 * ETA * (of_samples / batch_size + (1 - 1 / batch_size) * run.square_gradients)
    np.testing.assert_allclose(run.log_effective_alpha, law, rtol=1e-13)
    np.testing.assert_allclose(0.5 * (run.log_u + run.log_v), law, rtol=1e-13)


def integrals(method, dt, fine):
    run = train(save_at=np.arange(round(4 / dt) + 1) * dt, dt=dt, method=method, rng=Increments(8, 2, fine))
    r = run.betas @ PROBLEM.X.T - PROBLEM.y
    np.testing.assert_allclose(run.losses, (r**2).sum(axis=1) / 32, rtol=1e-12)
    return run, r**2, (r @ PROBLEM.X / 16) ** 2


def test_the_integrals_of_euler_are_sums_over_the_trajectory():
    run, squares, gradients = integrals("euler", ETA, 1)
    np.testing.assert_allclose(ETA * squares[:-1].sum(axis=0), run.square_residuals, rtol=1e-12)
    np.testing.assert_allclose(ETA * gradients[:-1].sum(axis=0), run.square_gradients, rtol=1e-12)


def test_the_integrals_of_heun_tend_to_those_of_the_trajectory():
    # Its right ends are those of the predictor, off by the noise of a drift: order 1 in dt.
    errors = []
    for fine in (16, 4, 1):
        run, squares, _ = integrals("heun", 0.005 * fine, fine)
        errors.append(abs(np.trapezoid(squares, run.times, axis=0) - run.square_residuals).max())
    assert np.polyfit(np.log([0.08, 0.02, 0.005]), np.log(errors), 1)[0] > 0.8


def test_isotropic_noise_shrinks_by_the_columns():
    run = train(noise="isotropic", label_noise=0.2)
    loss = run.square_residuals.sum() / (4 * 8)
    law = ETA * (PROBLEM.X**2).mean(axis=0) * (loss + 0.01 * run.t)
    np.testing.assert_allclose(run.noise_shrinkage, law, rtol=1e-13)


def test_label_noise_on_one_weight_has_a_closed_form():
    # X = 1, delta^2 = 4, no drift but the noise's own at y = beta: log(uv) falls by exactly 4 eta t whatever the path.
    run = train(problem=dln.Problem([[1.0]], [0.0]), alpha=1e-9, noise="labels", label_noise=2.0, t_end=3.0)
    assert run.noise_shrinkage[0] == pytest.approx(ETA * 3.0, rel=1e-13)
    # beta is of order alpha^2, so nothing but Brownian motion moves the dual: nu = sqrt(eta) B.
    path = increments(75, 1, 5).sum() * math.sqrt(ETA)
    assert run.dual[0] == pytest.approx(math.sqrt(ETA) * path, rel=1e-9)


def test_rules_keep_their_own_shrinkage():
    run = train(dln.WeightDecay(0.02))
    np.testing.assert_allclose(run.shrinkage - run.noise_shrinkage, 0.02 * 4.0, rtol=1e-12)


def test_a_rule_that_changes_in_time_is_integrated_at_both_ends():
    run = train(RULES["decay"], dt=0.01)
    # Trapezoidal rule: relative error dt^2/12.
    np.testing.assert_allclose(run.shrinkage - run.noise_shrinkage, 0.01 * (1 - math.exp(-4.0)), rtol=1e-5)


@pytest.mark.parametrize("method", ["heun", "euler"])
def test_strong_order_one_half_on_a_common_path(method):
    # Root mean square over eight paths against a grid 16 times finer: at least 1/2, more while the drift's error rules.
    factors, finest = [16, 32, 64, 128], 2.0**-12
    squares = np.zeros(len(factors))
    for seed in range(8):
        fine = train(dt=finest, t_end=1.0, rng=Increments(8, seed), method=method, step=0.5)
        for k, m in enumerate(factors):
            run = train(dt=finest * m, t_end=1.0, rng=Increments(8, seed, coarsen=m), method=method, step=0.5)
            squares[k] += np.square(run.log_u - fine.log_u).mean()
    slope = 0.5 * np.polyfit(np.log(factors), np.log(squares), 1)[0]
    assert slope > 0.4


@pytest.mark.parametrize("method, order", [("heun", 2.0), ("euler", 1.0)])
def test_order_of_the_drift_without_noise(method, order):
    # With step 0 the flow is a differential equation: the reference is `dln.flow` at tight tolerance.
    exact = dln.flow(PROBLEM, alpha=ALPHA, t_end=4.0, rtol=1e-11)
    sizes = np.array([0.1, 0.05, 0.025, 0.0125])
    errors = [abs(train(step=0.0, dt=dt, method=method).log_u - exact.log_u).max() for dt in sizes]
    assert np.polyfit(np.log(sizes), np.log(errors), 1)[0] == pytest.approx(order, abs=0.15)


def test_small_noise_tends_to_the_flow_of_the_rule_in_raw_weights():
    X, y, d = PROBLEM.X, PROBLEM.y, 14

    def velocity(t, theta):
        g = X.T @ (X @ (theta[:d] ** 2 - theta[d:] ** 2) - y) / 16
        return np.concatenate([-2 * theta[:d] * g, 2 * theta[d:] * g])

    theta = solve_ivp(velocity, (0, 4), np.tile(ALPHA, 2), rtol=1e-11, atol=1e-13).y[:, -1]
    etas = np.array([1e-4, 1e-5, 1e-6])
    errors = [abs(train(step=eta, dt=0.002).log_u - np.log(theta[:d])).max() for eta in etas]
    # Slope 1/2 in eta: the noise is of size sqrt(eta).
    assert np.polyfit(np.log(etas), np.log(errors), 1)[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", ["samples", "centered", "samples and labels"])
def test_saving_changes_no_bit(name):
    plain, saved = train(**NOISES[name]), train(save_at=[0.0, 0.17, 1.0, 4.0], **NOISES[name])
    np.testing.assert_array_equal(plain.log_u, saved.log_u)
    np.testing.assert_array_equal(plain.log_effective_alpha, saved.log_effective_alpha)
    np.testing.assert_array_equal(saved.log_us[-1], saved.log_u)
    np.testing.assert_allclose(saved.times, [0.0, 0.16, 1.0, 4.0], rtol=1e-14)
    assert saved.losses[-1] == saved.loss


def test_blocks_of_numbers_are_those_of_the_seed():
    # More steps than a block of numbers has: the sum of the numbers is what the dual of pure noise holds.
    problem = dln.Problem([[1.0]], [0.0])
    run = train(problem=problem, alpha=1e-30, noise="labels", label_noise=1.0, dt=1e-3, t_end=10.0, save_at=[0.3, 5.0, 9.0])
    assert run.n_steps == 10_000 > Increments(1).block
    assert run.dual[0] == pytest.approx(increments(10_000, 1, 5).sum() * math.sqrt(ETA * 1e-3) / 2, rel=1e-11)


def test_coarse_increments_are_sums_of_fine_ones():
    fine, coarse = increments(12_000, 3, 7), increments(3_000, 3, 7, coarsen=4)
    np.testing.assert_allclose(coarse, fine.reshape(3_000, 4, 3).sum(axis=1) / 2, rtol=1e-12, atol=1e-14)


def test_increments_go_forward():
    stream = Increments(2, 0)
    stream.draw(stream.block, 3)
    with pytest.raises(ValueError, match="goes forward"):
        stream.draw(0, 1)
    with pytest.raises(ValueError, match="within blocks"):
        stream.draw(stream.block + 1, stream.block)


def test_the_smallest_scale_keeps_its_law():
    # alpha = exp(-1e6): no weight is a float, and the law holds to rounding of 1e6.
    run = train(log_alpha=-1e6, t_end=4e4, dt=0.5, step=0.05)
    assert run.success
    law = 2 * 0.05 * (PROBLEM.X**2).T @ run.square_residuals / 32
    np.testing.assert_allclose(-1e6 - run.log_effective_alpha, law, atol=1e-9)
    assert law.min() > 1.0


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_units_of_the_data(factor):
    # X, y times c: t and eta divided by c^2 (and r^2 eta dt c^4/c^4) leave every path in log weights as it is.
    scaled = dln.Problem(PROBLEM.X * factor, PROBLEM.y * factor)
    plain, other = train(dt=0.02), train(problem=scaled, dt=0.02 / factor**2, t_end=4.0 / factor**2, step=ETA / factor**2)
    assert other.success, other.message
    np.testing.assert_allclose(other.log_u, plain.log_u, rtol=1e-9)


@pytest.mark.parametrize("name", NOISES)
def test_degenerate_data(name, degenerate):
    label, X, y = degenerate
    size = max(abs(X).max(), 1e-300)
    scaled = NOISES[name] | ({"label_noise": NOISES[name]["label_noise"] * size} if "label_noise" in NOISES[name] else {})
    run = train(problem=dln.Problem(X, y), alpha=0.3, step=0.01 / size**2, t_end=0.5 / size**2, **scaled)
    assert run.success, (label, run.message)
    assert np.isfinite(run.log_u).all()
    assert abs(run.beta - dln.predict(run, at_time=True).beta).max() <= 1e-9


def test_too_long_steps_are_reported():
    run = train(dt=1.0, step=0.01, t_end=200.0, alpha=1.0)
    assert not run.success
    assert run.status in (dln.Status.INACCURATE, dln.Status.DIVERGED)
    assert "dt" in run.message


def test_too_strong_noise_is_reported():
    run = train(step=1e6, dt=1e-3, t_end=0.05)
    assert run.status in (dln.Status.INACCURATE, dln.Status.DIVERGED)
    assert not run.success


def test_no_time_is_no_step():
    run = train(t_end=0.0, save_at=[0.0])
    assert run.success
    assert run.n_steps == 0
    np.testing.assert_allclose(run.log_u, np.log(ALPHA), rtol=1e-14)


@pytest.mark.parametrize("options, message", [
    ({"noise": "sample"}, "did you mean 'samples'"),
    ({"noise": "labels"}, "needs label_noise"),
    ({"noise": "isotropic", "centered": True}, "centered belongs to"),
    ({"step": -1.0}, "step must be finite and at least 0"),
    ({"step": 0.0}, "dt must be given"),
    ({"dt": 0.0}, "dt must be finite and above 0"),
    ({"dt": 1e-300}, "give a larger dt"),
    ({"t_end": math.inf}, "t_end must be finite"),
    ({"batch_size": 0}, "batch_size must be a positive integer"),
    ({"label_noise": -0.1}, "label_noise must be finite and at least 0"),
    ({"method": "milstein"}, "method"),
    ({"rng": Increments(3, 0)}, "width 8"),
    ({"save_at": [5.0]}, "beyond t_end"),
    ({"rule": dln.Flooding(0.1)}, "use dln.descend"),
])
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)
