"""What a training rule is: a pair (p, q), and nothing about time.

A rule moves the weights by ``du = -2 u (p + q)``, ``dv = +2 v (p - q)`` (gradient flow: p = dL/dbeta, q = 0), with p in
the row space of X.  It hands p over as its N coefficients, ``p = X^T coef``, and q as a vector (d,).
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numba import types

from .._jit import DATA_MATRIX, DATA_VECTOR, MATRIX, VECTOR, caller, njit

#: ``rule(X, y, c, beta, size, params, r, coef, q, work_d, work_n)`` with ``c = 1/(2N)`` and ``size = u^2 + v^2``.
#: It fills the residual ``r = X beta - y`` (N,), ``coef`` (N,) and ``q`` (d,).
RULE = types.void(DATA_MATRIX, DATA_VECTOR, types.float64, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX)

#: ``curvature(X, c, beta, size, r, params, row_scale, work_d) -> kappa``: the stiff part of d coef/d nu is close to
#: ``-S (K + kappa K^2)`` with ``K = 4 c X diag(size) X^T`` and ``S = 1/diag(row_scale)``.  It fills ``row_scale`` (N,).
CURVATURE = types.float64(DATA_MATRIX, types.float64, VECTOR, VECTOR, VECTOR, VECTOR, VECTOR, MATRIX)

call_rule = caller(RULE)
call_curvature = caller(CURVATURE)


@njit(CURVATURE, allocates=False)
def plain_curvature(X, c, beta, size, r, params, row_scale, work_d):
    """Curvature of gradient flow: S = 1, kappa = 0."""
    for i in range(row_scale.shape[0]):
        row_scale[i] = 1.0
    return 0.0


#: Rows of `powers` (5, d) at depth D > 2: ``u^(D-2), v^(D-2), u^D, v^D`` and ``beta = u^D - v^D``.
UK, VK, UD, VD, BETA = range(5)

#: ``deep_rule(X, y, c, depth, powers, params, r, rate, work_d, work_n) -> outcome`` fills the residual r and
#: ``rate = ((log u)', (log v)')`` (2d,).  It returns 0, or 2 where an ascent step takes a weight through 0 and u^D is not
#: defined; `work_d` is (6, d), `work_n` (2, N).
DEEP_RULE = types.int64(DATA_MATRIX, DATA_VECTOR, types.float64, types.float64, MATRIX, VECTOR, VECTOR, VECTOR, MATRIX, MATRIX)

#: ``deep_curvature(X, c, depth, powers, r, params, row_scale, work_d) -> kappa``: the stiff part of the Jacobian is that of
#: gradient flow with ``S (I + kappa K)`` in its middle; see `dln.integrate.deep_state`.
DEEP_CURVATURE = types.float64(DATA_MATRIX, types.float64, types.float64, MATRIX, VECTOR, VECTOR, VECTOR, MATRIX)


call_deep_rule = caller(DEEP_RULE)
call_deep_curvature = caller(DEEP_CURVATURE)


@njit(DEEP_CURVATURE)
def plain_deep_curvature(X, c, depth, powers, r, params, row_scale, work_d):
    """Curvature of gradient flow: S = 1, kappa = 0."""
    for i in range(row_scale.shape[0]):
        row_scale[i] = 1.0
    return 0.0


# Measured: up to it the part of Q in the Jacobian saves at most a tenth of the steps; at 1.6, nearly half of them.
_DRIFTS = 1.0


class Rule(ABC):
    """A training rule: its pair (p, q) as a compiled kernel, and the facts that the integrators need.

    Attributes
    ----------
    name : str
        The word that the command line uses.
    kernel : compiled function of signature `RULE`
    curvature : compiled function of signature `CURVATURE`
        An approximation suffices: the stiff method keeps its order for any Jacobian.
    exact_curvature : bool
        Whether the curvature is the exact Jacobian, so that a Rosenbrock method of higher order may be used.
    shrinks : bool
        Whether q can differ from 0.
    uses_samples : bool
        Whether the rule sees single samples; otherwise (X, y) may be reduced to the row space.
    ignores_zero_columns : bool
        Whether columns of zeros in X, more or fewer, change nothing for other coordinates: then they may be added.
    settles : bool
        Whether a small residual means convergence: not for a rule that keeps moving the weights on an interpolator.
    dormant_pair : (float, float) or None
        (s, w) if coordinates whose weights are negligible count for nothing, in `kernel` and in `curvature`, and if
        theirs is ``q_j = 2 s (c x_j.r) (c x_j.(r + w k))``, k being what the kernel leaves in ``work_n[0]``: then the flow
        may be integrated in the other coordinates alone.  None if not.
    one_sided : (float, float) or None
        (s, w) if the rule is the gradient of ``L + (s/2) |grad L|^2``, the gradient taken at a distance of w (0: exactly):
        ``coef = c (r + s X m)``, ``q = 2 s g (g + w c X^T X m)`` with ``m = 4 g (size + w g beta)`` and ``kappa = s``; (0, 0)
        for gradient flow.  Then loose steps may have their stages in single precision.  None if not.
    deep_kernel, deep_curvature : compiled functions of signatures `DEEP_RULE` and `DEEP_CURVATURE`
        The same rule at depth D > 2; without the first it is known at depth 2 only.
    deep_law : bool
        Whether at depth D > 2 the limit minimises the potential at `effective_alpha`, if the parameters are the same for all
        coordinates.
    decays : bool
        Whether at depth D > 2 weights may come to rest away from an interpolator.
    """

    name: str
    kernel: Any
    curvature: Any = staticmethod(plain_curvature)
    exact_curvature: bool = False
    shrinks: bool = True
    uses_samples: bool = False
    ignores_zero_columns: bool = False
    settles: bool = True
    deep_kernel: Any = None
    deep_curvature: Any = staticmethod(plain_deep_curvature)
    deep_law: bool = False
    decays: bool = False

    @property
    def time_dependent(self):
        """Whether the parameters depend on time."""
        return False

    @property
    def dormant_pair(self):
        """See the class; None unless a rule says otherwise."""
        return None

    @property
    def one_sided(self):
        """See the class; None unless a rule says otherwise."""
        return None

    def coupled(self, steepest):
        """Whether Q drifts as fast as nu, or faster, so that nu has to follow it.

        Not if q is quadratic in the residual, and its strength times `steepest`, the largest entry of ``X^T y/(2N)``, small.
        """
        return self.shrinks and (self.dormant_pair is None or self.dormant_pair[0] * steepest > _DRIFTS)

    @property
    def breakpoints(self):
        """Times at which the parameters jump, increasing."""
        return ()

    @abstractmethod
    def parameters(self, n_features, t=0.0):
        """Return the kernel's parameters at time `t`, a float64 vector."""


def number(name, value, *, minimum=-math.inf, strict=False):
    """Return `value` as a finite float, at least (if `strict`: above) `minimum`; else a one-line error."""
    if type(value) is float and minimum < value < math.inf:
        return value  # the common case, at once
    if type(value) is not float and (isinstance(value, (bool, np.bool_)) or np.iscomplexobj(value)
                                     or not isinstance(value, (int, float, np.number))):
        raise TypeError(f"{name} must be a number, got {value!r}")
    result = float(value)
    if not math.isfinite(result) or result < minimum or (strict and result == minimum):
        bound = "" if minimum == -math.inf else f" and {'above' if strict else 'at least'} {minimum:g}"
        raise ValueError(f"{name} must be finite{bound}, got {value}")
    return result
