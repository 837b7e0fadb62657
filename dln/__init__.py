"""dln: the toolkit for diagonal linear networks, ``beta = u*u - v*v``."""

from . import datasets, potential, schedules
from .descend import descend
from .flow import flow
from .loading import load
from .minimizer import Minimizer, basis_pursuit, minimize_potential, minimum_norm, predict
from .momentum import MomentumResult, momentum_flow
from .problem import Problem
from .result import DescentResult, FlowResult, Status
from .rules import SAM, Flooding, GradientFlow, GradientRegularization, Rule, WeightDecay
from .synthetic import sparse_regression

__version__ = "0.1.0"

__all__ = [
    "SAM",
    "DescentResult",
    "Flooding",
    "FlowResult",
    "GradientFlow",
    "GradientRegularization",
    "Minimizer",
    "MomentumResult",
    "Problem",
    "Rule",
    "Status",
    "WeightDecay",
    "basis_pursuit",
    "datasets",
    "descend",
    "flow",
    "load",
    "minimize_potential",
    "minimum_norm",
    "momentum_flow",
    "potential",
    "predict",
    "schedules",
    "sparse_regression",
]
