"""T13 and T14: stochastic gradient descent, and noise on the labels: on every path, and in the limit of small steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from . import _discrete as discrete
from ._discrete import DiscreteLaw, StepPair
from ._exact import center_of
from ._fields import gradient_flow
from ._minimiser import minimise_divergence
from ._network import Array, Network
from ._noise_steps import derive_label_noise, derive_sgd
from ._raw_descent import Field, constant
from ._raw_route import RouteError, integrate
from ._registry import GENERIC, Finding, Mutant, Theorem
from ._sde_route import Model, in_logarithms, in_weights, rate_of
from ._setting import Data, Setting, default_data

__all__ = ["THEOREMS"]

SEED = 11
COUNTS = (1, 8, 30, 80)

#: Larger data take part in the laws of paths only: ensembles of them are too dear.
MOST_SAMPLES = 10

#: As other limits, that of small steps is measured on the first of the default problems only.
_NOT_IN_LIMITS = {data.name for data in default_data()[GENERIC:]}

#: Steps of a path of the flow, and its time, in units of the time in which the loss falls by a half.
N_STEPS, LENGTH = 400, 3.0

#: Time steps of Euler and Maruyama in weights, each a quarter of the one before, and by how much the error must fall: by 2
#: where it is that of the noise, of order 1/2, and by 4 where it is that of the drift. The noise is stronger by STRONGER.
FINEST, LEVELS, LEAST_FALL_IN_WEIGHTS, N_PATHS, STRONGER = 4096, 4, 1.3, 12, 8

#: Step sizes of real SGD, each a quarter of the one before; the distance to the limit must fall by so much every time.
COARSEST, SCALES, LEAST_FALL, N_RUNS = 12, 4, 1.4, 400


def unit_of_time(setting: Setting) -> float:
    """Give the time in which gradient flow halves the loss."""
    return float(setting.times((0.5,))[0])


# --- every sample path of discrete steps -------------------------------------------------------------------------------


@cache
def _draws(n_samples: int, batch: int | None, sampling: str, delta: float) -> list[tuple[Array, Array]]:
    """Give the samples and the noise that the library draws for the seed: which path is looked at."""
    from dln.integrate.batches import Batches

    stream = Batches(n_samples, batch, sampling, delta, np.random.default_rng(SEED))
    return [stream.draw(k, 1) for k in range(COUNTS[-1] + 1)]


def sampled(setting: Setting, batch: int | None, sampling: str, delta: float) -> tuple[Field, StepPair]:
    """Give the velocity of a step in raw weights, and its pair: the gradient of the loss of its batch."""
    data = setting.data
    networks = []
    for indices, noise in _draws(data.X.shape[0], batch, sampling, delta):
        rows = indices[0] if indices.size else np.arange(data.X.shape[0])
        networks.append(Network(data.X[rows], data.y[rows] + (noise[0] if noise.size else 0.0)))

    def velocity(k: int, t: float, u: Array, v: Array) -> tuple[Array, Array]:
        gu, gv = networks[k].gradient(u, v)
        return -gu, -gv

    return velocity, lambda k, t, u, v: (networks[k].beta_gradient(u, v), np.zeros_like(u))


def sample_paths(setting: Setting, delta: float) -> list[DiscreteLaw]:
    """Check the law of T11 on paths of SGD: batches of one and of two, with and without replacement."""
    step = 0.02 / (setting.sample_gradient_unit + delta * float(np.max(np.abs(setting.data.X))))
    kinds: list[tuple[str, int | None, str]] = [("batch 1", 1, "replacement"), ("batch 2, reshuffled", 2, "epochs")]
    if delta:
        kinds = [("batch 1, noisy labels", 1, "replacement"), ("full batch, noisy labels", None, "replacement")]
    laws = []
    for name, batch, sampling in kinds:
        velocity, pair = sampled(setting, batch, sampling, delta)
        engine = discrete.library(lambda dln: dln.GradientFlow(), batch_size=batch, sampling=sampling, label_noise=delta,
                                  rng=SEED)
        laws.append(DiscreteLaw(f"paths of descent, {name}", engine, velocity, pair, setting.alpha, setting.log_ratio, COUNTS,
                                constant(step), shrinks=False))
    return laws


# --- paths of the stochastic flow --------------------------------------------------------------------------------------


def increments(n_samples: int, seed: int) -> Array:
    """Give the normal numbers of a path, (K, N), for the longest that is needed: a shorter one has the first of them."""
    from dln.integrate.stochastic import increments as draw

    return np.asarray(draw(max(FINEST, N_STEPS), n_samples, seed))


#: `(data, alpha, log_ratio, model, eta, end, n_steps, method, seed) -> beta and log alpha_eff`.
PathEngine = Callable[[Data, Array, Array, Model, float, float, int, str, int], tuple[Array, Array]]


def library_path(data: Data, alpha: Array, log_ratio: Array, model: Model, eta: float, end: float, n_steps: int, method: str,
                 seed: int) -> tuple[Array, Array]:
    """Integrate a path with the library's `stochastic_flow`."""
    import dln

    run = dln.stochastic_flow(dln.Problem(data.X, data.y), step=eta, t_end=end, dt=end / n_steps, batch_size=model.batch,
                              noise="isotropic" if model.isotropic else "samples", label_noise=model.delta, alpha=alpha,
                              log_ratio=log_ratio, rng=seed, method=method)
    if not run.success or run.n_steps != n_steps:
        raise RouteError(f"the engine stopped after {run.n_steps} time steps of {n_steps}: {run.message}")
    return np.asarray(run.beta), np.asarray(run.log_effective_alpha)


