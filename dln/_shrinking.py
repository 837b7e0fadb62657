"""Limits of rules that shrink, from small scales: a loose way, and proof that the limit does not feel it.

The limit is the minimiser of the potential at ``log alpha_eff = log alpha - 2 Q``, with ``Q = int q`` (Karakida et al. 2023):
of all that happened on the way it knows Q alone, and near the rich limit it hardly feels that either, since the support alone
decides.
With ``S = diag(u^2 + v^2)`` at the limit, differentiate ``beta = 2 u v sinh(log(u/v))`` and ``X beta = y``:

    d beta = (I - S X^T (X S X^T)^-1 X) (2 beta d log alpha_eff).

That is exact, and falls exponentially as alpha does.  So the way is followed loosely, the estimated error of Q is carried to
beta, and where that is more than what was asked for the run is done again, more tightly.  That estimate is a bound, up to a
hundred times too careful; two runs also tell by how much the looser one is off, and so, more or less, the tighter one.
"""

import math
from dataclasses import replace

import numpy as np
import scipy  # its parts are loaded when first used

from ._jit import address, entry_point
from .flow import Integration
from .integrate import planning, plateaus, shrinking
from .integrate import state as st
from .integrate.rest import STARTLED
from .integrate.survey import LANDING
from .integrate.tableaus import W6
from .result import Status

WAY_TOL = 1e-3  # the loosest way: a W-method at more than this can be silently wrong
_VISIBLE = 0.05  # part of the tolerance, of the data's scale, from which on a coordinate is followed by small steps
_SMALL = 1e-6  # weights whose squares are this small beside the data's scale do not count, nor those below rtol
_ASLEEP = 1e-2  # of that
_LEAST_ERROR = 0.3  # of the tolerance of the way, that log alpha_eff is taken to be off by
_TIGHTEN_FIRST = 4.0  # of the tolerance that would do by the bound alone, when a run is done again for the first time
_TIGHTEN = 0.5  # and when two runs have told more
# The power of the tolerance by which errors fall: at least, as a looser run tells of a tighter one, to within a factor; and as
# a rule, to plan the next run by.  With small steps it is 4/5, of a local error of order 5 in more steps; 0.6 has been seen.
_FALL_AT_LEAST, _DOUBT, _FALL = 0.5, 2.0, 0.75
_TIGHTEST = 1e-2  # part of rtol, for ways that were too inaccurate at rtol itself
_ORDER_8_BELOW, _SHORT_PLATEAUS = 1e-5, -50.0  # tolerance of the way, and log alpha

# Q has no part in the Jacobian: a step of it, and the estimate of its error, are plain sums over the stages.
_WEIGHTS = W6.gamma * np.linalg.solve((np.eye(len(W6.m)) - W6.gamma * W6.C).T, np.array([W6.m, W6.e]).T).T.copy()


def small_below(problem, rule, rtol, t_end=None, save_at=None, method="auto"):
    """Return what log u0^2 and log v0^2 must all be below for `run_to_limit`; -inf where that is not for this rule or wish.

    So small, at most `rtol` of the data's scale, the flow goes from plateau to plateau.
    """
    wished = t_end is None and save_at is None and method == "auto"
    if not wished or not (rule.shrinks and rule.settles) or rule.time_dependent or rule.breakpoints:
        return -math.inf
    scale = problem.row_space.coordinate_scale
    return math.log(scale) + math.log(_ASLEEP * min(rtol, _SMALL)) if scale > 0.0 else -math.inf


def run_to_limit(*arguments):
    """Return the result of the run whose `Integration` has these arguments, the way as loose as the limit allows."""
    start, rtol, max_steps = arguments[2], arguments[5], arguments[8]
    way = max(rtol, WAY_TOL)
    counts = looser = None
    looser_way = way
    small = True
    while True:
        attempt = LimitOfShrinking(*arguments, way=min(way, WAY_TOL), small=small, before=counts)
        result = attempt.run()
        error, counts = attempt.error_of_limit, attempt.count
        guess = error
        if looser is not None and not attempt.failed:
            ratio, moved = way / looser_way, _distance(result.beta, looser.beta)
            fallen = _DOUBT * ratio**_FALL_AT_LEAST
            shrinkage = fallen * float(np.abs(result.shrinkage - looser.shrinkage).max())
            result = replace(result, log_alpha_error=max(result.log_alpha_error, 2.0 * shrinkage))
            guess = min(error, moved * ratio**_FALL)
            if fallen * moved < error:
                error = fallen * moved
                result = replace(result, error_estimate=max(error, attempt.least_error()))
        if (result.success and error <= rtol) or counts[st.ACCEPTED] + counts[st.REJECTED] >= max_steps:
            return result
        again = looser is not None
        looser, looser_way = (None if attempt.failed else result), way
        if attempt.failed:
            if not small:
                return result
            small = False  # with all coordinates: slower, but nothing is left out
        elif way <= rtol and (result.status != Status.INACCURATE or way <= _TIGHTEST * rtol):
            return result
        elif way <= rtol:
            way *= 0.1
        else:
            way *= min(0.3, _TIGHTEN * rtol / guess) if again else min(0.1, _TIGHTEN_FIRST * rtol / error)
            way = way if way > 2.0 * rtol else rtol
            # Where plateaus are short, the method of order 8 is the better one.
            small = small and not (way < _ORDER_8_BELOW and float(start.log_alpha.max()) > _SHORT_PLATEAUS)


def _distance(beta, other):
    size = float(np.linalg.norm(beta))
    return float(np.linalg.norm(beta - other)) / size if size > 0.0 else math.inf


