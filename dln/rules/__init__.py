"""Training rules, one per file: each is its pair (p, q)."""

from .base import Rule
from .flooding import Flooding
from .gradient_flow import GradientFlow
from .gradient_regularization import GradientRegularization
from .sam import SAM
from .weight_decay import WeightDecay

__all__ = ["SAM", "Flooding", "GradientFlow", "GradientRegularization", "Rule", "WeightDecay"]
