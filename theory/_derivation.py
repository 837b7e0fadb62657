"""Derivations that run: a list of steps, each an identity that sympy has proved.

A step enters a derivation only through `Derivation.equal`, `by_differentiation`, `by_series` or `positive`.
Each of them proves what it is given, there and then, and raises `DerivationError` naming the step if sympy cannot. So a
derivation that exists is a derivation that was checked; its text is only a view of it.

Long expressions are abbreviated by `Derivation.define`. A proof always works on the expressions with every
abbreviation written out, down to the data, the weights and the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from ._render import text, to_latex, to_text

__all__ = ["Definition", "Derivation", "DerivationError", "Step", "text", "vanishes"]


class DerivationError(ValueError):
    """A step of a derivation that sympy could not prove."""


def _vanishes_as_polynomial(expression: sp.Expr) -> bool | None:
    """Decide an identity of polynomials, also in inverses of symbols: fast even with thousands of terms.

    Functions, derivatives, integrals and other powers are taken for symbols of their own. So True is a proof; False is
    a disproof, returned only where nothing was so taken; None is neither.
    """
    generators: dict[sp.Basic, sp.Basic] = {}
    opaque = False
    inverses: dict[sp.Symbol, sp.Symbol] = {}
    for node in sp.preorder_traversal(expression):
        if isinstance(node, (sp.Function, sp.Derivative, sp.Integral)):
            generators.setdefault(node, sp.Dummy())
            opaque = True
        elif isinstance(node, sp.Pow) and not (node.exp.is_Integer and node.exp > 0):
            if node.base.is_Symbol and node.exp.is_Integer:
                generators[node] = inverses.setdefault(node.base, sp.Dummy()) ** -node.exp
            else:
                generators.setdefault(node, sp.Dummy())
                opaque = True
    plain = expression.xreplace(generators)
    symbols = sorted(plain.free_symbols | set(inverses) | set(inverses.values()), key=str)
    if not symbols:
        return bool(sp.expand(plain) == 0) or None
    try:
        terms = sp.ring(symbols, sp.QQ)[0].from_expr(plain).terms()
    except ValueError:
        return None
    place = {symbol: index for index, symbol in enumerate(symbols)}
    collected: dict[tuple[int, ...], sp.Rational] = {}
    for powers, coefficient in terms:
        exponents = list(powers)
        for symbol, inverse in inverses.items():
            exponents[place[symbol]] -= exponents[place[inverse]]
            exponents[place[inverse]] = 0
        collected[tuple(exponents)] = collected.get(tuple(exponents), 0) + coefficient
    if not any(collected.values()):
        return True
    return None if opaque else False


def _generalise(expression: sp.Expr) -> sp.Expr:
    """Replace the real arguments of sinh and cosh by plain symbols: more is proved, and sympy simplifies it better."""
    arguments = {f.args[0] for f in expression.atoms(sp.sinh, sp.cosh) if f.args[0].is_real}
    return expression.xreplace({argument: sp.Dummy(real=True) for argument in arguments})


def vanishes(expression: sp.Expr) -> bool:
    """Say whether sympy reduces an expression to the structural zero.

    Parameters
    ----------
    expression : sympy.Expr
        The difference of two sides of an equation.

    Returns
    -------
    bool
        True if one of several simplifications ends in 0. False means "not proved", not "wrong".
    """
    expression = sp.sympify(expression)
    verdict = True if expression == 0 else _vanishes_as_polynomial(expression)
    if verdict is not None:
        return verdict
    attempts = (
        sp.expand,
        lambda e: sp.expand(sp.expand_log(e)),
        lambda e: sp.expand(e.rewrite(sp.exp)),
        lambda e: sp.simplify(_generalise(e)),
        lambda e: sp.simplify(sp.expand(e.rewrite(sp.exp))),
        lambda e: sp.simplify(e.rewrite(sp.log)),
    )
    return any(attempt(expression) == 0 for attempt in attempts)


def _expand(expression: sp.Expr, variable: sp.Symbol, order: int) -> sp.Expr:
    """Give the series at 0 below an order; for polynomials by differentiation, where `sympy.series` would crawl."""
    if expression.is_polynomial(variable):
        return sp.Add(*(sp.diff(expression, variable, k).subs(variable, 0) * variable**k / sp.factorial(k)
                        for k in range(order)))
    return sp.series(expression, variable, 0, order).removeO().doit()


@dataclass(frozen=True)
class Definition:
    """An abbreviation: a symbol (or a function), its value, what that means, the value written out, the step it comes with."""

    symbol: sp.Expr
    value: sp.Expr
    meaning: str
    expanded: sp.Expr
    step: int


@dataclass(frozen=True)
class Step:
    """One proved step.

    Attributes
    ----------
    title : str
        What the step shows.
    rule : str
        The rule of mathematics it uses, in words.
    lhs, rhs : sympy.Expr or sympy.Matrix
        The two sides.
    relation : {"=", ">"}
        How they are related.
    proof : str
        What sympy reduced to zero, or what it found positive.
    """

    title: str
    rule: str
    lhs: sp.Expr
    rhs: sp.Expr
    relation: str
    proof: str

    @property
    def equation(self) -> sp.Basic:
        """The step as a sympy relation, not evaluated."""
        relation = sp.Eq if self.relation == "=" else sp.Gt
        return relation(self.lhs, self.rhs, evaluate=False)


class Derivation:
    """A proof in steps, from the loss and the weights to a law.

    Parameters
    ----------
    key : str
        The theorem it belongs to.
    title : str
        What is derived.
    """

    def __init__(self, key: str, title: str) -> None:
        self.key = key
        self.title = title
        self.assumptions: list[str] = []
        self._assumed_at: list[int] = []
        self.definitions: list[Definition] = []
        self.steps: list[Step] = []
        self.conclusions: list[str] = []

    def assume(self, words: str) -> None:
        """Record an assumption in words."""
        if words not in self.assumptions:
            self.assumptions.append(words)
            self._assumed_at.append(len(self.steps) + 1)

    def assumed_before(self, step: int) -> list[str]:
        """List the assumptions that come with a step; those with step 1 were made at the outset."""
        return [words for words, at in zip(self.assumptions, self._assumed_at, strict=True) if at == step]

    def definitions_by_step(self) -> dict[int, list[Definition]]:
        """Sort the abbreviations by the step in which each is first used, itself or in another abbreviation used there."""
        used = [step.lhs.free_symbols | step.rhs.free_symbols for step in self.steps]
        first: dict[sp.Basic, int] = {}
        for known in reversed(self.definitions):  # an abbreviation occurs only in later ones
            place = known.step  # a law of motion or a value at a point is used unseen
            if known.symbol.is_Symbol:
                places = [number for number, symbols in enumerate(used, 1) if known.symbol in symbols]
                places += [first[other.symbol] for other in self.definitions if known.symbol in other.value.free_symbols]
                place = max(known.step, min(places, default=known.step))
            first[known.symbol] = place
        return {number: [known for known in self.definitions if first[known.symbol] == number]
                for number in range(1, len(self.steps) + 1)}

    def conclude(self, words: str) -> None:
        """Record, in words, what the steps amount to."""
        self.conclusions.append(words)

    def define(self, symbol: sp.Expr, value: sp.Expr, meaning: str) -> sp.Expr:
        """Abbreviate an expression; later steps may use the symbol.

        Parameters
        ----------
        symbol : sympy.Expr
            A fresh symbol, an applied function, or the derivative of one (then this is its differential equation).
        value : sympy.Expr
            What it stands for; may contain earlier symbols.
        meaning : str
            In words.

        Returns
        -------
        sympy.Expr
            The symbol.
        """
        value = sp.sympify(value)
        for known in self.definitions:
            if known.symbol == symbol:
                if known.value != value:
                    raise DerivationError(f"{self.key}: {text(symbol)} is defined twice, and not alike")
                return symbol
        self.definitions.append(Definition(symbol, value, meaning, self.write_out(value), len(self.steps) + 1))
        return symbol

    def write_out(self, expression: sp.Basic) -> sp.Basic:
        """Replace every abbreviation by what it stands for, down to data, weights and time."""
        return expression.xreplace({known.symbol: known.expanded for known in self.definitions})

    def _evaluate(self, expression: sp.Basic) -> sp.Basic:
        """Write out, carry out derivatives and integrals, and write out what they brought forth (`du/dt`)."""
        return self.write_out(self.write_out(expression).doit())

    def equal(self, title: str, rule: str, lhs: sp.Basic, rhs: sp.Basic) -> None:
        """Add the step `lhs = rhs` (expressions or matrices), proved by reducing the difference to 0."""
        lhs, rhs = sp.sympify(lhs), sp.sympify(rhs)
        for left, right in self._pairs(title, lhs, rhs):
            self._demand(title, self._evaluate(left) - self._evaluate(right), "lhs - rhs")
        self._add(title, rule, lhs, rhs, "=", "lhs - rhs = 0")

    def by_differentiation(
        self, title: str, rule: str, lhs: sp.Basic, rhs: sp.Basic, variable: sp.Symbol, start: sp.Expr
    ) -> None:
        """Add the step `lhs = rhs`, proved by equal derivatives in `variable` and equal values at `variable = start`.

        The variable is real and both sides are differentiable on the interval in question; that is on the author.
        """
        lhs, rhs = sp.sympify(lhs), sp.sympify(rhs)
        for left, right in self._pairs(title, lhs, rhs):
            difference = self.write_out(left) - self.write_out(right)
            slope = self.write_out(sp.diff(difference, variable))
            self._demand(title, slope, f"d/d{variable}(lhs - rhs)")
            at_start = self.write_out(difference.subs(variable, start).doit())
            self._demand(title, at_start, f"lhs - rhs at {variable} = {start}")
        proof = f"d/d{variable}(lhs - rhs) = 0 and lhs = rhs at {variable} = {text(start)}"
        self._add(title, rule, lhs, rhs, "=", proof)

    def by_series(self, title: str, rule: str, lhs: sp.Expr, rhs: sp.Expr, variable: sp.Symbol, order: int) -> None:
        """Add the step `lhs = rhs + O(variable^order)`, proved by sympy's series of `lhs` at `variable = 0`.

        Written out, `lhs` is to be smooth in `variable` near 0; `rhs` is a polynomial in it of degree below `order`.
        """
        lhs, rhs = sp.sympify(lhs), sp.sympify(rhs)
        for left, right in self._pairs(title, lhs, rhs):
            claimed = self._evaluate(right)
            if sp.degree(claimed, variable) >= order:
                raise DerivationError(f"{self.key}, step {title!r}: the expansion claims terms beyond O({variable}^{order})")
            found = _expand(self._evaluate(left), variable, order)
            self._demand(title, found - claimed, f"the series of lhs in {variable} less rhs")
        rest = sp.Order(variable**order)
        with_rest = (rhs.applyfunc(lambda entry: sp.Add(entry, rest, evaluate=False)) if isinstance(rhs, sp.MatrixBase)
                     else sp.Add(rhs, rest, evaluate=False))
        self._add(title, rule, lhs, with_rest, "=", f"the series of lhs in {variable} up to order {order - 1} is rhs")

    def positive(self, title: str, rule: str, expression: sp.Expr) -> None:
        """Add the step `expression > 0`, proved from the signs of the symbols in it."""
        expression = sp.sympify(expression)
        if self.write_out(expression).is_positive is not True:
            raise DerivationError(f"{self.key}, step {title!r}: sympy does not find {text(expression)} positive")
        self._add(title, rule, expression, sp.S.Zero, ">", "positive for all values of its symbols")

    def _pairs(self, title: str, lhs: sp.Basic, rhs: sp.Basic) -> list[tuple[sp.Expr, sp.Expr]]:
        if not isinstance(lhs, sp.MatrixBase) and not isinstance(rhs, sp.MatrixBase):
            return [(lhs, rhs)]
        if getattr(lhs, "shape", None) != getattr(rhs, "shape", None):
            raise DerivationError(f"{self.key}, step {title!r}: the two sides have different shapes")
        return list(zip(lhs, rhs, strict=True))

    def _demand(self, title: str, expression: sp.Expr, name: str) -> None:
        if not vanishes(expression):
            raise DerivationError(f"{self.key}, step {title!r}: sympy does not reduce {name} to zero")

    def _add(self, title: str, rule: str, lhs: sp.Basic, rhs: sp.Basic, relation: str, proof: str) -> None:
        self.steps.append(Step(title, rule, lhs, rhs, relation, proof))

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Render as plain text: assumptions, then every step with what it abbreviates, its rule and its proof."""
        return to_text(self)

    def to_latex(self) -> str:
        """Render as LaTeX: a fragment that needs the package amsmath and nothing else."""
        return to_latex(self)
