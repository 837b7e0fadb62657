"""The command line, ``dln COMMAND ...``.

Exit status: 0 fine, 1 a check failed or a run did not converge, 2 bad usage or bad input (one line on standard error).
`theory` and `figures` pull in sympy and matplotlib, so they are imported only inside the commands that need them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import dln

from ._suggest import unknown

__all__ = ["main"]

FINE, FAILED, BAD, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141

BUNDLED: dict[str, Callable[..., dln.Problem]] = {"diabetes": dln.datasets.diabetes}

#: A coefficient counts as part of the support above this fraction of the largest.
SUPPORT = 1e-3


@dataclass(frozen=True)
class RuleCommand:
    """A training rule on the command line: the options it takes, the one it needs, how it is made of them."""

    options: tuple[str, ...]
    needs: str | None
    make: Callable[[argparse.Namespace], dln.Rule]


def _gr(args: argparse.Namespace) -> dln.Rule:
    scheme = {} if args.scheme is None else {"scheme": args.scheme}
    return dln.GradientRegularization(args.gamma, args.epsilon, squared=not args.unsquared, **scheme)


#: By the name of the rule's class; a new rule is one line here.
RULES = {
    dln.GradientFlow.name: RuleCommand((), None, lambda args: dln.GradientFlow()),
    dln.GradientRegularization.name: RuleCommand(("gamma", "epsilon", "scheme", "unsquared"), "gamma", _gr),
    dln.SAM.name: RuleCommand(("rho", "normalized", "per_sample"), "rho",
                              lambda args: dln.SAM(args.rho, normalized=args.normalized, per_sample=args.per_sample)),
    dln.WeightDecay.name: RuleCommand(("decay",), "decay", lambda args: dln.WeightDecay(args.decay)),
}


# ---------------------------------------------------------------------------------------------------------------------
# The way in and out


class _Parser(argparse.ArgumentParser):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        # Instead of printing the usage, which would make more than one line of it.
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the name of the program; by default those of the process.

    Returns
    -------
    int
        The exit status: 0 fine; 1 a check failed or a run did not converge; 2 bad usage or bad input; 130 after
        Ctrl-C, 141 where the reader of a pipe has gone.
    """
    try:
        try:
            status = _run(list(sys.argv[1:] if argv is None else argv))
        except SystemExit as stop:  # --help and --version
            status = int(stop.code or FINE)
        sys.stdout.flush()  # here, where a closed pipe is expected
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is still buffered would raise again when the interpreter closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _complain(text, BAD)
    except (ValueError, TypeError) as error:
        return _complain(str(error), BAD)


def _complain(text: str, status: int) -> int:
    print(f"dln: {' '.join(text.split())}", file=sys.stderr)
    return status


def _run(argv: list[str]) -> int:
    parser, commands = _parsers()
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        raise ValueError(unknown("command", argv[0], commands))
    args, rest = parser.parse_known_args(_joined(argv))
    for word in rest:
        if word.startswith("-"):
            options = commands[args.command]._option_string_actions if args.command else ("--help", "--version")
            raise ValueError(unknown(f"option of dln {args.command or ''}".rstrip(), word.split("=")[0], options))
        raise ValueError(f"dln {args.command} takes no further argument {word!r} (see dln {args.command} --help)")
    if args.command is None:
        parser.print_help()
        return FINE
    return int(args.body(args))


def _joined(argv: list[str]) -> list[str]:
    """Write ``--log-alpha -1e6`` as ``--log-alpha=-1e6``: argparse takes -1e6 for an option."""
    words: list[str] = []
    for word in argv:
        if word.startswith("-") and _is_number(word) and words and words[-1].startswith("--") and "=" not in words[-1]:
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Arguments


