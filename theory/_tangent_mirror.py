"""The potential where the value is a tangent of the travel, as for sinh: a quadratic in the tangent of the dual variable.

With `f(w) = k tan(m F(w))`, `S = tan(m F(alpha))` and `T = tan(m rate z)` the addition theorem gives
`beta = 2 k (1 + S^2) T/(1 - S^2 T^2)`, one of whose roots T vanishes with beta.
"""

from __future__ import annotations

import sympy as sp

from ._derivation import Derivation, text

__all__ = ["tangent_forms"]


def tangent_forms(d: Derivation, value: sp.Expr, x: sp.Symbol, at: sp.Expr, z: sp.Symbol, beta: sp.Symbol,
                  rate: sp.Expr) -> dict[str, sp.Expr] | None:
    """Prove the inverse mirror map, the potential and its dual.

    Parameters
    ----------
    value : sympy.Expr
        `f(w)` as a function of `F(w) = x`.
    at : sympy.Expr
        `F(alpha)`.

    Returns
    -------
    dict or None
        None if the value is no tangent.
    """
    k, tangent = value.as_independent(x, as_Add=False)
    if not isinstance(tangent, sp.tan):
        return None
    m = sp.diff(tangent.args[0], x)
    if m.has(x) or tangent.args[0].subs(x, 0) != 0:
        return None
    S, T = sp.Symbol("S", real=True), sp.tan(m * rate * z)
    size = sp.tan(m * at)
    C = 1 + S**2
    d.assume(f"S = {text(size)}; the steps that contain S hold for any real S")
    fraction = 2 * k * C * T / (1 - S**2 * T**2)
    p, q = sp.symbols("p q", real=True)
    d.equal("Addition theorem of the tangent", "trigonometry", sp.tan(p + q),
            (sp.tan(p) + sp.tan(q)) / (1 - sp.tan(p) * sp.tan(q)))
    # The quotients of the addition theorem, in plain letters: simplification of tangents within them takes minutes.
    d.equal("Mirror map as a fraction of T = tan(m rate z)", "the addition theorem of the tangent",
            k * ((T + S) / (1 - S * T) + (T - S) / (1 + S * T)), fraction)
    root = beta / (k * C + sp.sqrt(k**2 * C**2 + beta**2 * S**2))
    inverse = sp.atan(root) / (m * rate)
    d.equal("Inverse of the mirror map: phi'", "substitution into the mirror map", fraction.subs(z, inverse), beta)
    dual = k / (m * rate) * (sp.log(1 + T**2) - sp.log(1 - S**2 * T**2))
    d.equal("Legendre dual phi*", "its slope is the mirror map", sp.Derivative(dual, z), fraction)
    d.equal("phi* vanishes at 0", "substitution", sp.Subs(dual, z, 0), sp.S.Zero)
    phi = beta * inverse - k / (m * rate) * (sp.log(1 + root**2) - sp.log(1 - S**2 * root**2))
    # That its slope is z is the step on the Legendre dual, proved for any mirror map.
    d.equal("The potential phi(beta) = z beta - phi*(z)", "the inverse mirror map for z", phi,
            beta * inverse - dual.subs(z, inverse))
    d.equal("phi(0) = 0", "substitution", sp.Subs(phi, beta, 0), sp.S.Zero)
    return {name: form.subs(S, size) for name, form in (("inverse", inverse), ("phi", phi), ("dual", dual))}
