"""Flows of depth D > 2: how a run is set up, and what its result says."""

import math
from dataclasses import dataclass

import numpy as np

from . import deep_potential
from ._jit import address, entry_point
from .flow import Integration
from .integrate import deep, deep_state, planning
from .integrate import state as st
from .network import initialize
from .result import FlowResult, Status
from .rules.base import BETA, UD, VD


@dataclass(frozen=True)
class DeepInitialization:
    """Initial weights at depth D > 2: as `dln.network.Initialization`, with ``alpha^(2-D) = (u0^(2-D) + v0^(2-D))/2``."""

    log_alpha: np.ndarray
    log_ratio: np.ndarray
    log_u: np.ndarray
    log_v: np.ndarray


def deep_initialize(n_features, depth, **given):
    """Check and broadcast an initialisation; arguments and errors as of `dln.network.initialize`."""
    start = initialize(n_features, **given)
    if given.get("initial_weights") is not None:
        log_u, log_v = start.log_u, start.log_v
        return DeepInitialization(deep_potential.scale_of(log_u, log_v, depth=depth), start.log_ratio, log_u, log_v)
    log_u, log_v = deep_potential.weights(start.log_ratio, log_alpha=start.log_alpha, depth=depth)
    return DeepInitialization(start.log_alpha, start.log_ratio, log_u, log_v)


@dataclass(frozen=True, repr=False, eq=False)
class DeepFlowResult(FlowResult):
    """The end of a trajectory at depth D > 2; see `FlowResult`.

    The effective initialisation is measured from the weights, as ``alpha_eff^(2-D) = (u^(2-D) + v^(2-D))/2``.
    """

    @property
    def log_effective_alpha(self):
        """Logarithm of the effective initialisation, measured from the weights, shape (d,)."""
        return deep_potential.scale_of(self.log_u, self.log_v, depth=self.depth)

    @property
    def center(self):
        """Bregman centre ``alpha_eff^D h(z0)``, shape (d,): the weights' ratio at the start, at the scale of the end."""
        if not self.log_ratio.any():
            return np.zeros_like(self.log_ratio)
        return deep_potential.predictor(self.log_ratio, log_alpha=self.log_effective_alpha, depth=self.depth)

    def __repr__(self):
        law = "" if self.exact_law else ", no exact law"
        return f"{super().__repr__()[:-1]}, depth={self.depth:g}{law})"