def _parsers() -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    """Make the parser and, by name, those of the commands."""
    parser = _Parser(prog="dln", description="Diagonal linear networks: train, predict, verify the theorems.")
    parser.add_argument("--version", action="version", version=f"dln {dln.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, body: Callable[[argparse.Namespace], int], words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words)
        made.set_defaults(body=body)
        return made

    p = command("flow", _flow, "train a network by the flow of a rule until it converges")
    p.add_argument("data", metavar="DATA", help="CSV with a header, NPZ with X and y, or bundled data: diabetes")
    _add_data_options(p)
    _add_scale(p)
    p.add_argument("--rule", default=dln.GradientFlow.name, help=f"training rule: {', '.join(RULES)}")
    p.add_argument("--gamma", type=float, help="gr: strength of the regularization")
    p.add_argument("--epsilon", type=float, help="gr: ascent step of the finite difference")
    p.add_argument("--scheme", help="gr: forward (default), backward, centered or exact")
    p.add_argument("--unsquared", action="store_true", help="gr: penalise the norm of the gradient, not its square")
    p.add_argument("--rho", type=float, help="sam: radius")
    p.add_argument("--normalized", action="store_true", help="sam: divide rho by the norm of the gradient")
    p.add_argument("--per-sample", action="store_true", help="sam: one sample at a time")
    p.add_argument("--decay", type=float, help="weight-decay: strength")
    p.add_argument("--t-end", type=float, metavar="T", help="final time; by default the run ends when it has converged")
    p.add_argument("--rtol", type=float, default=1e-8, help="tolerance of a step (default %(default)g)")
    p.add_argument("--method", default="auto", help="auto (default), explicit or rosenbrock")
    p.add_argument("--max-steps", type=int, default=100_000, metavar="N", help="step limit (default %(default)d)")
    p.add_argument("--out", type=Path, metavar="FILE.npz", help="write the data, the run and its settings")
    p.add_argument("--plot", type=Path, metavar="FILE", help="draw loss and coordinates against time, to .png or .pdf")
    p.add_argument("--json", action="store_true", help="print the result as JSON")

    p = command("predict", _predict, "compute the minimiser that theory predicts for gradient flow, without training")
    p.add_argument("data", metavar="DATA", help="CSV with a header, NPZ with X and y, or bundled data: diabetes")
    _add_data_options(p)
    _add_scale(p)
    p.add_argument("--out", type=Path, metavar="FILE.npz", help="write the data and the minimiser")
    p.add_argument("--json", action="store_true", help="print the result as JSON")

    command("theorems", _theorems, "list the theorems")

    p = command("derive", _derive, "derive a theorem from the loss, each step proved")
    p.add_argument("theorem", metavar="THEOREM", help="such as T4")
    p.add_argument("--latex", action="store_true", help="print LaTeX")

    p = command("verify", _verify, "check theorems numerically, by two routes that share no code")
    p.add_argument("theorems", nargs="*", metavar="THEOREM", help="such as T1 T4; by default all")
    p.add_argument("--data", help="check on these data instead of synthetic ones")
    _add_data_options(p)
    form = p.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the checks, with all numbers measured, as JSON")
    form.add_argument("--markdown", action="store_true", help="print the table in Markdown")

    p = command("figure", _figure, "draw a figure")
    p.add_argument("name", nargs="?", metavar="NAME", help="such as phase-diagram")
    p.add_argument("--list", action="store_true", help="list the figures")
    p.add_argument("--out", type=Path, action="append", metavar="FILE", help=".png or .pdf; may be given several times")
    p.add_argument("--data", help="draw for these data")
    _add_data_options(p)
    return parser, dict(commands.choices)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="COLUMN", help="CSV: the column to predict (default: y or target)")
    parser.add_argument("--n-samples", type=int, metavar="N", help="bundled data: how many samples to draw")
    parser.add_argument("--seed", type=int, help="bundled data: which samples")


def _add_scale(parser: argparse.ArgumentParser) -> None:
    scale = parser.add_mutually_exclusive_group(required=True)
    scale.add_argument("--alpha", type=float, help="initial scale of the weights")
    scale.add_argument("--log-alpha", type=float, metavar="L", help="its logarithm, for scales below 1e-300")


def _problem(args: argparse.Namespace) -> dln.Problem | None:
    """Read the data that the arguments name, if they name any."""
    given = {"n_samples": args.n_samples, "seed": args.seed}
    drawn = {name: value for name, value in given.items() if value is not None}
    if args.data is None:
        for name in ("target", *given):
            if getattr(args, name) is not None:
                raise ValueError(f"{_option(name)} needs --data")
        return None
    if args.data in BUNDLED:
        if args.target is not None:
            raise ValueError(f"--target is for a file; the bundled data {args.data!r} have their own target")
        if "seed" in drawn:
            if args.seed < 0:
                raise ValueError(f"--seed must be at least 0, got {args.seed}")
            drawn["rng"] = drawn.pop("seed")
        return BUNDLED[args.data](**drawn)
    if drawn:
        raise ValueError(f"{_option(next(iter(drawn)))} is for bundled data ({', '.join(BUNDLED)}), not for a file")
    if not os.path.exists(args.data) and Path(args.data).name == args.data and not Path(args.data).suffix:
        raise ValueError(f"{unknown('data', args.data, BUNDLED)}; nor is there a file of this name")
    return dln.load(args.data, target=args.target)


