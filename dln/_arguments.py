"""The arguments of the command line: the parsers, and what the words stand for: data, rules, files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import dln

from ._suggest import unknown

BUNDLED: dict[str, Callable[..., dln.Problem]] = {"diabetes": dln.datasets.diabetes}


#: Stands for standard output where a file could be given.
PRINT = Path("-")


@dataclass(frozen=True)
class RuleCommand:
    """A training rule on the command line: the options it takes, the one it needs, how it is made of them."""

    options: tuple[str, ...]
    needs: str | None
    make: Callable[[argparse.Namespace], dln.Rule]


def _gr(args: argparse.Namespace) -> dln.Rule:
    scheme = {} if args.scheme is None else {"scheme": args.scheme}
    return dln.GradientRegularization(args.gamma, args.epsilon, squared=not args.unsquared, **scheme)


def _flooding(args: argparse.Namespace) -> dln.Rule:
    return dln.Flooding(args.level, per_sample=args.per_sample, step=args.flood_step)


#: By the name of the rule's class; a new rule is one line here.
RULES = {
    dln.GradientFlow.name: RuleCommand((), None, lambda args: dln.GradientFlow()),
    dln.GradientRegularization.name: RuleCommand(("gamma", "epsilon", "scheme", "unsquared"), "gamma", _gr),
    dln.SAM.name: RuleCommand(("rho", "normalized", "per_sample"), "rho",
                              lambda args: dln.SAM(args.rho, normalized=args.normalized, per_sample=args.per_sample)),
    dln.Flooding.name: RuleCommand(("level", "per_sample", "flood_step"), "level", _flooding),
    dln.WeightDecay.name: RuleCommand(("decay",), "decay", lambda args: dln.WeightDecay(args.decay)),
}


class _Parser(argparse.ArgumentParser):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        # Instead of printing the usage, which would make more than one line of it.
        raise ValueError(f"{message} (see {self.prog} --help)")


def joined(argv: list[str]) -> list[str]:
    """Write ``--log-alpha -1e6`` as ``--log-alpha=-1e6``: argparse takes -1e6 for an option."""
    words: list[str] = []
    for word in argv:
        first = word.split(",")[0].split(":")[0]  # dln sweep takes several numbers, and ranges
        if word.startswith("-") and _is_number(first) and words and words[-1].startswith("--") and "=" not in words[-1]:
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


def parsers(bodies: Mapping[str, Callable[[argparse.Namespace], int]]) -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    """Make the parser and, by name, those of the commands; `bodies` are the functions that carry these out."""
    parser = _Parser(prog="dln", description="Diagonal linear networks: train, predict, verify the theorems.")
    parser.add_argument("--version", action="version", version=f"dln {dln.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=words, description=words)
        made.set_defaults(body=bodies[name])
        return made

    p = command("flow", "train a network by the flow of a rule until it converges")
    p.add_argument("data", metavar="DATA", help="CSV with a header, NPZ with X and y, or bundled data: diabetes")
    _add_data_options(p)
    _add_scale(p)
    _add_depth(p)
    _add_rule(p)
    p.add_argument("--t-end", type=float, metavar="T", help="final time; by default the run ends when it has converged")
    p.add_argument("--rtol", type=float, default=1e-8, help="tolerance of a step (default %(default)g)")
    p.add_argument("--method", default="auto", help="auto (default), explicit or rosenbrock")
    p.add_argument("--max-steps", type=int, default=100_000, metavar="N", help="step limit (default %(default)d)")
    p.add_argument("--out", type=Path, metavar="FILE.npz", help="write the data, the run and its settings")
    p.add_argument("--plot", type=Path, metavar="FILE", help="draw loss and coordinates against time, to .png or .pdf")
    p.add_argument("--json", action="store_true", help="print the result as JSON")

    p = command("descend", "train a network by discrete steps of a rule: gradient descent, SGD, momentum, flooding")
    p.add_argument("data", metavar="DATA", help="CSV with a header, NPZ with X and y, or bundled data: diabetes")
    _add_data_options(p)
    _add_scale(p)
    _add_rule(p)
    p.add_argument("--step", type=float, required=True, metavar="ETA", help="step size")
    p.add_argument("--n-steps", type=int, required=True, metavar="N", help="largest number of steps")
    p.add_argument("--momentum", type=float, default=0.0, metavar="M", help="heavy-ball momentum in [0, 1)")
    p.add_argument("--nesterov", action="store_true", help="Nesterov's momentum instead")
    p.add_argument("--batch-size", type=int, metavar="B", help="samples per step (default: all)")
    p.add_argument("--sampling", default="replacement", help="batches: replacement (default), distinct or epochs")
    p.add_argument("--label-noise", type=float, default=0.0, metavar="S", help="standard deviation of noise on the targets")
    p.add_argument("--run-seed", type=int, default=0, metavar="S", help="seed of batches and noise (default %(default)d)")
    p.add_argument("--out", type=Path, metavar="FILE.npz", help="write the data, the run and its settings")
    p.add_argument("--json", action="store_true", help="print the result as JSON")

    from . import cli_sweep  # it builds on this module

    cli_sweep.add_options(command("sweep", "train a grid of networks and keep measures of each, on one machine or many"))

    p = command("predict", "compute the minimiser that theory predicts for gradient flow, without training")
    p.add_argument("data", metavar="DATA", help="CSV with a header, NPZ with X and y, or bundled data: diabetes")
    _add_data_options(p)
    _add_scale(p)
    _add_depth(p)
    p.add_argument("--out", type=Path, metavar="FILE.npz", help="write the data and the minimiser")
    p.add_argument("--json", action="store_true", help="print the result as JSON")

    command("theorems", "list the theorems")

    p = command("derive", "derive a theorem from the loss, each step proved")
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("theorem", nargs="?", metavar="THEOREM", help="such as T4")
    what.add_argument("--map", metavar="F", help="derive the potential of beta = F(u) - F(v) instead, such as 'u**3'")
    p.add_argument("--latex", action="store_true", help="print LaTeX")

    p = command("verify", "check theorems numerically, by two routes that share no code")
    p.add_argument("theorems", nargs="*", metavar="THEOREM", help="such as T1 T4; by default all")
    p.add_argument("--data", help="check on these data instead of synthetic ones")
    _add_data_options(p)
    p.add_argument("--mutants", action="store_true", help="check wrong versions of the theorems: all must be rejected")
    p.add_argument("--json", nargs="?", const=PRINT, type=Path, metavar="FILE.json",
                   help="write every number measured as JSON to a file, or print it in place of the table")
    p.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    p.add_argument("--jobs", type=int, metavar="N", help="processes (default: one per core, for more than one theorem)")
    p.add_argument("--progress", action="store_true", help="a line on standard error for each theorem when it is finished, "
                   "also where that is not a terminal")

    p = command("figure", "draw a figure")
    p.add_argument("name", nargs="?", metavar="NAME", help="such as phase-diagram")
    p.add_argument("--list", action="store_true", help="list the figures")
    p.add_argument("--out", type=Path, action="append", metavar="FILE", help=".png or .pdf; may be given several times")
    p.add_argument("--data", help="draw for these data; a phase diagram also from a stored grid, such as grid.zarr")
    _add_data_options(p)
    p.add_argument("--all", action="store_true", help="draw all figures, into --out-dir")
    p.add_argument("--out-dir", type=Path, metavar="DIR", help="with --all: where to (default build/gallery)")
    p.add_argument("--full", action="store_true", help="the paper's size: finer and slower")
    p.add_argument("--x", metavar="NAME", help="stored grid: the parameter across")
    p.add_argument("--y", metavar="NAME", help="stored grid: the parameter upwards")
    p.add_argument("--measure", metavar="NAME", help="stored grid: what to draw in colour")
    p.add_argument("--at", action="append", metavar="NAME=VALUE", help="stored grid: the value of another parameter")

    p = command("explore", "open a window with sliders for the initial scale and the rule")
    p.add_argument("data", metavar="DATA", help="CSV with a header, NPZ with X and y, or bundled data: diabetes")
    _add_data_options(p)
    scale = p.add_mutually_exclusive_group()
    scale.add_argument("--alpha", type=float, help="where the slider of the initial scale begins")
    scale.add_argument("--log-alpha", type=float, metavar="L", help="the same as its logarithm")
    p.add_argument("--rule", help="the rule to begin with, such as gradient-flow, gr, gr-exact, sam or weight-decay")
    p.add_argument("--gamma", type=float, help="where the slider of gamma (rho, or the decay) begins")
    p.add_argument("--epsilon", type=float, help="where the slider of epsilon begins")
    p.add_argument("--screenshot", type=Path, metavar="FILE", help="write the window to .png or .pdf instead of opening it")
    return parser, dict(commands.choices)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="COLUMN", help="CSV: the column to predict (default: y or target)")
    parser.add_argument("--n-samples", type=int, metavar="N", help="bundled data: how many samples to draw")
    parser.add_argument("--seed", type=int, help="bundled data: which samples")


def _add_rule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rule", default=dln.GradientFlow.name, help=f"training rule: {', '.join(RULES)}")
    parser.add_argument("--gamma", type=float, help="gr: strength of the regularization")
    parser.add_argument("--epsilon", type=float, help="gr: ascent step of the finite difference")
    parser.add_argument("--scheme", help="gr: forward (default), backward, centered or exact")
    parser.add_argument("--unsquared", action="store_true", help="gr: penalise the norm of the gradient, not its square")
    parser.add_argument("--rho", type=float, help="sam: radius")
    parser.add_argument("--normalized", action="store_true", help="sam: divide rho by the norm of the gradient")
    parser.add_argument("--per-sample", action="store_true", help="sam, flooding: one sample at a time")
    parser.add_argument("--decay", type=float, help="weight-decay: strength")
    parser.add_argument("--level", type=float, help="flooding: level of the loss")
    parser.add_argument("--flood-step", type=float, metavar="ETA",
                        help="flooding, in flow: follow the averaged motion of steps of this size on the level")


def _add_scale(parser: argparse.ArgumentParser) -> None:
    scale = parser.add_mutually_exclusive_group(required=True)
    scale.add_argument("--alpha", type=float, help="initial scale of the weights")
    scale.add_argument("--log-alpha", type=float, metavar="L", help="its logarithm, for scales below 1e-300")


def _add_depth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depth", type=float, default=2, metavar="D", help="depth of the network, 2 (default) or above")


def read_problem(args: argparse.Namespace) -> dln.Problem | None:
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


def make_rule(args: argparse.Namespace) -> dln.Rule:
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


def check_out(path: Path | None, option: str, suffixes: tuple[str, ...]) -> None:
    """Refuse, before any work is done, a file that could not be written after it."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{option} {path} must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: the folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder")