class LimitOfShrinking(Integration):
    """One attempt: the way at the tolerance `way`, beta at `rtol`.

    With `small` in the coordinates that are awake, where the rule allows it; `before` are the counts of earlier attempts.
    """

    error_of_limit = math.inf  # of beta
    failed = False  # it has not come to an end

    def __init__(self, *arguments, way, small=True, before=None):
        super().__init__(*arguments)
        self.way, self.small = way, small
        if before is not None:
            self.count[:] = before
            self.count[st.BEST_AT] = before[st.ACCEPTED]

    def _verdict(self, reason, *numbers):
        self.failed = reason not in (st.CONVERGED, st.STATIONARY)
        return super()._verdict(reason, *numbers)

    def _first_method(self):
        if not self.small or self.rule.dormant_pair is None:
            return super()._first_method()
        return "plateaus", True

    def _cross_plateaus(self):
        n, d = self.X.shape
        s = self.settings
        visible = s[planning.DORMANT] - math.log(1e-8) + math.log(_VISIBLE * self.way)
        # Who has become visible must count as awake, or flights would never end.
        visible = max(visible, s[planning.DORMANT] + STARTLED + 1.0)
        s[planning.ASLEEP] = s[planning.DORMANT]
        s[planning.DORMANT] = visible - LANDING
        self.pair = np.array(self.rule.dormant_pair)
        self.buffer = np.empty(n * (d + 1))
        self.tally = np.zeros(plateaus.TALLY_SIZE, dtype=np.int64)
        self.notes = (np.zeros(n), np.zeros(shrinking.NOTES_SIZE), self.tally)

    def _kernels(self):
        if self.methods[-1] != "plateaus":
            return super()._kernels()
        return entry_point(shrinking.follow), address(self.rule.kernel), address(self.rule.curvature)

    def _call(self, kernels, params, attempts):
        if self.methods[-1] != "plateaus":
            return super()._call(kernels, params, attempts)
        kernel, rule_kernel, curvature = kernels
        A, C, m, e, _, gamma, order, filtered, memory = self.tableau
        return kernel(rule_kernel, curvature, self.pair, self.X, self.y, self.c, self.state, self.z, self.f, self.r, self.error,
                      self.clock, self.count, self.settings, params, *self.notes, self.buffer, self.buffer,
                      A, C, m, e, gamma, order, filtered, memory, _WEIGHTS, attempts)

    def _log_alpha_error(self):
        return max(2.0 * float(self.clock[st.ERROR_OF_Q]), self.way)

    def least_error(self):
        """Return what no estimate of the error of beta may be below: logarithms of this size are known to their rounding."""
        return max(np.finfo(float).eps * (1.0 + float(self.clock[st.REACH])), 1e-2 * self.rtol)

    def _error_estimate(self):
        errors = np.maximum(2.0 * np.abs(self.error[self.X.shape[0]:]), _LEAST_ERROR * self.way)
        self.error_of_limit = limit_error(self.X, self.state[st.BETA], self.state[st.SIZE], errors, 1e-2 * self.rtol)
        error = max(self.error_of_limit, self.least_error())
        return min(error, super()._error_estimate()) if self.way <= self.rtol else error


def limit_error(X, beta, size, errors, negligible):
    """Bound ``|d beta| / |beta|`` at a limit on ``X beta = y`` by errors of log alpha_eff.

    Parameters
    ----------
    X : ndarray (N, d)
        Data of full row rank.
    beta, size : ndarray (d,)
        ``u^2 - v^2`` and ``u^2 + v^2`` at the limit.
    errors : ndarray (d,)
        Of log alpha_eff, absolute.
    negligible : float
        The smallest coordinates, together below this times ``|beta|``, count as free to move by as much as they are large.

    Returns
    -------
    float
        Twice the sum of the norms of the columns of ``(I - S X^T (X S X^T)^-1 X) diag(beta errors)``, over ``|beta|``;
        infinite where more than twice N coordinates count, far from the rich limit.

    References
    ----------
    Differentiated from the equations of the minimiser; for errors that are the same for all coordinates it is the speed
    ``d beta / d log alpha`` of theorem T24.
    """
    length = float(np.linalg.norm(beta))
    if length == 0.0:
        return 0.0
    if not (math.isfinite(length) and np.isfinite(errors).all()):
        return math.inf
    order = np.argsort(np.abs(beta))
    below = np.cumsum(np.abs(beta[order]))
    n_small = int(np.searchsorted(below, negligible * length, side="right"))
    kept = order[n_small:]
    if kept.size > 2 * X.shape[0]:
        return math.inf
    root = np.sqrt(size)
    large = np.flatnonzero(root > 1e-14 * root[kept].max())  # the others move by nothing
    root = root[large]
    Q, R, _ = scipy.linalg.qr((X[:, large] * root).T, mode="economic", pivoting=True)
    diagonal = np.abs(np.diagonal(R))
    Q = Q[:, :np.count_nonzero(diagonal > 1e-13 * diagonal[0])]
    kept = kept[np.isin(kept, large)]
    places = np.searchsorted(large, kept)
    columns = -(Q @ Q[places].T)
    columns[places, np.arange(kept.size)] += 1.0
    columns *= root[:, None] * (beta[kept] * errors[kept] / root[places])
    rest = float(below[n_small - 1]) * float(errors.max()) if n_small else 0.0
    return 2.0 * (float(np.linalg.norm(columns, axis=0).sum()) + rest) / length