def _rule(args: argparse.Namespace) -> dln.Rule:
    """Make the training rule, refusing options of other rules."""
    if args.rule not in RULES:
        raise ValueError(unknown("rule", args.rule, RULES))
    chosen = RULES[args.rule]
    for name, other in RULES.items():
        for option in other.options:
            value = getattr(args, option)
            if option not in chosen.options and value is not None and value is not False:  # 0 was given, too
                raise ValueError(f"{_option(option)} does not belong to rule {args.rule!r}: it goes with --rule {name}")
    if chosen.needs is not None and getattr(args, chosen.needs) is None:
        raise ValueError(f"rule {args.rule!r} needs {_option(chosen.needs)}")
    return chosen.make(args)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_out(path: Path | None, option: str, suffixes: tuple[str, ...]) -> None:
    """Refuse, before any work is done, a file that could not be written after it."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{option} {path} must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder")


def _progress() -> Callable[..., Any] | None:
    """Give tqdm on a terminal, else nothing."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm


# ---------------------------------------------------------------------------------------------------------------------
# Results


def _plain(value: Any) -> Any:
    """Make a value fit for JSON: lists for arrays, null for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)


def _print_json(record: dict[str, Any]) -> None:
    print(json.dumps(_plain(record), indent=2, allow_nan=False))


def _save_npz(path: Path, problem: dln.Problem, record: dict[str, Any]) -> None:
    """Write a record together with its data, so that the file is itself a DATA."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in record.items() if value is not None}
    with path.open("wb") as file:  # given a name instead, NumPy would append .npz to what does not end in it
        np.savez(file, X=problem.X, y=problem.y, **arrays)


