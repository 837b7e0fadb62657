"""Derivation of T23."""
from ._derivation import Derivation
def derive_transitions() -> Derivation:
    return Derivation("T23", "Transitions")
