"""Closed forms for a reparametrisation: antiderivatives and inverses that sympy finds, each verified before it is used.

Targeted forms are tried first (powers, exponentials, quadratics in a generator), sympy's general routines after them and
within a budget. What is returned has been tested; None means that no closed form was found, and numbers take over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sympy as sp

from ._budget import STEPS, within
from ._derivation import vanishes

__all__ = ["ClosedForms", "antiderivative", "find", "proved_zero", "real_logarithms", "shortest", "solve_mirror", "tidy"]

#: Where candidates are compared as numbers before sympy is asked for a proof.
PROBES = (sp.Rational(7, 10), sp.Rational(13, 10))

#: An inverse of more operations is of no use.
LONGEST = 12


@dataclass(frozen=True)
class ClosedForms:
    """What is known in closed form of a map `b = f(w)`.

    Attributes
    ----------
    travel : sympy.Expr or None
        `F(w)`, an antiderivative of `1/f'`.
    travel_of_value : sympy.Expr or None
        `G(b) = F(w)` where `f(w) = b`.
    value : sympy.Expr or None
        Its inverse: `b = value(x)` where `G(b) = x`.
    value_integral : sympy.Expr or None
        An antiderivative of it.
    b, x : sympy.Symbol
    """

    travel: sp.Expr | None
    travel_of_value: sp.Expr | None
    value: sp.Expr | None
    value_integral: sp.Expr | None
    b: sp.Symbol
    x: sp.Symbol


def proved_zero(expression: sp.Expr) -> bool:
    """Say whether sympy proves within the budget that an expression is 0."""
    return within(4 * STEPS, vanishes, expression) is True


def tidy(expression: sp.Expr) -> sp.Expr:
    """Simplify within the budget, or leave as it is; never make it longer."""
    simple = within(STEPS, sp.simplify, expression)
    return expression if simple is None or sp.count_ops(simple) > sp.count_ops(expression) else simple


def shortest(expression: sp.Expr) -> sp.Expr:
    """Find the shortest of several forms, within the budget."""
    def hyperbolic(e: sp.Expr) -> sp.Expr:
        return sp.factor_terms(sp.expand(sp.expand(e).replace(sp.exp, lambda x: sp.cosh(x) + sp.sinh(x))))

    forms = [expression]
    for change in (sp.simplify, sp.expand, hyperbolic, lambda e: sp.factor_terms(sp.expand(e))):
        form = within(STEPS // 3, change, expression)
        if form is not None and not form.has(sp.I):
            forms.append(form)
    return min(forms, key=sp.count_ops)


def real_logarithms(expression: sp.Expr, at: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """Write `log(-x)` for `log(x)` where x is negative at a point: another antiderivative, and a real one."""
    at = at | {p: sp.Rational(4, 3) for p in expression.free_symbols - set(at)}

    def turned(argument: sp.Expr) -> sp.Expr:
        number = sp.N(argument.subs(at))
        return sp.log(-argument) if number.is_number and number.is_negative else sp.log(argument)

    return expression.replace(sp.log, turned)


def _split_power(expression: sp.Expr, symbol: sp.Symbol) -> tuple[sp.Expr, sp.Expr] | None:
    """Write an expression as `c * symbol^k`."""
    c, rest = sp.powsimp(expression).as_independent(symbol, as_Add=False)
    base, exponent = rest.as_base_exp()
    if rest == 1 or base != symbol or exponent.has(symbol):
        return None
    return c, exponent


def antiderivative(expression: sp.Expr, symbol: sp.Symbol) -> sp.Expr | None:
    """Integrate, or return None; the derivative of what is returned is proved to be the expression."""
    power = _split_power(expression, symbol)
    if power is not None:
        c, k = power[0], sp.simplify(power[1] + 1)
        return c * sp.log(symbol) if k == 0 else sp.simplify(c / k) * symbol**k
    for form in (expression, expression.rewrite(sp.exp)):
        found = within(STEPS, sp.integrate, form, symbol)
        if found is None or found.has(sp.Integral, sp.Piecewise, sp.I):
            continue
        if proved_zero(sp.diff(found, symbol) - expression):
            return found
    return None


def _inverses(expression: sp.Expr, symbol: sp.Symbol, target: sp.Symbol) -> Iterator[sp.Expr]:
    """Solve `expression = target` for the symbol."""
    power = _split_power(expression, symbol)
    if power is not None:
        yield (target / power[0]) ** sp.simplify(1 / power[1])
        return
    if isinstance(expression, sp.sinh) and expression.args[0] == symbol:
        yield sp.asinh(target)
        return
    for found in within(STEPS, sp.solve, expression - target, symbol) or ():
        # Roots within roots (Cardano) lead nowhere: neither 1/f'^2 nor what follows has a closed form that anyone would read.
        if not found.has(sp.LambertW) and sp.count_ops(found) <= LONGEST:
            yield found


def _right_branch(expression: sp.Expr, symbol: sp.Symbol, target: sp.Symbol,
                  probes: tuple[sp.Expr, ...]) -> sp.Expr | None:
    """Pick the inverse that leads back from the probes, values of the symbol."""
    for candidate in _inverses(expression, symbol, target):
        if all(_close(candidate.subs(target, expression.subs(symbol, probe)), probe) for probe in probes):
            return candidate
    return None


def _close(expression: sp.Expr, value: sp.Expr) -> bool:
    """Compare at one value per parameter; a filter before proofs, no proof."""
    difference = (expression - value).subs({p: sp.Rational(4, 3) for p in expression.free_symbols})
    number = sp.N(difference, 30)
    return bool(number.is_number and abs(number) < sp.Float("1e-20"))


def find(f: sp.Expr, w: sp.Symbol, probes: tuple[sp.Expr, ...] = PROBES) -> ClosedForms:
    """Look for the closed forms of a map.

    Parameters
    ----------
    f : sympy.Expr
        In the weight.
    w : sympy.Symbol
        The weight, with its assumptions.
    probes : tuple of sympy.Expr
        Values of the weight inside its interval.

    Returns
    -------
    ClosedForms
    """
    b = sp.Symbol("b", positive=True) if f.is_positive else sp.Symbol("b", real=True)
    x = sp.Symbol("x", real=True)
    slope = sp.diff(f, w)
    travel_of_value = value = value_integral = None
    inverse = within(STEPS, _right_branch, f, w, b, probes)
    if inverse is not None:
        travel_of_value = _of_value(slope, w, inverse, b)
    travel = None
    if travel_of_value is not None:
        travel = travel_of_value.subs(b, f)
        travel = sp.expand_log(sp.powdenest(travel), force=False)
        if not proved_zero(sp.diff(travel, w) - 1 / slope):
            travel = travel_of_value = None
    if travel is None:
        travel = antiderivative(1 / slope, w)
    if travel is not None:
        travel = real_logarithms(travel, {w: probes[0]})
    if travel_of_value is not None:
        travel_of_value = real_logarithms(travel_of_value, {b: f.subs(w, probes[0])})
    if travel_of_value is not None:
        value = within(STEPS, _right_branch, travel_of_value, b, x, tuple(f.subs(w, probe) for probe in probes))
        # value' = f'(w)^2 = 1/G'(value), and value(G(b)) = b: the former is used in every proof, so prove the latter.
        if value is not None and not proved_zero(_positive_powers(value.subs(x, travel_of_value)) - b):
            value = None
    if value is not None:
        value_integral = _integral_of_value(value, x)
        if value_integral is not None and travel is not None:
            value_integral = real_logarithms(value_integral, {x: travel.subs(w, probes[0])})
    return ClosedForms(travel, travel_of_value, value, value_integral, b, x)


def _positive_powers(expression: sp.Expr) -> sp.Expr:
    return sp.powdenest(sp.powsimp(expression), force=False)


def _of_value(slope: sp.Expr, w: sp.Symbol, inverse: sp.Expr, b: sp.Symbol) -> sp.Expr | None:
    """Give `G(b)`, from `G' = 1/f'^2` as a function of the value."""
    squared = slope.subs(w, inverse) ** 2
    for form in (squared, squared.rewrite(sp.exp)):
        simple = within(STEPS, lambda form=form: sp.powsimp(sp.simplify(form)))
        if simple is None:
            continue
        found = antiderivative(sp.powsimp(1 / simple), b)
        if found is not None:
            return found
    return None


def _integral_of_value(value: sp.Expr, x: sp.Symbol) -> sp.Expr | None:
    base, exponent = value.as_independent(x, as_Add=False)[1].as_base_exp()
    if base.is_polynomial(x) and sp.degree(base, x) == 1 and not exponent.has(x) and sp.simplify(exponent + 1) != 0:
        return sp.simplify(1 / ((exponent + 1) * sp.diff(base, x))) * value * base
    return antiderivative(value, x)


def solve_mirror(mirror: sp.Expr, s: sp.Symbol, beta: sp.Symbol, check: Callable[[sp.Expr], bool]) -> sp.Expr | None:
    """Solve `mirror(s) = beta` where that is a quadratic in s or in an exponential of it.

    Parameters
    ----------
    mirror : sympy.Expr
        Odd and increasing in s.
    s, beta : sympy.Symbol
    check : callable
        Says of a candidate whether it is the branch through 0.

    Returns
    -------
    sympy.Expr or None
    """
    y = sp.Dummy("y", positive=True)
    if isinstance(mirror, sp.Mul):
        outer, inner = mirror.as_independent(s, as_Add=False)
        if isinstance(inner, sp.sinh):
            return sp.asinh(beta / outer) / sp.diff(inner.args[0], s)
    expanded = within(STEPS, lambda: sp.together(sp.expand_trig(mirror)))
    if expanded is None:
        return None
    for generator in [s, *sorted(expanded.atoms(sp.exp), key=sp.count_ops)]:
        rest = expanded.subs(generator, y)
        if not generator.has(s) or rest.has(s):
            continue
        numerator = sp.numer(sp.together(rest - beta))
        if not numerator.is_polynomial(y) or sp.degree(numerator, y) > 2:
            continue
        numerator = sp.expand(numerator)
        a, b, c = (sp.simplify(numerator.coeff(y, k)) for k in (2, 1, 0))
        for sign in (1, -1):
            # The form without cancellation, finite where beta = 0.
            root = -2 * c / (b + sign * sp.sqrt(b**2 - 4 * a * c)) if a != 0 else -c / b
            candidate = _undo(generator, root, s)
            if candidate is not None and check(candidate):
                return candidate
    return None


def _undo(generator: sp.Expr, root: sp.Expr, s: sp.Symbol) -> sp.Expr | None:
    if generator == s:
        return root
    rate = sp.diff(generator.args[0], s)
    if rate.has(s) or sp.simplify(generator.args[0] - rate * s) != 0:
        return None
    return sp.log(root) / rate
