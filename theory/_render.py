"""Derivations as text to be read at a terminal, and as LaTeX to be pasted into a paper.

Both follow the order of the proof: what is assumed at the outset; then, step by step, what is assumed or abbreviated from
there on, the formula, the rule of mathematics that it uses, and what sympy proved.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import sympy as sp
from sympy.printing.str import StrPrinter

if TYPE_CHECKING:
    from ._derivation import Derivation, Step

__all__ = ["text", "to_latex", "to_text"]

WIDTH = 110

#: Longer formulas of LaTeX are broken before a term.
LATEX_WIDTH = 110


class _TextPrinter(StrPrinter):
    """One-line mathematics: `^` for powers, `d/dt` for derivatives, `Integral(f, s=a..b)`, `[f] at b = c`."""

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        return super()._print_Pow(expr, rational=rational).replace("**", "^")

    def _print_Derivative(self, expr: sp.Derivative) -> str:
        name = "".join(f"d/d{self._print(symbol)} " if count == 1 else f"d^{count}/d{self._print(symbol)}^{count} "
                       for symbol, count in expr.variable_count)
        inner = self._print(expr.expr)
        return f"{name}{inner}" if isinstance(expr.expr, (sp.Function, sp.Symbol)) else f"{name}({inner})"

    def _print_Integral(self, expr: sp.Integral) -> str:
        variable, lower, upper = expr.limits[0]
        bounds = f"{self._print(lower)}..{self._print(upper)}"
        return f"Integral({self._print(expr.function)}, {self._print(variable)}={bounds})"

    def _print_Subs(self, expr: sp.Subs) -> str:
        points = ", ".join(f"{self._print(variable)} = {self._print(value)}"
                           for variable, value in zip(expr.variables, expr.point, strict=True))
        return f"[{self._print(expr.expr)}] at {points}"

    def _print_Limit(self, expr: sp.Limit) -> str:
        function, variable, point = expr.args[:3]
        return f"limit of {self._print(function)} as {self._print(variable)} -> {self._print(point)}"


def text(expression: sp.Basic) -> str:
    """Write a sympy expression in one line of plain text."""
    if isinstance(expression, sp.MatrixBase):
        return "[" + ", ".join(text(entry) for entry in expression) + "]"
    return _TextPrinter().doprint(expression)


def _rows(step: Step) -> list[tuple[sp.Expr, sp.Expr]]:
    if isinstance(step.lhs, sp.MatrixBase):
        return list(zip(step.lhs, step.rhs, strict=True))
    return [(step.lhs, step.rhs)]


# --- text ------------------------------------------------------------------------------------------------------------


def to_text(derivation: Derivation) -> str:
    """Render a derivation as plain text."""
    heading = f"{derivation.key}. {derivation.title}"
    lines = [heading, "=" * len(heading), "", "Assumptions", ""]
    lines += [line for words in derivation.assumed_before(1) for line in _wrap(words, "  - ", "    ")] + [""]
    defined = derivation.definitions_by_step()
    for number, step in enumerate(derivation.steps, 1):
        margin = " " * len(f"{number}. ")
        lines.append(f"{number}. {step.title}")
        if number > 1:
            lines += [line for words in derivation.assumed_before(number)
                      for line in _wrap(f"From here on: {words}.", margin, margin + "  ")]
        lines += [line for d in defined[number]
                  for line in _formula(text(d.symbol), ":=", f"{text(d.value)}    ({d.meaning})", margin + "  ")]
        lines.append("")
        lines += [line for lhs, rhs in _rows(step) for line in _formula(text(lhs), step.relation, text(rhs), margin + "    ")]
        lines += ["", *_wrap(f"Rule: {step.rule}.", margin, margin + "  "),
                  *_wrap(f"Proved by sympy: {step.proof}.", margin, margin + "  "), ""]
    for words in derivation.conclusions:
        lines += [*_wrap(f"Hence {words}.", "", ""), ""]
    lines.append(f"{len(derivation.steps)} steps, all proved.")
    return "\n".join(lines)


def _wrap(words: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False,
                         break_on_hyphens=False)


def _formula(lhs: str, relation: str, rhs: str, indent: str) -> list[str]:
    """Write `lhs relation rhs` in one line if it fits, else broken before the relation and between terms."""
    one = f"{indent}{lhs} {relation} {rhs}"
    if len(one) <= WIDTH:
        return [one]
    more = indent + "        "
    if len(lhs) < 12:
        return _wrap(f"{lhs} {relation} {rhs}", indent, more)
    return _wrap(lhs, indent, more) + _wrap(f"{relation} {rhs}", indent + "    ", more)


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def to_latex(derivation: Derivation) -> str:
    """Render a derivation as LaTeX: a fragment that needs the package amsmath and nothing else."""
    lines = ["% needs \\usepackage{amsmath}", rf"\paragraph{{{derivation.key}. {_words(derivation.title)}.}}"]
    lines += _itemize(_words(words) for words in derivation.assumed_before(1))
    lines.append(r"\begin{enumerate}")
    defined = derivation.definitions_by_step()
    for number, step in enumerate(derivation.steps, 1):
        lines.append(rf"\item \textbf{{{_words(step.title)}.}}")
        if number > 1:
            lines += [f"From here on: {_words(words)}." for words in derivation.assumed_before(number)]
        if defined[number]:
            lines.append("Abbreviate")
            lines += _align((d.symbol, d.value) for d in defined[number])
            meanings = dict.fromkeys(d.meaning for d in defined[number])
            lines.append(f"({_words('; '.join(meanings))}). Then")
        lines += _align(_rows(step), step.relation)
        lines.append(f"Rule: {_words(step.rule)}. Proved by sympy: {_words(step.proof)}.")
    lines.append(r"\end{enumerate}")
    return "\n".join(lines) + "\n" + "\n\n".join(f"Hence {_words(words)}." for words in derivation.conclusions)


def _itemize(items: Iterable[str]) -> list[str]:
    return [r"\begin{itemize}", *(rf"\item {item}" for item in items), r"\end{itemize}"]


def _align(rows: Iterable[tuple[sp.Expr, sp.Expr]], relation: str = "=") -> list[str]:
    """Set formulas below each other; long ones are broken before the relation and before terms."""
    broken = [line for lhs, rhs in rows for line in _broken(lhs, rhs, relation)]
    return [r"\begin{align*}", *(line + r" \\" for line in broken[:-1]), broken[-1], r"\end{align*}"]


def _broken(lhs: sp.Expr, rhs: sp.Expr, relation: str) -> Iterator[str]:
    left, right = _lines(lhs), _lines(rhs)
    if len(left) > 1 or len(left[0]) > LATEX_WIDTH:
        yield "& " + left[0]
        yield from (rf"& \quad {line}" for line in left[1:])
        yield rf"& \qquad {relation} {right[0]}"
    else:
        yield f"{left[0]} &{relation} {right[0]}"
    yield from (rf"& \qquad\quad {line}" for line in right[1:])


def _lines(expression: sp.Expr) -> list[str]:
    """Write an expression, a long sum in several lines, each of whole terms."""
    whole = _latex(expression)
    if not isinstance(expression, sp.Add) or len(whole) <= LATEX_WIDTH:
        return [whole]
    lines = [""]
    for term in expression.as_ordered_terms():
        written = _latex(term)
        signed = written if written.startswith("-") or lines == [""] else f"+ {written}"
        if lines[-1] and len(lines[-1]) + len(signed) > LATEX_WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {signed}".strip()
    return lines


def _latex(expression: sp.Basic) -> str:
    names = {symbol: f"{found[1]}_{{\\mathrm{{{found[2]}}},{found[3].replace('_', ' ')}}}"
             for symbol in expression.free_symbols if (found := _MOVED.match(symbol.name))}
    return sp.latex(expression, fold_short_frac=False, symbol_names=names)


#: Names such as `gup_1`: a letter, where it was moved, an index. To sympy they are words.
_MOVED = re.compile(r"([a-zA-Z])(up|down)_(\w+)$")

_SPECIAL = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "^": r"\^{}", "&": r"\&", "%": r"\%", "#": r"\#",
            "$": r"\$", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}


def _words(words: str) -> str:
    """Make words safe for LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in words)
