"""The limits of the potential itself, where it has a closed form: its quotient by the leading term tends to 1.

For a power of the weight the potential has none beyond depth 2, but mirror map and dual have, and both quotients depend on
`x = z/radius` alone: large alpha means x towards 0 at a fixed beta, small alpha x towards 1.
"""

from __future__ import annotations

import sympy as sp

from ._budget import STEPS, within
from ._closed_forms import tidy
from ._derivation import Derivation, text

__all__ = ["proved_limit"]


def proved_limit(d: Derivation, which: str, found: dict[str, sp.Expr | None], leading: sp.Expr, alpha: sp.Symbol, z: sp.Symbol,
                 beta: sp.Symbol, radius: sp.Expr | None) -> bool:
    """Try to prove `phi/leading -> 1`, and say whether it was.

    Parameters
    ----------
    which : {"kernel", "rich"}
    found : dict
        Closed forms: "phi", or "mirror" and "dual", in `z`.
    leading : sympy.Expr
        In beta and alpha.
    radius : sympy.Expr or None
        Of the domain of the mirror map.
    """
    before = len(d.steps)
    size, x = sp.Symbol("b", positive=True), sp.Symbol("x", positive=True)
    phi, mirror, dual = found["phi"], found["mirror"], found["dual"]
    low = sp.S.Zero if alpha.is_positive else -sp.oo
    if phi is not None:
        quotient = (phi / leading).subs(beta, size)
        end, side = (sp.oo, "-") if which == "kernel" else (low, "+" if low == 0 else "-")
        variable, words = alpha, ""
        for generator in (sp.exp(alpha), sp.sinh(alpha)):  # they increase with alpha; sympy's limits prefer a plain symbol
            a = sp.Symbol("a", positive=True)
            plain = quotient.subs(sp.cosh(alpha), sp.sqrt(1 + sp.sinh(alpha) ** 2)).subs(generator, a)
            if not plain.has(alpha) and (end == sp.oo or generator.func == sp.exp):
                quotient, variable, words = plain, a, f", a = {text(generator)}"
                end, side = (end, side) if end == sp.oo else (sp.S.Zero, "+")
                break
        within(4 * STEPS, d.equal, f"phi over its leading term: {which} regime, beta = b > 0 (phi is even){words}",
               "limit of phi itself", sp.Limit(quotient, variable, end, side), sp.S.One)
    elif mirror is not None and dual is not None and radius is not None and radius.is_finite is not False and alpha.is_positive:
        at = x * radius
        value = tidy(mirror.subs(z, at))
        quotient = tidy((at * value - dual.subs(z, at)) / leading.subs(sp.Abs(beta), beta).subs(beta, value))
        if not quotient.has(alpha):
            within(STEPS, d.equal, f"phi over its leading term at z = x radius, free of alpha: {which} regime",
                   "limit of (z beta(z) - phi*(z))/leading(beta(z))",
                   sp.Limit(quotient, x, 0 if which == "kernel" else 1, "+" if which == "kernel" else "-"), sp.S.One)
    return len(d.steps) > before
