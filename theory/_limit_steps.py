"""d."""
from ._derivation import Derivation
def derive_kernel_limit(): return Derivation("T17","x")
def derive_rich_limit(): return Derivation("T18","x")
