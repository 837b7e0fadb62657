"""dln: the toolkit for diagonal linear networks, ``beta = u*u - v*v``."""

from . import datasets, potential
from .classification import Classification, Separation
from .flow import flow
from .loading import load
from .margin_descent import margin_descent
from .margin_flow import margin_flow
from .margin_result import MarginResult, MarginStatus
from .maximum_margin import MarginMaximizer, maximum_margin
from .minimizer import Minimizer, basis_pursuit, minimize_potential, minimum_norm, predict
from .problem import Problem
from .result import FlowResult, Status
from .rules import SAM, GradientFlow, GradientRegularization, Rule, WeightDecay
from .synthetic import sparse_regression

__version__ = "0.1.0"

__all__ = [
    "SAM",
    "Classification",
    "FlowResult",
    "GradientFlow",
    "GradientRegularization",
    "MarginMaximizer",
    "MarginResult",
    "MarginStatus",
    "Minimizer",
    "Problem",
    "Rule",
    "Separation",
    "Status",
    "WeightDecay",
    "basis_pursuit",
    "datasets",
    "flow",
    "load",
    "margin_descent",
    "margin_flow",
    "maximum_margin",
    "minimize_potential",
    "minimum_norm",
    "potential",
    "predict",
    "sparse_regression",
]
