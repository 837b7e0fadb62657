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


@njit(CURVATURE)
def plain_curvature(X, c, beta, size, r, params, row_scale, work_d):
    """Curvature of gradient flow: S = 1, kappa = 0."""
    for i in range(row_scale.shape[0]):
        row_scale[i] = 1.0
    return 0.0


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
    settles : bool
        Whether a small residual means convergence: not for a rule that keeps moving the weights on an interpolator.
    """

    name: str
    kernel: Any
    curvature: Any = staticmethod(plain_curvature)
    exact_curvature: bool = False
    shrinks: bool = True
    uses_samples: bool = False
    settles: bool = True

    @property
    def time_dependent(self):
        """Whether the parameters depend on time."""
        return False

    @property
    def breakpoints(self):
        """Times at which the parameters jump, increasing."""
        return ()

    @abstractmethod
    def parameters(self, n_features, t=0.0):
        """Return the kernel's parameters at time `t`, a float64 vector."""


def number(name, value, *, minimum=-math.inf, strict=False):
    """Return `value` as a finite float, at least (if `strict`: above) `minimum`; else a one-line error."""
    if type(value) is not float and (isinstance(value, (bool, np.bool_)) or np.iscomplexobj(value)
                                     or not isinstance(value, (int, float, np.number))):
        raise TypeError(f"{name} must be a number, got {value!r}")
    result = float(value)
    if not math.isfinite(result) or result < minimum or (strict and result == minimum):
        bound = "" if minimum == -math.inf else f" and {'above' if strict else 'at least'} {minimum:g}"
        raise ValueError(f"{name} must be finite{bound}, got {value}")
    return result
