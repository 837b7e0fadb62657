"""T21: two classes, exponential or logistic loss: multipliers that grow, and margins between l2 and l1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import lstsq

from ._classification_steps import derive_classification
from ._exact import TOLERANCE, center_of, distance, largest
from ._margin_limits import MARGIN_MUTANTS, margin_limits
from ._minimiser import minimise_divergence
from ._network import Array
from ._raw_route import RouteError
from ._registry import Finding, Mutant, Theorem
from ._setting import Setting
from ._two_classes import RawMargins, TwoClasses, descend, integrate, two_classes

__all__ = ["THEOREMS"]

STEPS = (1, 10, 60, 200)
STEP_TOLERANCE = 1e-10
DISCREPANCIES = ("engine_beta", "engine_dual", "engine_law", "identity", "argmin", "multipliers", "falling")


@dataclass(frozen=True)
class EngineMargins:
    """What the engine claims: predictors, multipliers, and the law's log alpha and log ratio at the last time."""

    betas: Array
    duals: Array
    log_alpha: Array
    log_ratio: Array


@dataclass(frozen=True)
class MarginLaw:
    """The identity between predictor and multipliers, along a flow or a descent.

    Attributes
    ----------
    name, loss : str
    case : TwoClasses
    raw : callable
        `case -> RawMargins`, the raw route.
    engine : callable
        `case -> EngineMargins`.
    tolerance : float
    factor : float
        The claim `log(alpha_+/alpha_-) + factor Z^T nu`; so for all below.
    rows : callable
        `case -> Z`.
    center : callable
        `(log alpha, log ratio) -> centre`.
    shift : float
        Added to log alpha where the potential takes it.
    dual : callable
        `multipliers -> nu` of the claim.
    """

    name: str
    loss: str
    case: TwoClasses
    raw: Callable[[TwoClasses], RawMargins]
    engine: Callable[[TwoClasses], EngineMargins]
    tolerance: float = TOLERANCE
    discrete: bool = False
    factor: float = 4.0
    rows: Callable[[TwoClasses], Array] = lambda case: case.Z
    center: Callable[[Array, Array], Array] = center_of
    shift: float = 0.0
    dual: Callable[[Array], Array] = lambda nu: nu

    def measure(self, _: Setting) -> Finding:
        """Measure the discrepancies at every time; the worst decides."""
        raw, engine = self.raw(self.case), self.engine(self.case)
        nus = self.dual(raw.duals)
        log_alphas, log_ratios = self._law(raw)
        rows = self.rows(self.case)
        turned = self.factor * (nus @ rows)
        b_of_nu = 2 * np.exp(2 * (log_alphas + self.shift)) * np.sinh(log_ratios + turned)
        minima, multipliers = [], []
        for beta, log_alpha, log_ratio in zip(raw.betas, log_alphas, log_ratios, strict=True):
            center = self.center(log_alpha, log_ratio)
            shifted = log_alpha + self.shift
            # The constraints with multipliers are tight, and so all of them: the minimum under `Z b >= Z beta(t)`.
            minima.append(minimise_divergence(rows, rows @ beta, shifted, center).beta)
            mirror = np.arcsinh(beta / 2 * np.exp(-2 * shifted)) - np.arcsinh(center / 2 * np.exp(-2 * shifted))
            multipliers.append(lstsq(rows.T, mirror / 4)[0] if np.linalg.matrix_rank(rows) == len(rows) else raw.duals[0] * 0)
        known = np.linalg.matrix_rank(rows) == len(rows)
        drops = np.maximum(0.0, -np.diff(nus, axis=0, prepend=np.zeros((1, nus.shape[1]))))
        found: dict[str, Any] = {
            "engine_beta": distance(engine.betas, raw.betas),
            "engine_dual": distance(engine.duals, raw.duals),
            "engine_law": [*largest(engine.log_alpha[None] - self._law(raw)[0][-1:]),
                           *largest(engine.log_ratio[None] - self._law(raw)[1][-1:])],
            "identity": distance(b_of_nu, raw.betas),
            "argmin": distance(np.array(minima), raw.betas),
            "multipliers": distance(np.array(multipliers), nus) if known else [0.0],
            "falling": distance(nus + drops, nus),
        }
        numbers = np.concatenate([found[key] for key in DISCREPANCIES])
        worst = float(np.max(numbers)) if np.all(np.isfinite(numbers)) else float("inf")
        found["margins"] = [float(m) for m in np.min(raw.betas @ self.case.Z.T, axis=1)]
        return Finding(worst, self.tolerance, worst <= self.tolerance, found)

    def _law(self, raw: RawMargins) -> tuple[Array, Array]:
        """Give log alpha and log(alpha_+/alpha_-) of the claim: those of the start, or of the discrete law."""
        if not self.discrete:
            shape = raw.betas.shape
            return np.broadcast_to(np.log(self.case.alpha), shape), np.broadcast_to(self.case.log_ratio, shape)
        if raw.log_moduli is None:
            raise RouteError("the raw route did not keep the moduli of the weights")
        log_u, log_v = raw.log_moduli
        turned = self.factor / 2 * (self.dual(raw.duals) @ self.rows(self.case))
        return (log_u + log_v) / 2, (log_u - turned) - (log_v + turned)


