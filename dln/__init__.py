"""dln: the toolkit for diagonal linear networks, ``beta = u*u - v*v``."""

from . import datasets, potential, schedules
from .classification import Classification, Separation
from .descend import descend
from .ensemble import Ensemble, ensemble
from .flow import flow
from .loading import load
from .margin_descent import margin_descent
from .margin_flow import margin_flow
from .margin_limit import margin_limit
from .margin_result import MarginResult, MarginStatus
from .maximum_margin import MarginMaximizer, maximum_margin
from .minimizer import Minimizer, minimize_potential, minimum_norm, predict
from .momentum import MomentumResult, momentum_flow
from .problem import Problem
from .result import DescentResult, FlowResult, Status
from .rules import SAM, Flooding, GradientFlow, GradientRegularization, Rule, WeightDecay
from .saddles import SaddlePath, saddles
from .scale_path import ScalePath, scale_path
from .sparse import LassoPath, SparseMinimizer, basis_pursuit, lasso, lasso_path
from .stochastic_flow import StochasticResult, stochastic_flow
from .sweep import open_sweep, sweep, zipped
from .synthetic import sparse_regression
from .time_average import TimeAverage, time_average

__version__ = "0.1.0"

__all__ = [
    "SAM",
    "Classification",
    "DescentResult",
    "Ensemble",
    "Flooding",
    "FlowResult",
    "GradientFlow",
    "GradientRegularization",
    "LassoPath",
    "MarginMaximizer",
    "MarginResult",
    "MarginStatus",
    "Minimizer",
    "MomentumResult",
    "Problem",
    "Rule",
    "SaddlePath",
    "ScalePath",
    "Separation",
    "SparseMinimizer",
    "Status",
    "StochasticResult",
    "TimeAverage",
    "WeightDecay",
    "basis_pursuit",
    "datasets",
    "descend",
    "ensemble",
    "flow",
    "lasso",
    "lasso_path",
    "load",
    "margin_descent",
    "margin_flow",
    "margin_limit",
    "maximum_margin",
    "minimize_potential",
    "minimum_norm",
    "momentum_flow",
    "open_sweep",
    "potential",
    "predict",
    "saddles",
    "scale_path",
    "schedules",
    "sparse_regression",
    "stochastic_flow",
    "sweep",
    "time_average",
    "zipped",
]
