"""Derivations prove what they say, refuse what is wrong, and can be read."""

import functools
import re

import pytest
import sympy as sp
from matplotlib.mathtext import MathTextParser

import theory
from theory._derivation import Derivation, DerivationError, text, vanishes
from theory._network import SymbolicNetwork
from theory._steps import law, pair, perturb, potential, start

x, y = sp.symbols("x y", positive=True)
z = sp.Symbol("z", real=True)


@pytest.mark.parametrize("expression", [
    (x + y) ** 3 - x**3 - 3 * x**2 * y - 3 * x * y**2 - y**3,
    (x - 1 / x) * (x + 1 / x) - x**2 + x**-2,
    sp.log(x * y) - sp.log(x) - sp.log(y),
    sp.cosh(z - 2) ** 2 - sp.sinh(z - 2) ** 2 - 1,
    2 * sp.sinh(z) - sp.exp(z) + sp.exp(-z),
    sp.sqrt(x**2 + y) - x - y / (sp.sqrt(x**2 + y) + x),
])
def test_identities_are_proved(expression):
    assert vanishes(expression)


@pytest.mark.parametrize("expression", [
    x, x / y - 1, (x + y) ** 2 - x**2 - y**2, 1 / x - 1 / x**2, sp.sqrt(z**2) - z, sp.sinh(z) - sp.cosh(z),
    sp.log(z**2) - 2 * sp.log(z), sp.Rational(1, 3) - sp.Rational(333, 1000),
])
def test_falsehoods_are_not_proved(expression):
    assert not vanishes(expression)


@functools.cache
def derivation_of(key):
    return theory.get(key).derive()


@pytest.mark.parametrize("key", theory.theorems)
def test_every_derivation_runs_and_prints(key):
    derivation = derivation_of(key)
    assert len(derivation.steps) >= 10
    printed, words = str(derivation), " ".join(str(derivation).split())
    assert printed.startswith(f"{key}. ")
    for number, step in enumerate(derivation.steps, 1):
        assert f"{number}. {step.title}" in printed
        assert f"Rule: {' '.join(step.rule.split())}." in words
        assert f"Proved by sympy: {step.proof}." in words
        assert isinstance(step.equation, sp.Basic)
    assert "**" not in printed
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.parametrize("key", theory.theorems)
def test_every_assumption_and_abbreviation_is_printed_once_before_it_is_used(key):
    derivation = derivation_of(key)
    printed = " ".join(str(derivation).split())
    for words in derivation.assumptions:
        assert printed.count(" ".join(words.split())) == 1
    grouped = derivation.definitions_by_step()
    assert sum(map(len, grouped.values())) == len(derivation.definitions)
    known = set()
    for number, step in enumerate(derivation.steps, 1):
        known |= {one.symbol for one in grouped[number]}
        names = {one.symbol for one in derivation.definitions if one.symbol.is_Symbol}
        assert (step.lhs.free_symbols | step.rhs.free_symbols) & names <= known
        for one in grouped[number]:
            assert one.value.free_symbols & names <= known
            assert f"{text(one.symbol)} := " in printed


#: What the kernel of LaTeX and the package amsmath know of all that sympy and `to_latex` write.
MACROS = {"alpha", "begin", "beta", "delta", "displaystyle", "ell", "end", "epsilon", "frac", "gamma", "int", "item", "lambda",
          "left", "lim", "limits", "log", "nu", "operatorname", "paragraph", "partial", "phi", "qquad", "quad", "rho", "right",
          "sinh", "cosh", "exp", "sqrt", "substack", "textasciitilde", "textbackslash", "textbar", "textbf", "textgreater",
          "textless", "mathrm", "to", "sigma", "tau", "theta", "mu", "zeta", "max", "min", "cdot", "infty", "psi", "lvert",
          "rvert", "sum", "Gamma", "Lambda", "eta", "kappa", "xi", "varepsilon", "pi"}


NAME = r"\\(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|psi|Gamma|Lambda)(?![a-zA-Z])"
INNERMOST = re.compile(r"\\left\(((?:(?!\\left\(|\\right\)).)+)\\right\)")


