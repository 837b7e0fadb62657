"""dln: the toolkit for diagonal linear networks, ``beta = u*u - v*v``."""

from . import datasets, potential, schedules
from .descend import descend
from .ensemble import Ensemble, ensemble
from .flow import flow
from .loading import load
from .minimizer import Minimizer, basis_pursuit, minimize_potential, minimum_norm, predict
from .problem import Problem
from .result import DescentResult, FlowResult, Status
from .rules import SAM, Flooding, GradientFlow, GradientRegularization, Rule, WeightDecay
from .stochastic_flow import StochasticResult, stochastic_flow
from .synthetic import sparse_regression

__version__ = "0.1.0"

__all__ = [
    "SAM",
    "DescentResult",
    "Ensemble",
    "Flooding",
    "FlowResult",
    "GradientFlow",
    "GradientRegularization",
    "Minimizer",
    "Problem",
    "Rule",
    "Status",
    "StochasticResult",
    "WeightDecay",
    "basis_pursuit",
    "datasets",
    "descend",
    "ensemble",
    "flow",
    "load",
    "minimize_potential",
    "minimum_norm",
    "potential",
    "predict",
    "schedules",
    "sparse_regression",
    "stochastic_flow",
]
