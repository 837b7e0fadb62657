"""Read a map from a user: an expression of one weight, or of two weights that separates."""

from __future__ import annotations

import re
from typing import Any

import sympy as sp

from ._closed_forms import proved_zero
from ._derivation import text

__all__ = ["read_map", "separate"]

#: What a map in text may contain: names, numbers and arithmetic. sympy evaluates text, so nothing else may reach it.
ALLOWED = re.compile(r"[A-Za-z0-9_+\-*/(). ]+\Z")


def _parse(words: str) -> sp.Expr:
    if not ALLOWED.match(words) or "__" in words or re.search(r"\.\s*[A-Za-z_]", words):
        raise ValueError(f"u_map {words!r} is not an expression of a weight, such as 'u**3' or 'log(1 + exp(u))'")
    names = {name: sp.Symbol(name) for name in re.findall(r"[A-Za-z_]\w*", words) if not hasattr(sp, name) or len(name) == 1}
    try:
        return sp.sympify(words, locals=names, rational=True)
    except (sp.SympifyError, TypeError, AttributeError, SyntaxError) as error:
        raise ValueError(f"u_map {words!r} cannot be read: write it as for Python, such as 'u**3' or 'exp(u)'") from error


def read_map(u_map: Any) -> tuple[sp.Expr, list[sp.Symbol], dict[sp.Symbol, tuple[sp.Expr, sp.Symbol]]]:
    """Read a map and tell its weights from its parameters.

    Returns
    -------
    expression : sympy.Expr
        With positive parameters; an exponent D is written `m + 2`.
    weights : list of sympy.Symbol
        One or two.
    names_back : dict
        For every parameter: its value in the user's symbol, and that symbol.
    """
    expression = _parse(u_map) if isinstance(u_map, str) else sp.sympify(u_map)
    if not isinstance(expression, sp.Expr) or not expression.free_symbols:
        raise ValueError(f"u_map must be an expression of a weight, such as u**3, got {u_map!r}")
    symbols = sorted(expression.free_symbols, key=str)
    if len(symbols) == 1:
        weights = symbols
    else:
        weights = [symbol for symbol in symbols if symbol.name in ("u", "v")] or [
            symbol for symbol in symbols if symbol.name == "w"]
    if not weights:
        raise ValueError(f"u_map {text(expression)} has the symbols {', '.join(map(str, symbols))}: call the weight u")
    exponents = {symbol for power in expression.atoms(sp.Pow) if power.base in weights for symbol in power.exp.free_symbols}
    names_back: dict[sp.Symbol, tuple[sp.Expr, sp.Symbol]] = {}
    for symbol in symbols:
        if symbol in weights:
            continue
        if symbol in exponents:
            own = sp.Symbol("m" if symbol.name != "m" else "n", positive=True)
            expression = expression.subs(symbol, own + 2)
            names_back[own] = (symbol - 2, symbol - 2)
        else:
            own = sp.Symbol(symbol.name, positive=True)
            expression = expression.subs(symbol, own)
            names_back[own] = (symbol, symbol)
    return expression, weights, names_back


def separate(expression: sp.Expr, u: sp.Symbol, v: sp.Symbol) -> tuple[sp.Expr, sp.Symbol, sp.Rational, str]:
    """Write a function of two weights as `f(u) - f(v)`, in them or in half their sum and difference.

    Returns
    -------
    f : sympy.Expr
    weight : sympy.Symbol
        The symbol in f.
    rate : sympy.Rational
        Rates of the new weights: the rotation halves them.
    remark : str
        What was done, in words.

    Raises
    ------
    ValueError
        If neither form fits.
    """
    w, plus, minus = sp.symbols("w w_+ w_-")
    for at, rate, remark in (
        ({u: plus, v: minus}, sp.S.One, ""),
        ({u: plus + minus, v: plus - minus}, sp.S.Half,
         f"the weights are w_+ = ({u} + {v})/2 and w_- = ({u} - {v})/2, called u and v below; they move at half the rate, and "
         "alpha is their start: v(0) = 0 before the rotation"),
    ):
        rotated = sp.expand(expression.subs(at, simultaneous=True))
        part = rotated.subs({plus: w, minus: 0}) - rotated.subs({plus: 0, minus: 0})
        if part.is_finite is not False and not part.has(sp.nan, sp.zoo) and proved_zero(
                rotated - part.subs(w, plus) + part.subs(w, minus)):
            return part, w, rate, remark
    raise ValueError(f"{text(expression)} is not f(u) - f(v), neither in {u} and {v} nor in their sum and difference: its flow "
                     "does not reduce to a separable form, and no potential is derived")
