"""dln: the toolkit for diagonal linear networks, ``beta = u*u - v*v``."""

from . import datasets, potential
from .flow import flow
from .loading import load
from .minimizer import Minimizer, basis_pursuit, minimize_potential, minimum_norm, predict
from .problem import Problem
from .result import FlowResult, Status
from .rules import SAM, GradientFlow, GradientRegularization, Rule, WeightDecay
from .synthetic import sparse_regression

__version__ = "0.1.0"

__all__ = [
    "SAM",
    "FlowResult",
    "GradientFlow",
    "GradientRegularization",
    "Minimizer",
    "Problem",
    "Rule",
    "Status",
    "WeightDecay",
    "basis_pursuit",
    "datasets",
    "flow",
    "load",
    "minimize_potential",
    "minimum_norm",
    "potential",
    "predict",
    "sparse_regression",
]