def pieces(formula):
    """Take a formula apart into terms, innermost brackets first, all names x and all numbers 1: the parser is slow."""
    shape = re.sub(NAME, "x", formula.replace("&", "").replace(r"\limits", ""))
    shape = re.sub(r"\\[a-zA-Z]+|[a-zA-Z]", lambda found: found[0] if len(found[0]) > 1 else "x", shape)
    shape = re.sub(r"\d+", "1", shape)
    while found := next((one for one in INNERMOST.finditer(shape) if one[1] != "x"), None):
        yield from terms(found[1])
        shape = shape[:found.start()] + r"\left(x\right)" + shape[found.end():]
    yield from terms(shape)


def terms(shape):
    depth, found = 0, [""]
    for token in re.findall(r"\\left.|\\right.|\\[a-zA-Z]+|\\.|.", shape):
        depth += (token == "{" or bool(re.fullmatch(r"\\left\W", token)))
        depth -= (token == "}" or bool(re.fullmatch(r"\\right\W", token)))
        if depth == 0 and token in "+-=":
            found.append("")
        else:
            found[-1] += token
    return [term.strip() for term in found if term.strip()]


@functools.cache  # derivations share many of them
def demand_mathematics(piece):
    MathTextParser("agg").parse(f"${piece}$")


@pytest.mark.parametrize("wrong", [r"a + \frac{b}", r"\left(a + b", r"\alpha_{1}_{2}", r"\nosuch{a}", r"\sqrt + a",
                                   r"a^{b^{2}", r"\left(a \left(b + c\right) = d"])
def test_the_parser_of_pieces_refuses_what_is_no_mathematics(wrong):
    with pytest.raises(ValueError, match=r"Expected|Unknown|Double"):
        for piece in pieces(wrong):
            demand_mathematics(piece)


@pytest.mark.parametrize("key", theory.theorems)
def test_latex_is_well_formed(key):
    """References: LaTeX's own rules of balance, and matplotlib's parser of TeX mathematics for every formula."""
    latex = derivation_of(key).to_latex()
    assert latex.isascii()
    assert latex.count(r"\item \textbf{") == len(derivation_of(key).steps)
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", latex):
        assert kind == "begin" or stack.pop() == name
        stack += [name] if kind == "begin" else []
    assert not stack
    body = latex.split("\n", 1)[1]
    assert set(re.findall(r"\\([a-zA-Z]+)", body)) <= MACROS
    bare = re.sub(r"\\.", "", body)
    assert bare.count("{") == bare.count("}")
    outside = re.sub(r"\\begin\{align\*\}.*?\\end\{align\*\}", "", body, flags=re.S)
    assert not set(re.sub(r"\\.", "", outside)) & set("$&#_^~<>|%")
    for block in re.findall(r"\\begin\{align\*\}\n(.*?)\n\\end\{align\*\}", body, re.S):
        for line in block.split(" \\\\\n"):
            for piece in pieces(line):
                demand_mathematics(piece)


def test_words_are_safe_in_latex():
    """Reference: the ten special characters of LaTeX and the three that its default fonts lack."""
    d = Derivation("T0", r"a \ b {c} x_1 ^2 & % # $ ~ < > |")
    d.equal("one", "one", z, z)
    line = d.to_latex().splitlines()[1]
    assert not set(re.sub(r"\\[^a-zA-Z]|\\[a-zA-Z]+(\{\})?", "", line)) & set("\\_^&%#$~<>|")


def test_a_false_equation_raises_and_names_the_step():
    with pytest.raises(DerivationError, match="'a slip of the pen'"):
        Derivation("T0", "wrong").equal("a slip of the pen", "hope", (x + y) ** 2, x**2 + y**2)


def test_a_false_equation_inside_a_matrix_raises():
    with pytest.raises(DerivationError, match="second"):
        Derivation("T0", "wrong").equal("second", "hope", sp.Matrix([x, y]), sp.Matrix([x, -y]))
    with pytest.raises(DerivationError, match="shapes"):
        Derivation("T0", "wrong").equal("second", "hope", sp.Matrix([x, y]), sp.Matrix([x]))


def test_differentiation_needs_the_value_at_the_start_too():
    d = Derivation("T0", "wrong")
    d.by_differentiation("right", "calculus", sp.asinh(sp.sinh(z)), z, z, sp.S.Zero)
    with pytest.raises(DerivationError, match="at z = 0"):
        d.by_differentiation("off by one", "calculus", sp.asinh(sp.sinh(z)), z + 1, z, sp.S.Zero)
    with pytest.raises(DerivationError, match="d/dz"):
        d.by_differentiation("wrong slope", "calculus", sp.asinh(sp.sinh(z)), 2 * z, z, sp.S.Zero)