class DeepIntegration(Integration):
    """One run at depth D > 2, in the logarithms of the weights over those at the start."""

    def __init__(self, depth, problem, rule, start, *rest):
        if rule.deep_kernel is None:
            raise ValueError(f"{type(rule).__name__} is known at depth 2 only, got depth = {depth:g}")
        super().__init__(problem, rule, start, *rest)
        n, d = self.X.shape
        self.depth = depth
        self.origin = np.concatenate([start.log_u, start.log_v])
        self.powers = np.zeros((5, d))
        self.probe = np.ones(n)
        self.uneven = False
        self.clock = np.append(self.clock, 0.0)
        self.count = np.append(self.count, 0)

    def _lay_out(self, _):
        n, d = self.X.shape
        self.z, self.f, self.error = np.zeros((3, 2 * d))
        self.r = np.zeros(n)

    def _sleeps_at_first(self):
        return False  # plateaus are solved for at depth 2 only

    def _scales(self):
        start, k, s = self.start, self.depth - 2.0, self.settings
        top = self.depth * float(np.max(self.origin))
        if top > deep_state.LARGEST_LOG:
            raise ValueError(f"the initial weights overflow: u0^{self.depth:g} or v0^{self.depth:g} is above 1e130; give a "
                             f"smaller alpha")
        first = deep_potential.predictor(start.log_ratio, log_alpha=start.log_alpha, depth=self.depth)
        residual = self.X @ first - self.y
        self.scale = self.rows.target_norm
        if start.log_ratio.any():
            self.scale = max(self.scale, float(np.linalg.norm(residual)))
        g = np.abs(residual @ self.X) * self.c
        with np.errstate(divide="ignore"):
            fastest = float(np.max(np.log(np.tile(g, 2)) + k * self.origin))
        if fastest < -690.0 and g.any():
            raise ValueError(f"at depth {self.depth:g} this start takes a time of order alpha^(2-D), above all floats; give a "
                             f"larger alpha, or ask for the minimiser instead of the flow")
        beta_scale = self.rows.coordinate_scale
        log_scale = math.log(beta_scale) if beta_scale > 0.0 else -math.inf
        s[planning.RTOL] = self.rtol
        s[planning.RESIDUAL_TOL] = self.residual_tol
        s[planning.DORMANT] = log_scale + math.log(1e-8)
        # How large log(u/v) becomes at least, if beta is to reach its scale: small in the kernel regime.
        s[planning.KERNEL_RATIO] = math.exp(min(0.0, log_scale - top)) if beta_scale > 0.0 else 1.0
        s[planning.LOG_CEILING] = min(max(log_scale, top) + 100.0, deep_state.LARGEST_LOG)
        s[planning.CALM_STRETCH] = 10.0

    def _kernels(self):
        return entry_point(deep.advance), address(self.rule.deep_kernel), address(self.rule.deep_curvature)

    def _parameters(self, break_before):
        rows = super()._parameters(break_before)
        self.uneven |= self.rule.deep_law and bool(np.any(rows != rows[:, :1]))
        return rows

    def _call(self, kernels, params, attempts):
        kernel, rule_kernel, curvature = kernels
        if not self.rule.decays:  # elsewhere some weight always grows, however slowly
            self.settings[planning.STATIONARY_TOL] = -1.0
        return kernel(rule_kernel, curvature, self.methods[-1] == "rosenbrock", self.X, self.y, self.c, self.depth, self.origin,
                      self.z, self.f, self.powers, self.r, self.error, self.probe, self.clock, self.count, self.settings,
                      params, *self.tableau, not self.rule.time_dependent, attempts)

    def _weights(self):
        d = self.problem.n_features
        logs = self.origin + self.z
        top = self.depth * np.maximum(logs[:d], logs[d:])
        ratio = self.start.log_ratio + (self.z[:d] - self.z[d:])
        with np.errstate(under="ignore"):
            beta = np.sign(ratio) * np.exp(top) * -np.expm1(-self.depth * np.abs(ratio))
        return beta, logs[:d], logs[d:]

    def _residual_norm(self):
        return float(np.linalg.norm(self.r))

    def _keep(self):
        beta, log_u, log_v = self._weights()
        self.kept.append((self.clock[st.T], beta, log_u, log_v, self.problem.loss(beta)))

    def _integrals(self):
        """Return (dual, shrinkage), as far as the rule has them at this depth; else NaN."""
        n, d = self.X.shape
        if not self._law():
            return np.full(n, np.nan), np.full(d, np.nan)
        _, log_u, log_v = self._weights()
        log_alpha = deep_potential.scale_of(log_u, log_v, depth=self.depth)
        shrinkage = 0.5 * (self.start.log_alpha - log_alpha) if self.rule.shrinks else np.zeros(d)
        # z0 - z over k D alpha_eff^k; tanh a - tanh b = sinh(a - b)/(cosh a cosh b).
        k = self.depth - 2.0
        now = 0.5 * k * (self.start.log_ratio + (self.z[:d] - self.z[d:]))
        then = 0.5 * k * self.start.log_ratio
        step = 0.5 * k * (self.z[d:] - self.z[:d])
        exponent = np.abs(step) - deep_potential.log_cosh(now) - deep_potential.log_cosh(then) - k * log_alpha
        unit = float(np.max(exponent, initial=-np.inf))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            slopes = np.sign(step) * 0.5 * -np.expm1(-2.0 * np.abs(step)) * np.exp(exponent - unit) / (k * self.depth)
            return np.linalg.lstsq(self.X.T, slopes, rcond=None)[0] * np.exp(min(unit, 709.78)), shrinkage

    def _law(self):
        return self.rule.deep_law and not self.uneven

    def _error_estimate(self):
        d = self.problem.n_features
        e_u, e_v = self.error[:d], self.error[d:]
        moved = self.depth * (self.powers[UD] * e_u - self.powers[VD] * e_v)
        length = float(np.linalg.norm(self.powers[BETA]))
        of_beta = float(np.linalg.norm(moved)) / length if length > 0.0 else 0.0
        _, log_u, log_v = self._weights()
        share = 0.5 * (1.0 - np.tanh(0.5 * (self.depth - 2.0) * (log_u - log_v)))  # of u in u^(2-D) + v^(2-D)
        of_scale = float(np.max(np.abs(share * e_u + (1.0 - share) * e_v)))
        return max(of_beta, of_scale, self.rtol)

    def _verdict(self, reason, t, steps, residual, error):
        law = "" if self._law() else f"; {self._law_words()}"
        if reason == deep.CROSSED:
            return Status.DIVERGED, (f"the ascent step takes a weight through 0 at t = {t:.6g}, where "
                                     f"u^{self.depth:g} is not defined; give a smaller step, or an integer depth{law}")
        status, message = super()._verdict(reason, t, steps, residual, error)
        return status, message + law

    def _law_words(self):
        if self.rule.deep_law:
            return f"uneven decay keeps no exact law at depth {self.depth:g}"
        return f"{type(self.rule).__name__} keeps no exact law at depth {self.depth:g}"

    def _result(self, reason, kind=DeepFlowResult, **more):
        return super()._result(reason, kind, depth=self.depth, exact_law=self._law(), **more)