def _spoilt(change: Callable[[Model], Model] = lambda model: model, of_eta: float = 1.0) -> PathEngine:
    """Make an engine of another model of the noise."""

    def engine(data: Data, alpha: Array, log_ratio: Array, model: Model, eta: float, end: float, n_steps: int, method: str,
               seed: int) -> tuple[Array, Array]:
        return library_path(data, alpha, log_ratio, change(model), of_eta * eta, end, n_steps, method, seed)

    return engine


@dataclass(frozen=True)
class PathLaw:
    """The law of a stochastic flow on one path: `alpha_eff = alpha exp(-eta int rate)`, rate by the theorem.

    Attributes
    ----------
    name : str
    model : Model
        The noise, of both routes.
    eta, end : float
    claimed : Model
        The noise whose rate is claimed.
    factor : float
        Of the exponent.
    center : callable
        The claim `(log alpha_eff, log_ratio) -> centre`.
    engine : PathEngine
    """

    name: str
    model: Model
    eta: float
    end: float
    claimed: Model
    factor: float = 1.0
    center: Callable[[Array, Array], Array] = field(default=center_of)
    engine: PathEngine = library_path

    def measure(self, setting: Setting) -> Finding:
        """Compare the engine with the raw route, the claim with its weights, and the minimiser with its predictor."""
        net, half = setting.net, setting.log_ratio / 2
        xi = increments(net.n_samples, SEED)[:N_STEPS]
        start, dt = np.log(setting.alpha), self.end / N_STEPS
        log_u, log_v, _ = in_logarithms(net, self.model, self.eta, dt, start + half, start - half, xi)
        claimed = start - self.factor * self.eta * self._integral(net, setting, xi, dt)
        truth = 2 * np.exp(log_u + log_v) * np.sinh(log_u - log_v)
        beta, log_scale = self.engine(setting.data, setting.alpha, setting.log_ratio, self.model, self.eta, self.end, N_STEPS,
                                      "euler", SEED)
        least = minimise_divergence(net.X, net.X @ truth, claimed, self.center(claimed, setting.log_ratio)).beta
        size = float(np.max(np.abs(truth)))
        found: dict[str, Any] = {
            "engine_beta": float(np.max(np.abs(beta - truth))) / size,
            "engine_scale": float(np.max(np.abs(log_scale - (log_u + log_v) / 2))),
            "law": float(np.max(np.abs(claimed - (log_u + log_v) / 2))),
            "argmin": float(np.max(np.abs(least - truth))) / size,
        }
        worst = max(found.values()) if np.all(np.isfinite(list(found.values()))) else float("inf")
        found["mean_log_scale_change"] = float(np.mean((log_u + log_v) / 2 - start))
        return Finding(worst, discrete.TOLERANCE, worst <= discrete.TOLERANCE, found)

    def _integral(self, net: Network, setting: Setting, xi: Array, dt: float) -> Array:
        """Integrate the claimed rate along the path, step by step."""
        half = setting.log_ratio / 2
        log_u, log_v = np.log(setting.alpha) + half, np.log(setting.alpha) - half
        total = np.zeros_like(log_u)
        for numbers in xi:
            total = total + dt * rate_of(net, self.claimed, np.exp(log_u), np.exp(log_v))
            log_u, log_v, _ = in_logarithms(net, self.model, self.eta, dt, log_u, log_v, numbers[None])
        return total


