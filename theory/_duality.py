"""The dual problem: the conjugate of the potential, its derivatives, the absence of a gap, the curvature of the flow.

Everything is written in the mirror image `w = asinh(beta/(2 a^2))`, which is linear in the dual variable:
`w_j = h_j + 4 (X^T nu)_j`, with `h_j = log(u0/v0)` the mirror image of the centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from ._derivation import Derivation
from ._network import SymbolicNetwork

__all__ = ["Dual", "dual", "flow_curvature"]


@dataclass(frozen=True)
class Dual:
    """Proved expressions of one coordinate, in the scale a, the mirror images w of beta and h of the centre.

    Attributes
    ----------
    a, w, h : sympy.Symbol
    beta, size : sympy.Expr
        `u^2 - v^2` and `u^2 + v^2` in a and w.
    conjugate : sympy.Expr
        Conjugate of the potential at the slope w/4.
    divergence : sympy.Expr
        Bregman divergence of the point with mirror image w from the centre with mirror image h.
    """

    a: sp.Symbol
    w: sp.Symbol
    h: sp.Symbol
    beta: sp.Expr
    size: sp.Expr
    conjugate: sp.Expr
    divergence: sp.Expr


def dual(d: Derivation, a: sp.Symbol) -> Dual:
    """Prove the conjugate, its slope and curvature, the divergence, and that the dual problem has no gap."""
    w, h, s = sp.symbols("w h s", real=True)
    beta, size = 2 * a**2 * sp.sinh(w), 2 * a**2 * sp.cosh(w)
    d.assume("w stands for the mirror image asinh(b/(2 a_t^2)) of a point b, h for that of the centre")
    d.by_differentiation("Mirror image", "beta = 2 a^2 sinh(w), so 4 times the slope of the potential is w",
                         sp.asinh(beta / (2 * a**2)), w, w, sp.S.Zero)
    d.equal("The root in the potential", "cosh^2 = 1 + sinh^2", beta**2 + 4 * a**4, size**2)

    def value(mirror: sp.Symbol) -> sp.Expr:
        return (beta * w - size + 2 * a**2).subs(w, mirror) / 4

    conjugate = a**2 / 2 * (sp.cosh(w) - 1)
    d.equal("Conjugate of the potential", "phi*(w/4) = beta w/4 - phi(beta), the potential in w by the two steps before",
            beta * w / 4 - value(w), conjugate)
    d.equal("Its slope is beta", "differentiation in s = w/4",
            sp.Derivative(conjugate.subs(w, 4 * s), s), beta.subs(w, 4 * s))
    u, v = a * sp.exp(2 * s), a * sp.exp(-2 * s)
    d.equal("Its curvature is 4 (u^2 + v^2)", "differentiation in s; u v = a^2 and log(u/v) = w = 4 s",
            sp.Derivative(conjugate.subs(w, 4 * s), (s, 2)), 4 * (u**2 + v**2))
    divergence = (beta * (w - h) - (size - size.subs(w, h))) / 4
    d.equal("The Bregman divergence in mirror images", "its definition; the slope at the centre is h/4",
            value(w) - value(h) - h / 4 * (beta - beta.subs(w, h)), divergence)
    d.equal("No gap", "w - h = 4 X^T nu and X beta = y: the first terms sum to nu.y",
            divergence, (w - h) / 4 * beta - (conjugate - conjugate.subs(w, h)))
    d.conclude("nu with X beta = y maximises y.nu - sum [phi*(w/4) - phi*(h/4)] over nu, w = h + 4 X^T nu: this is "
               "concave, its gradient is y - X beta and its Hessian -4 X diag(u^2 + v^2) X^T, and its value is the least "
               "divergence")
    return Dual(a, w, h, beta, size, conjugate, divergence)


def flow_curvature(d: Derivation, net: SymbolicNetwork) -> sp.Matrix:
    """Prove the Jacobian of `nu' = r/(2N)` of gradient flow, `p = X^T nu'`: `-(2/N) X diag(u^2 + v^2) X^T`; return it.

    Its symbols are the data and the weights u, v at the state in question; nu is measured from that state.
    """
    nus = sp.symbols(f"nu_1:{net.n_samples + 1}", real=True)
    shifts = [4 * x for x in net.X.T * sp.Matrix(nus)]
    betas = [u**2 * sp.exp(-shift) - v**2 * sp.exp(shift) for u, v, shift in zip(net.u, net.v, shifts, strict=True)]
    rates = (net.X * sp.Matrix(betas) - net.y) / (2 * net.n_samples)
    sizes = sp.diag(*(u**2 + v**2 for u, v in zip(net.u, net.v, strict=True)))
    claimed = -sp.Rational(2, net.n_samples) * net.X * sizes * net.X.T
    d.assume("nu with int p = X^T nu, measured from the state in question: u -> u exp(-2 X^T nu), v -> v exp(2 X^T nu)")
    at_state = dict.fromkeys(nus, 0)
    d.equal("Curvature of gradient flow in nu", "differentiation of nu' = r/(2N)",
            sp.Matrix([sp.diff(rate, nu).subs(at_state) for rate in rates for nu in nus]), sp.Matrix(list(claimed)))
    return claimed