def test_a_sign_that_is_not_certain_raises():
    with pytest.raises(DerivationError, match="not find z"):
        Derivation("T0", "wrong").positive("sign", "hope", z)


def test_a_symbol_has_one_meaning():
    d = Derivation("T0", "wrong")
    d.define(z, x + 1, "one")
    d.define(z, x + 1, "the same")
    with pytest.raises(DerivationError, match="twice"):
        d.define(z, x + 2, "another")


def test_proofs_see_through_abbreviations():
    d = Derivation("T0", "abbreviations")
    a, b, f = sp.Symbol("a"), sp.Symbol("b"), sp.Function("f")(x)
    d.define(a, x + y, "a sum")
    d.define(b, a**2, "its square")
    d.define(f, x**3, "a function")
    d.equal("nested", "writing out", b, x**2 + 2 * x * y + y**2)
    d.equal("a derivative of an abbreviation", "differentiation", sp.Derivative(f, x), 3 * x**2)
    with pytest.raises(DerivationError):
        d.equal("nested, wrong", "writing out", b, x**2 + y**2)


def _start():
    d, net = Derivation("T0", "a rule"), SymbolicNetwork()
    return d, net, start(d, net)


@pytest.mark.parametrize("slip", ["factor of p", "q forgotten", "sign of v", "moved predictor"])
def test_a_wrong_pair_is_not_proved(slip):
    """The pair of SAM, with slips; the last takes the gradient at `beta + rho g`, not at the moved weights."""
    d, net, at = _start()
    rho = sp.Symbol("rho", positive=True)
    up = perturb(d, net, at, rho, "up")
    velocity = -up.of_weights
    p = list(up.of_beta)
    q = [2 * rho * g * g_up for g, g_up in zip(at.of_beta, up.of_beta, strict=True)]
    pair(d, net, "right", velocity, p, q)
    if slip == "factor of p":
        p[1] = 2 * p[1]
    elif slip == "q forgotten":
        q = [sp.S.Zero] * 2
    elif slip == "sign of v":
        velocity = sp.Matrix([*velocity[:2], *(-velocity[2:, 0])])
    else:
        hessian = net.X.T * net.X / (2 * net.n_samples)
        moved = sp.Matrix(at.of_beta) + rho * hessian * sp.Matrix(at.of_beta)
        p, q = list(moved), [2 * rho * g * g_up for g, g_up in zip(at.of_beta, moved, strict=True)]
    with pytest.raises(DerivationError, match="'wrong'"):
        pair(d, net, "wrong", velocity, p, q)


def test_the_law_needs_its_differential_equation():
    d = Derivation("T0", "law")
    law(d)
    t = next(iter(d.steps[2].lhs.free_symbols))
    u, v, q, s = sp.Function("u", positive=True)(t), sp.Function("v", positive=True)(t), sp.Function("q", real=True), x
    with pytest.raises(DerivationError):
        d.by_differentiation("law with a wrong constant", "calculus", sp.log(u * v),
                             sp.log(u.subs(t, 0) * v.subs(t, 0)) - 2 * sp.Integral(q(s), (s, 0, t)), t, sp.S.Zero)


def test_the_derived_potential_agrees_with_60_digits():
    """Reference: mpmath, at arguments small and large, of the textbook form."""
    mpmath = pytest.importorskip("mpmath")
    a = sp.Symbol("a", positive=True)
    phi = potential(Derivation("T0", "potential"), a)
    value = sp.lambdify((phi.b, a), phi.value, "numpy")
    with mpmath.workdps(60):
        for beta in ("1e-6", "0.3", "-2", "50"):
            for scale in ("0.1", "1", "3"):
                b, c = mpmath.mpf(beta), 2 * mpmath.mpf(scale) ** 2
                exact = (b * mpmath.asinh(b / c) - mpmath.sqrt(b**2 + c**2) + c) / 4
                assert value(float(beta), float(scale)) == pytest.approx(float(exact), rel=1e-12)


def test_plain_text_is_plain():
    t = sp.Symbol("t")
    f = sp.Function("f")(t)
    assert text(sp.Derivative(f, t)) == "d/dt f(t)"
    assert text(x**2) == "x^2"
    assert text(sp.Integral(f, (t, 0, x))) == "Integral(f(t), t=0..x)"