def library_flow(loss: str, log_time_shift: float = 0.0, alpha_factor: float = 1.0) -> Callable[[TwoClasses], EngineMargins]:
    """Make an engine of the library's flow at the times of the case; the arguments make it wrong."""

    def run(case: TwoClasses) -> EngineMargins:
        import dln

        logs = np.log(case.times) + log_time_shift
        found = dln.margin_flow(dln.Classification(case.X, case.labels), loss=loss, alpha=alpha_factor * case.alpha,
                                log_ratio=case.log_ratio, log_t_end=float(logs[-1]), save_log_times=logs, rtol=1e-12)
        if len(found.betas) != len(logs):
            raise RouteError(f"the engine stopped: {found.message}")
        return EngineMargins(found.betas, found.duals, found.log_effective_alpha, found.effective_log_ratio)

    return run


def library_descent(loss: str, step: float) -> Callable[[TwoClasses], EngineMargins]:
    """Make an engine of the library's descent."""

    def run(case: TwoClasses) -> EngineMargins:
        import dln

        found = dln.margin_descent(dln.Classification(case.X, case.labels), step=step, n_steps=STEPS[-1], loss=loss,
                                   normalized=False, alpha=case.alpha, log_ratio=case.log_ratio, save_at=list(STEPS))
        if len(found.betas) != len(STEPS):
            raise RouteError(f"the engine stopped: {found.message}")
        return EngineMargins(found.betas, found.duals, found.log_effective_alpha, found.effective_log_ratio)

    return run


def parts(setting: Setting) -> list[Any]:
    """Check T21: both losses in the flow, a descent with large steps, and the limits of the direction."""
    case = two_classes(setting)
    step = 0.2 * float(case.times[0])
    flows = [MarginLaw(f"{loss} loss", loss, case, lambda case, loss=loss: integrate(case, loss), library_flow(loss))  # type: ignore[misc]
             for loss in ("exponential", "logistic")]
    steps = MarginLaw("descent", "logistic", case, lambda case: descend(case, "logistic", step, STEPS),
                      library_descent("logistic", step), STEP_TOLERANCE, discrete=True)
    return [*flows, steps, *margin_limits(case)]


# --- mutants ---------------------------------------------------------------------------------------------------------


def _of_laws(**spoil: Callable[[MarginLaw, Setting], MarginLaw | None]) -> dict[str, Mutant]:
    def only(mutant: Any) -> Mutant:
        return lambda part, setting: mutant(part, setting) if isinstance(part, MarginLaw) else None

    return {name: only(mutant) for name, mutant in spoil.items()}


def _flows_only(change: Callable[[MarginLaw], MarginLaw]) -> Callable[[MarginLaw, Setting], MarginLaw | None]:
    return lambda part, setting: None if part.discrete else change(part)


def _other(loss: str) -> str:
    return "logistic" if loss == "exponential" else "exponential"


def _law_of_flow(part: MarginLaw, setting: Setting) -> MarginLaw | None:
    return replace(part, discrete=False) if part.discrete else None


THEOREMS = (
    Theorem(
        key="T21",
        title="Two classes",
        statement="asinh(beta/(2 alpha^2)) = log(u0/v0) + 4 Z^T nu, nu = int -l'/N >= 0; beta/margin tends to argmin Q_mu s.t. "
                  "Z b >= 1, mu = alpha^2/margin, where no multiplier has to fall",
        source='Moroshko et al. 2020, "Implicit bias in deep linear classification: initialization scale vs training accuracy"',
        kind="exact",
        tolerance=TOLERANCE,
        derive=derive_classification,
        parts=parts,
        mutants=_of_laws(**{
            "2 Z^T nu": lambda part, setting: replace(part, factor=2.0),
            "labels left out": lambda part, setting: replace(part, rows=lambda case: case.X),
            "nu without 1/N": lambda part, setting: replace(part, dual=lambda nu: len(part.case.X) * nu),
            "sign of nu swapped": lambda part, setting: replace(part, dual=lambda nu: -nu),
            "centre dropped": lambda part, setting: replace(part, center=lambda scale, ratio: np.zeros_like(scale)),
            "sign of the centre swapped": lambda part, setting: replace(
                part, center=lambda scale, ratio: center_of(scale, -ratio)),
            "potential without its 2": lambda part, setting: replace(part, shift=-np.log(2) / 2),
            "law of the flow for a descent": _law_of_flow,
            "engine: the other loss": _flows_only(lambda part: replace(part, engine=library_flow(_other(part.loss)))),
            "engine: time off by 1 percent": _flows_only(
                lambda part: replace(part, engine=library_flow(part.loss, np.log(1.01)))),
            "engine: alpha off by 1 percent": _flows_only(
                lambda part: replace(part, engine=library_flow(part.loss, alpha_factor=1.01))),
        }) | MARGIN_MUTANTS,
    ),
)
