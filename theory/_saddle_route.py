"""The second route of T19: the process from contact to contact with SciPy's non-negative least squares, and the flow itself.

The process has the predictor alone for its state, and `s = -int g dtau`; the flow is integrated as `S = log(u/v)/4`, one number
per feature, by LSODA with its Jacobian. Nothing of the library is used.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from scipy.integrate import ODEintWarning, odeint
from scipy.linalg import lstsq
from scipy.optimize import nnls

from ._network import Array
from ._raw_route import RouteError

__all__ = ["Claim", "Plateaus", "decay_rates", "flow_in_logarithms", "process"]

#: |s_j| this near its bound has reached it.
CONTACT = 1e-9

MOST_JUMPS = 1000
RTOL, ATOL = 1e-11, 1e-9
MOST_STEPS = 20_000


@dataclass(frozen=True)
class Claim:
    """What the theorem says of the process; mutants say otherwise.

    Attributes
    ----------
    bound, powers : float
        `|s_j|` is held at `bound k_j^powers`.
    speed : float
        `ds/dtau = -speed g`.
    rule : {"signs", "no signs", "no leaving", "one at a time"}
        What beta minimises: the loss under the signs of the bounds reached; without them; under them, but with coordinates
        that stay at their bounds for ever; or the loss in the coordinate that has come last, the others left as they are.
    clock : float
        `t = clock log(1/alpha) tau`.
    """

    bound: float = 0.5
    powers: float = 1.0
    speed: float = 1.0
    rule: str = "signs"
    clock: float = 1.0


@dataclass(frozen=True)
class Plateaus:
    """Jump times (K,), saddles (K, d), `s` at the jumps (K, d) and its velocity after them (K, d)."""

    times: Array
    betas: Array
    places: Array
    rates: Array
    middles: Array = field(init=False)

    def __post_init__(self) -> None:
        # The last plateau, which has no end, counts as long as all before.
        ends = np.append(self.times[1:], 2 * self.times[-1])
        object.__setattr__(self, "middles", (self.times + ends) / 2)

    def at_middles(self) -> Array:
        """Give `s` at the middle of every plateau."""
        return self.places + (self.middles - self.times)[:, None] * self.rates


def process(X: Array, y: Array, exponents: Array, claim: Claim) -> Plateaus:
    """Follow the process to its end.

    Raises
    ------
    RouteError
        If it comes to none.
    """
    n_samples, d = X.shape
    limit = claim.bound * exponents**claim.powers
    sizes = np.linalg.norm(X, axis=0) * np.linalg.norm(y)
    s, tau, beta = np.zeros(d), 0.0, np.zeros(d)
    held = np.zeros(d, dtype=bool)
    jumps: list[tuple[float, Array, Array, Array]] = []
    for _ in range(MOST_JUMPS):
        fresh = (np.abs(s) >= limit * (1 - CONTACT)) & ~held
        held |= fresh
        beta = _saddle(X, y, np.sign(s), held, fresh, beta, claim.rule)
        pull = X.T @ (y - X @ beta)
        pull[np.abs(pull) <= 1e-11 * sizes] = 0
        outward = pull * s > 0
        if claim.rule == "signs":
            held &= outward | (pull == 0)
        rate = np.where(held, 0, claim.speed * pull / (2 * n_samples))
        jumps.append((tau, beta, s, rate))
        moving = rate != 0
        if not moving.any():
            return Plateaus(*(np.array(column) for column in zip(*jumps, strict=True)))
        # Where it has just left its bound, a coordinate goes to the opposite one.
        step = float(np.min((limit[moving] - np.sign(rate[moving]) * s[moving]) / np.abs(rate[moving])))
        s, tau = s + step * rate, tau + step
        s = np.where(limit - np.abs(s) <= CONTACT * limit, np.sign(s) * limit, s)
    raise RouteError(f"the process makes more than {MOST_JUMPS} jumps")


def _saddle(X: Array, y: Array, signs: Array, held: Array, fresh: Array, before: Array, rule: str) -> Array:
    """Minimise the loss as the claim has it."""
    beta = np.zeros_like(before)
    if not held.any():
        return beta
    if rule == "no signs":
        beta[held] = lstsq(X[:, held], y)[0]
    elif rule == "one at a time":
        beta = before.copy()
        for j in np.flatnonzero(fresh):
            beta[j] = X[:, j] @ (y - X @ beta + X[:, j] * beta[j]) / (X[:, j] @ X[:, j])
    else:
        at = np.flatnonzero(held)
        scale = np.linalg.norm(X[:, at], axis=0)
        A = X[:, at] * (signs[at] / scale)
        found = nnls(A, y)[0]
        on = found > 0
        if on.any() and np.linalg.matrix_rank(A[:, on]) == np.count_nonzero(on):
            found[on] = lstsq(A[:, on], y)[0]
        beta[at] = signs[at] * found / scale
    return beta


def decay_rates(X: Array, path: Plateaus, exponents: Array) -> Array:
    """Give how fast the flow's distance from each saddle, at the middle of its plateau, falls as log(1/alpha) grows: (K,).

    It falls as `exp(-rate log(1/alpha))`. A coordinate of modulus `alpha^(2k) exp(4 |s| log(1/alpha))` is as small as its way
    to the bound is long; those on the support relax, by the linearised flow `4 |beta|^(1/2) X^T X |beta|^(1/2)/(2N)`.
    """
    lengths = path.middles - path.times
    rates: list[float] = []
    for beta, s, length in zip(path.betas, path.at_middles(), lengths, strict=True):
        on = beta != 0
        slack = 4 * (exponents / 2 - np.abs(s))[~on & (np.abs(s) < exponents / 2 * (1 - CONTACT))]
        rooted = X[:, on] * np.sqrt(np.abs(beta[on]))
        values = np.linalg.svd(rooted, compute_uv=False) ** 2 if on.any() else np.empty(0)
        values = values[values > 1e-10 * np.max(values, initial=0)]  # where columns depend, there is nothing to relax to
        relaxing = 2 * length * float(np.min(values, initial=np.inf)) / X.shape[0]
        rates.append(min(relaxing, float(np.min(slack, initial=np.inf))))
    return np.array(rates)


def flow_in_logarithms(X: Array, y: Array, log_alpha: Array, times: Array) -> tuple[Array, Array]:
    """Integrate gradient flow from `u0 = v0 = alpha`; give beta and `S = log(u/v)/4` at each time, (K, d) both.

    Raises
    ------
    RouteError
        If SciPy fails.
    """
    c = 1 / (2 * X.shape[0])
    gram, pull, start = c * X.T @ X, c * X.T @ y, 2 * log_alpha

    def powers(S: Array) -> tuple[Array, Array]:
        # alpha^2 exp(+-4 S), each from its own exponent; trial steps may go too far, and are rejected.
        return np.exp(np.minimum(start + 4 * S, 200)), np.exp(np.minimum(start - 4 * S, 200))

    def velocity(_: float, S: Array) -> Array:
        more, less = powers(S)
        return pull - gram @ (more - less)

    def jacobian(_: float, S: Array) -> Array:
        more, less = powers(S)
        return gram * (-4 * (more + less))

    with np.errstate(over="ignore", under="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ODEintWarning)  # the message is looked at below
        places, info = odeint(velocity, np.zeros(X.shape[1]), np.append(0, times), Dfun=jacobian, tfirst=True, rtol=RTOL,
                              atol=ATOL, mxstep=MOST_STEPS, full_output=True, printmessg=False)
        if info["message"] != "Integration successful." or not np.all(np.isfinite(places)):
            raise RouteError(f"the flow in logarithms stopped: {info['message']}")
        more, less = powers(places[1:])
    return more - less, places[1:]