def _print_rows(rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")


def _sizes(beta: np.ndarray) -> dict[str, str]:
    size = np.abs(beta)
    count = int(np.count_nonzero(size > SUPPORT * size.max(initial=0.0)))
    return {"|beta|_1": f"{size.sum():.8g}",
            "support": f"{count} of {len(beta)} coordinates above {SUPPORT:g} of the largest"}


def _scale_words(args: argparse.Namespace) -> str:
    return f"alpha = {args.alpha:g}" if args.alpha is not None else f"log alpha = {args.log_alpha:g}"


# ---------------------------------------------------------------------------------------------------------------------
# Commands


def _flow(args: argparse.Namespace) -> int:
    rule = _rule(args)
    _check_out(args.out, "--out", (".npz",))
    _check_out(args.plot, "--plot", (".png", ".pdf"))
    problem = _problem(args)
    assert problem is not None
    run = dln.flow(problem, rule, alpha=args.alpha, log_alpha=args.log_alpha, t_end=args.t_end, rtol=args.rtol,
                   method=args.method, max_steps=args.max_steps)
    names = ("success", "status", "message", "t", "loss", "residual", "error_estimate", "method", "n_steps",
             "n_rejected", "n_rhs", "rtol", "beta", "log_effective_alpha", "center", "log_u", "log_v", "dual",
             "shrinkage", "log_alpha", "log_ratio")
    record = {"data": problem.name, "feature_names": problem.feature_names, "rule": repr(rule)}
    record |= {name: getattr(run, name) for name in names}
    record["status"] = str(run.status)
    if args.out:
        _save_npz(args.out, problem, record)
    if args.plot:
        _plot(args, problem, rule, run.t)
    if args.json:
        _print_json(record)
    else:
        logs = run.log_effective_alpha
        print(f"{problem}, {rule}, {_scale_words(args)}")
        _print_rows({
            "status": f"{run.status}: {run.message}",
            "t": f"{run.t:.8g}",
            "loss": f"{run.loss:.4g}",
            "residual": f"{run.residual:.2e} (relative)",
            "error estimate": f"{run.error_estimate:.1e} (relative)",
            "steps": f"{run.n_steps}, {run.n_rejected} more rejected, {run.n_rhs} evaluations",
            "method": run.method,
            **_sizes(run.beta),
            "log alpha_eff": f"mean {logs.mean():.6g}, from {logs.min():.6g} to {logs.max():.6g}",
        })
    return FINE if run.success else _complain(f"{run.status}: {run.message}", FAILED)


def _plot(args: argparse.Namespace, problem: dln.Problem, rule: dln.Rule, t_end: float) -> None:
    import figures

    log_alpha = args.log_alpha if args.alpha is None else math.log(args.alpha)
    module = figures.get("trajectories")
    data = module.compute(problem, rule, log_alphas=[log_alpha], t_end=t_end, rtol=args.rtol, method=args.method,
                          max_steps=args.max_steps)
    figures.save(_figure_of(module.draw(data)), args.plot)


def _predict(args: argparse.Namespace) -> int:
    _check_out(args.out, "--out", (".npz",))
    problem = _problem(args)
    assert problem is not None
    best = dln.minimize_potential(problem, alpha=args.alpha, log_alpha=args.log_alpha)
    names = ("success", "status", "message", "residual", "duality_gap", "n_iterations", "beta", "dual")
    record = {"data": problem.name, "feature_names": problem.feature_names}
    record |= {"alpha": args.alpha, "log_alpha": args.log_alpha} | {name: getattr(best, name) for name in names}
    record["status"] = str(best.status)
    if args.out:
        _save_npz(args.out, problem, record)
    if args.json:
        _print_json(record)
    else:
        print(f"{problem}, minimiser of the potential, {_scale_words(args)}")
        _print_rows({
            "status": f"{best.status}: {best.message}",
            "residual": f"{best.residual:.2e} (relative)",
            "duality gap": f"{best.duality_gap:.2e} (relative)",
            "iterations": f"{best.n_iterations}",
            **_sizes(best.beta),
            "|beta|_2": f"{np.linalg.norm(best.beta):.8g}",
        })
    return FINE if best.success else _complain(f"{best.status}: {best.message}", FAILED)


def _theorems(args: argparse.Namespace) -> int:
    import theory

    width = max(map(len, theory.theorems))
    for key, theorem in theory.theorems.items():
        print(f"{key:{width}}  {theorem.title}\n{'':{width}}  {theorem.statement}\n{'':{width}}  {theorem.source}")
    return FINE


def _derive(args: argparse.Namespace) -> int:
    import theory

    theorem = theory.get(args.theorem)
    try:
        derivation = theorem.derive()
    except theory.DerivationError as error:  # a step that sympy does not prove is a failed check, not bad input
        return _complain(str(error), FAILED)
    print(derivation.to_latex() if args.latex else derivation)
    return FINE


def _verify(args: argparse.Namespace) -> int:
    import theory

    for key in args.theorems:  # before data are read: a misspelt key should not cost time
        theory.get(key)
    checks = theory.verify(args.theorems or None, _problem(args), _progress())
    if args.json:
        print(theory.to_json(checks))
    else:
        print(theory.table(checks, "markdown" if args.markdown else "text"))
    failed = [check for check in checks if not check.passed]
    for check in failed:
        _complain(f"{check.key} failed: {check.message}", FAILED)
    return FAILED if failed else FINE


def _figure(args: argparse.Namespace) -> int:
    import figures

    if args.list:
        width = max(map(len, figures.registry))
        for name in figures.registry:
            print(f"{name:{width}}  {(figures.get(name).__doc__ or '').splitlines()[0]}")
        return FINE
    if args.name is None:
        raise ValueError(f"name a figure: {', '.join(figures.registry)}")
    module = figures.get(args.name)
    if not args.out:
        raise ValueError(f"figure {args.name} needs --out FILE, ending in {' or '.join(figures.SUFFIXES)}")
    for path in args.out:
        _check_out(path, "--out", figures.SUFFIXES)
    accepted = inspect.signature(module.compute).parameters
    options: dict[str, Any] = {}
    problem = _problem(args)
    if problem is not None:
        if "problem" not in accepted:
            raise ValueError(f"figure {args.name} needs no data: leave out --data")
        options["problem"] = problem
    if "progress" in accepted:
        options["progress"] = _progress()
    figure = _figure_of(module.draw(module.compute(**options)))
    for path in args.out:
        figures.save(figure, path)
        print(f"wrote {path}")
    return FINE


def _figure_of(axes: Any) -> Any:
    return np.ravel(axes)[0].figure