@dataclass(frozen=True)
class InWeights:
    """Euler and Maruyama in the weights tend to the same paths, which know of no logarithm and of no correction.

    Attributes
    ----------
    name : str
    model : Model
    eta, end : float
    engine : PathEngine
    """

    name: str
    model: Model
    eta: float
    end: float
    engine: PathEngine = library_path

    def measure(self, setting: Setting) -> Finding:
        """Measure the mean distance over some paths, at finer and finer time steps in the weights."""
        net, data = setting.net, setting.data
        xi = np.stack([increments(net.n_samples, seed)[:FINEST] for seed in range(N_PATHS)], axis=1)
        betas, scales = (np.array(column) for column in zip(*(
            self.engine(data, setting.alpha, setting.log_ratio, self.model, self.eta, self.end, FINEST, "heun", seed)
            for seed in range(N_PATHS)), strict=True))
        distances = []
        for level in reversed(range(1, LEVELS + 1)):  # the engine's own steps are finer still
            merged = 4**level  # of one Brownian path: sums of neighbouring increments
            coarse = xi.reshape(FINEST // merged, merged, *xi.shape[1:]).sum(axis=1) / np.sqrt(merged)
            u, v = (w + np.zeros((N_PATHS, 1)) for w in setting.weights())
            u, v = in_weights(net, self.model, self.eta, self.end * merged / FINEST, u, v, coarse)
            far = np.abs(net.predictor(u, v) - betas).max(axis=-1) / np.abs(betas).max()
            with np.errstate(invalid="ignore", divide="ignore"):
                far = far + np.abs(np.log(np.abs(u * v)) / 2 - scales).max(axis=-1)
            distances.append(float(np.mean(far)))
        return falling(distances, LEAST_FALL_IN_WEIGHTS)


def falling(distances: list[float], least: float) -> Finding:
    """Demand that distances fall by a factor at every scale."""
    ratios = [after / before for before, after in pairwise(distances)]
    worst = float(np.max(ratios)) if np.all(np.isfinite(ratios)) else float("inf")
    return Finding(worst, 1 / least, worst <= 1 / least, {"distances": distances, "ratios": ratios, "claimed_fall": least})


# --- real SGD with small steps -----------------------------------------------------------------------------------------


#: `(data, alpha, log_ratio, model, eta, n_steps) -> mean of log alpha_eff over N_RUNS runs, (d,)`.
Ensemble = Callable[[Data, Array, Array, Model, float, int], Array]


def library_ensemble(data: Data, alpha: Array, log_ratio: Array, model: Model, eta: float, n_steps: int) -> Array:
    """Train with the library's `descend`, once for each seed."""
    import dln

    problem = dln.Problem(data.X, data.y)
    runs = [dln.descend(problem, step=eta, n_steps=n_steps, alpha=alpha, log_ratio=log_ratio, batch_size=model.batch,
                        label_noise=model.delta, rng=seed, residual_tol=None) for seed in range(N_RUNS)]
    return np.mean([run.log_effective_alpha for run in runs], axis=0)


def raw_ensemble(data: Data, alpha: Array, log_ratio: Array, model: Model, eta: float, n_steps: int) -> Array:
    """Train in raw weights, all runs at once, on samples drawn here."""
    rng = np.random.default_rng(5)
    u, v = (np.tile(alpha * np.exp(sign * log_ratio / 2), (N_RUNS, 1)) for sign in (1, -1))
    for _ in range(n_steps):
        rows = rng.integers(0, len(data.y), (N_RUNS, model.batch))
        X, y = data.X[rows], data.y[rows] + model.delta * rng.standard_normal(rows.shape)
        residual = np.einsum("rbd,rd->rb", X, u * u - v * v) - y
        g = np.einsum("rbd,rb->rd", X, residual) / (2 * model.batch)
        u, v = u - 2 * eta * u * g, v + 2 * eta * v * g
    return np.mean(np.log(np.abs(u * v)) / 2, axis=0)


@dataclass(frozen=True)
class SmallSteps:
    """The limit of real SGD: the mean of log(alpha_eff/alpha)/eta at a fixed time tends to `-int rate` along gradient flow.

    Attributes
    ----------
    name : str
    model : Model
    end : float
    claimed : Model
        The noise whose rate is claimed.
    factor : float
    engine : Ensemble
    """

    name: str
    model: Model
    end: float
    claimed: Model
    factor: float = 1.0
    engine: Ensemble = library_ensemble

    def measure(self, setting: Setting) -> Finding:
        """Measure the distance to the limit at smaller and smaller steps, by both routes."""
        net, data = setting.net, setting.data
        flow = integrate(gradient_flow(net), *setting.weights(), np.array([self.end]),
                         lambda t, u, v: (rate_of(net, self.claimed, u, v),))
        limit = -self.factor * flow.integrals[0, 0]
        found = {}
        for name, route in (("raw", raw_ensemble), ("engine", self.engine)):
            distances = []
            for scale in range(SCALES):
                n_steps = COARSEST * 4**scale
                eta = self.end / n_steps
                change = (route(data, setting.alpha, setting.log_ratio, self.model, eta, n_steps) - np.log(setting.alpha)) / eta
                size = max(float(np.linalg.norm(limit)), float(np.linalg.norm(change)))
                distances.append(float(np.linalg.norm(change - limit)) / size)
            found[name] = falling(distances, LEAST_FALL)
        worst = max(found.values(), key=lambda finding: finding.discrepancy)
        return Finding(worst.discrepancy, worst.tolerance, all(finding.passed for finding in found.values()),
                       {"claimed_fall": LEAST_FALL} | {name: finding.details for name, finding in found.items()})


# --- the theorems ------------------------------------------------------------------------------------------------------


def _flows(setting: Setting, models: dict[str, Model]) -> list[PathLaw | InWeights | SmallSteps]:
    end = LENGTH * unit_of_time(setting)
    eta = 0.02 * end / max(1.0, end * setting.sample_gradient_unit)
    parts: list[PathLaw | InWeights | SmallSteps] = [
        PathLaw(f"stochastic flow, {name}", model, eta, end, model) for name, model in models.items()]
    if setting.data.X.shape[0] <= MOST_SAMPLES:
        parts += [InWeights(f"stochastic flow in weights, {name}", model, STRONGER * eta, end)
                  for name, model in models.items()]
    if 1 < setting.data.X.shape[0] <= MOST_SAMPLES and setting.data.name not in _NOT_IN_LIMITS:
        parts += [SmallSteps(f"small steps, {name}", model, end, model) for name, model in models.items()
                  if not model.isotropic]
    return parts


def sgd_parts(setting: Setting) -> list[Any]:
    """Check T13: paths of descent, paths of the flow, and the limit of small steps."""
    models = {"batch 1": Model(), "batch 2": Model(batch=2), "isotropic model": Model(isotropic=True)}
    return [*sample_paths(setting, 0.0), *_flows(setting, models)]


def _label_noise(setting: Setting) -> float:
    return 0.5 * float(np.sqrt(np.mean(setting.data.y**2)))


def label_parts(setting: Setting) -> list[Any]:
    """Check T14: the same with noise on the labels."""
    delta = _label_noise(setting)
    return [*sample_paths(setting, delta), *_flows(setting, {"noisy labels": Model(delta=delta)})]


def _claims(change: Callable[[Model], Model]) -> Mutant:
    """Claim the rate of another noise, where that is another."""

    def spoil(part: Any, setting: Setting) -> Any:
        if not isinstance(part, (PathLaw, SmallSteps)) or change(part.claimed) == part.claimed:
            return None
        return replace(part, claimed=change(part.claimed))

    return spoil


def _factor(factor: float) -> Mutant:
    return lambda part, setting: replace(part, factor=factor) if isinstance(part, (PathLaw, SmallSteps)) else None


def _path(**options: Any) -> Mutant:
    return lambda part, setting: replace(part, **options) if isinstance(part, PathLaw) else None


def _isotropic(model: Model) -> Model:
    return replace(model, isotropic=True)


def _uncorrected(data: Data, alpha: Array, log_ratio: Array, model: Model, eta: float, end: float, n_steps: int, method: str,
                 seed: int) -> tuple[Array, Array]:
    """Leave Ito's correction out."""
    net, log_u, log_v = Network(data.X, data.y), np.log(alpha) + log_ratio / 2, np.log(alpha) - log_ratio / 2
    for numbers in increments(net.n_samples, seed)[:n_steps]:
        log_u, log_v, shrunk = in_logarithms(net, model, eta, end / n_steps, log_u, log_v, numbers[None])
        log_u, log_v = log_u + eta * shrunk, log_v + eta * shrunk
    return 2 * np.exp(log_u + log_v) * np.sinh(log_u - log_v), (log_u + log_v) / 2


def _engine(engine: PathEngine) -> Mutant:
    return lambda part, setting: replace(part, engine=engine) if isinstance(part, (PathLaw, InWeights)) else None


COMMON: dict[str, Mutant] = {
    **discrete.mutants(**{name: discrete.COMMON_MUTANTS[name] for name in (
        "centre dropped", "centre of a flow", "logarithm of second order", "factor of eta p in S halved", "p off by 1 percent",
        "engine: steps off by 1 in a million")}),
    "constant doubled": _factor(2.0),
    "constant halved": _factor(0.5),
    "alpha_eff is alpha": _factor(0.0),
    "centre of a flow dropped": _path(center=lambda log_scale, log_ratio: np.zeros_like(log_scale)),
    "engine: no Ito correction": _engine(_uncorrected),
    "engine: noise off by 1 percent": lambda part, setting: (
        replace(part, engine=_spoilt(of_eta=1.01)) if isinstance(part, PathLaw) else None),
}

THEOREMS = (
    Theorem(
        key="T13",
        title="Stochastic gradient descent",
        statement="alpha_eff = alpha exp(-(eta/2N) int sum_i x_ij^2 r_i^2) on every path of the flow (batch B: "
                  "exp(-2 eta int [mean_i g_ij^2/B + (1 - 1/B) g_j^2])); the discrete law on every sample path",
        source='Pesme et al. 2021, "Implicit bias of SGD for diagonal linear networks"; Even et al. 2023',
        kind="exact",
        tolerance=discrete.TOLERANCE,
        derive=derive_sgd,
        parts=sgd_parts,
        mutants=COMMON | {
            "isotropic model for real noise": _claims(_isotropic),
            "batch size left out": _claims(lambda model: replace(model, batch=1)),
            "engine: isotropic noise": lambda part, setting: replace(part, engine=_spoilt(_isotropic)) if (
                isinstance(part, PathLaw) and not part.model.isotropic and setting.data.X.shape[0] > 1) else None,
        },
    ),
    Theorem(
        key="T14",
        title="Noise on the labels",
        statement="noise of standard deviation delta on the labels adds delta^2 to every r_i^2 of T13: L -> L + delta^2/4; "
                  "alpha_eff falls for ever",
        source='Pesme et al. 2021, "Implicit bias of SGD for diagonal linear networks"',
        kind="exact",
        tolerance=discrete.TOLERANCE,
        derive=derive_label_noise,
        parts=label_parts,
        mutants=COMMON | {
            "no term of the labels": _claims(lambda model: replace(model, delta=0.0)),
            "delta for delta^2": _claims(lambda model: replace(model, delta=float(np.sqrt(model.delta)))),
            "L + delta^2/2": _claims(lambda model: replace(model, delta=float(np.sqrt(2)) * model.delta)),
            "engine: no noise on the labels": _engine(_spoilt(lambda model: replace(model, delta=0.0))),
        },
    ),
)
