"""The command ``dln sweep``: its options, and its body."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import dln

from ._arguments import RULES, read_problem
from ._suggest import unknown
from .rules import Rule
from .sweep.measures import DEFAULT

FINE, FAILED, INTERRUPTED = 0, 1, 130

FUNCTIONS = {"flow": dln.flow, "descend": dln.descend, "stochastic-flow": dln.stochastic_flow,
             "momentum-flow": dln.momentum_flow}

#: Options with values, by the name of the parameter: the words of the help.
VALUES = {
    "alpha": "initial scale of the weights",
    "log_alpha": "its logarithm",
    "gamma": "gr: strength of the regularization",
    "epsilon": "gr: ascent step of the finite difference",
    "scheme": "gr: forward (default), backward, centered or exact",
    "rho": "sam: radius",
    "decay": "weight-decay: strength",
    "level": "flooding: level of the loss",
    "depth": "depth of the network, 2 (default) or above",
    "step": "step size of descend and stochastic-flow",
    "n_steps": "number of steps of descend",
    "momentum": "heavy-ball momentum of descend",
    "batch_size": "samples per step of descend and stochastic-flow",
    "noise": "standard deviation of label noise",
    "run_seed": "seed of batches and noise",
    "t_end": "final time; by default a flow runs until it has converged",
    "rtol": "tolerance of a step of a flow",
    "max_steps": "step limit of a flow",
}
FLAGS = {"unsquared": ("squared", False, "gr: penalise the norm of the gradient, not its square"),
         "normalized": ("normalized", True, "sam: divide rho by the norm of the gradient"),
         "per_sample": ("per_sample", True, "sam, flooding: one sample at a time")}
WHOLE = ("n_steps", "batch_size", "run_seed", "max_steps")

EPILOG = """\
VALUES are one number, several (0.1,0.2,0.5), or low:high:count, equally spaced, or log:low:high:count, by equal factors.
Several values make an axis of the grid. A run that was killed goes on with --resume and the same options, and ends with the
same numbers. Array jobs: --shard $SLURM_ARRAY_TASK_ID/100, with i from 0 to 99; all write to the same grid."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser of the command its options."""
    parser.epilog = EPILOG
    parser.add_argument("data", metavar="DATA", help="CSV with a header, NPZ with X and y, or bundled data: diabetes")
    parser.add_argument("--target", metavar="COLUMN", help="CSV: the column to predict (default: y or target)")
    parser.add_argument("--n-samples", type=int, metavar="N", help="bundled data: how many samples to draw")
    parser.add_argument("--seed", type=int, help="bundled data: which samples")
    parser.add_argument("--rule", default=dln.GradientFlow.name, help=f"training rule: {', '.join(RULES)}")
    parser.add_argument("--function", default="flow", help=f"{', '.join(FUNCTIONS)} (default %(default)s)")
    for name, words in VALUES.items():
        parser.add_argument(_option(name), metavar="VALUES", help=words)
    for name, (_, _, words) in FLAGS.items():
        parser.add_argument(_option(name), action="store_true", help=words)
    parser.add_argument("--zip", action="append", default=[], metavar="NAME,NAME",
                        help="these axes are one: their values change together; may be given several times")
    parser.add_argument("--measures", default=",".join(DEFAULT), metavar="NAME,...",
                        help="what is kept of a run (default %(default)s); the status always is")
    parser.add_argument("--out", type=Path, required=True, metavar="GRID.zarr",
                        help="the store: a folder, written as tiles finish")
    parser.add_argument("--resume", action="store_true", help="go on with a store that is there")
    parser.add_argument("--shard", metavar="i/N", help="only every N-th tile, beginning with number i, from 0 to N - 1")
    parser.add_argument("--tile", type=int, metavar="CELLS", help="about how many cells are one piece of work and one file")
    workers = parser.add_mutually_exclusive_group()
    workers.add_argument("--workers", type=int, metavar="N", help="threads (default: one per core)")
    workers.add_argument("--processes", type=int, metavar="N", help="processes instead of threads")
    workers.add_argument("--dask", metavar="ADDRESS", help="the scheduler of a Dask cluster, such as tcp://10.0.0.1:8786")
    parser.add_argument("--progress", action="store_true", help="a bar with the time left, also where there is no terminal")


def body(args: argparse.Namespace) -> int:
    """Carry the command out."""
    if args.rule not in RULES:
        raise ValueError(unknown("rule", args.rule, RULES))
    if args.function not in FUNCTIONS:
        raise ValueError(unknown("function", args.function, FUNCTIONS))
    rule = next(kind for kind in Rule.__subclasses__() if kind.name == args.rule and kind.__module__.startswith("dln."))
    zips, parameters = _parameters(args)
    if args.out.exists() and not args.resume and args.shard is None:
        raise FileExistsError(f"--out {args.out} exists: add --resume to go on with it, or remove it")
    problem = read_problem(args)
    assert problem is not None
    executor, close = _executor(args)
    try:
        grid = dln.sweep(problem, rule, *zips, function=FUNCTIONS[args.function], measures=args.measures.split(","),
                         store=args.out, executor=executor, progress=True if args.progress else None, tile=args.tile,
                         shard=_shard(args.shard), **parameters)
    except KeyboardInterrupt as stop:
        if not str(stop):
            raise
        print(f"dln: {stop}{'' if args.resume else ' (with --resume)'}", file=sys.stderr)
        return INTERRUPTED
    finally:
        close()
    return _report(args, problem, rule, grid)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parameters(args: argparse.Namespace) -> tuple[list[Any], dict[str, Any]]:
    """Return the zipped axes and the other parameters."""
    given: dict[str, Any] = {}
    for name in VALUES:
        text = getattr(args, name)
        if text is not None:
            parameter = "seed" if name == "run_seed" else name
            given[parameter] = values(_option(name), text, whole=name in WHOLE, words=name == "scheme")
    for name, (parameter, value, _) in FLAGS.items():
        if getattr(args, name):
            given[parameter] = value
    zips = []
    for text in args.zip:
        names = [name.strip().lstrip("-").replace("-", "_") for name in text.split(",")]
        for name in names:
            if name not in given:
                raise ValueError(f"--zip {text}: {_option(name)} is not given, or in another --zip")
        zips.append(dln.zipped(**{name: given.pop(name) for name in names}))
    return zips, given


def values(option: str, text: str, *, whole: bool = False, words: bool = False) -> Any:
    """Read VALUES: one, several, or a range.

    Parameters
    ----------
    option : str
        For messages.
    text : str
        ``0.1``, ``0.1,0.2``, ``low:high:count`` or ``log:low:high:count``.
    whole, words : bool
        Whether they are integers, or words.

    Returns
    -------
    number, str, or list of either
    """
    if words:
        return text.split(",") if "," in text else text
    kind = int if whole else float
    spaced, _, rest = ("log", None, text[4:]) if text.startswith("log:") else ("linear", None, text)
    try:
        if ":" not in rest:
            if spaced == "log":
                raise ValueError
            column = [kind(word) for word in rest.split(",")]
            return column if "," in rest else column[0]
        low, high, count = rest.split(":")
        first, last, number = float(low), float(high), int(count)
    except ValueError:
        kinds = "integers" if whole else "numbers"
        raise ValueError(f"{option} {text}: give {kinds}, as 1 or 1,2,3 or low:high:count or log:low:high:count") from None
    if number < 1 or (spaced == "log" and not (first > 0.0 and last > 0.0)):
        ends = ", and both ends positive" if spaced == "log" else ""
        raise ValueError(f"{option} {text}: the count must be at least 1{ends}")
    column = (np.geomspace if spaced == "log" else np.linspace)(first, last, number).tolist()
    return [round(value) for value in column] if whole else column


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        i, n = text.split("/")
        return int(i), int(n)
    except ValueError:
        raise ValueError(f"--shard {text}: give i/N, such as 0/8") from None


def _executor(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the executor and how to close it."""
    if args.dask is None:
        return (args.workers if args.processes is None else f"processes:{args.processes}"), lambda: None
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--dask needs the package distributed: pip install 'dln[cluster]'") from None
    try:
        client = Client(args.dask, timeout=30)
    except OSError as error:
        raise ValueError(f"--dask {args.dask}: no scheduler answers there ({error})") from None
    return client.get_executor(), client.close


def _report(args: argparse.Namespace, problem: Any, rule: Any, grid: Any) -> int:
    shape = " x ".join(f"{name} ({size})" for name, size in grid.sizes.items()) or "one cell"
    print(f"{problem}, rule {rule.name}: {shape}, {grid.attrs['n_cells']} cells")
    failed, missing = grid.attrs.get("n_failed", 0), grid.attrs.get("n_not_computed", 0)
    if "n_failed" in grid.attrs:
        codes, counts = np.unique(grid.status.values, return_counts=True)
        words = dict(zip(grid.status.flag_values.tolist(), grid.status.flag_meanings.split(), strict=True))
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            print(f"  {words[code].replace('_', ' ')}: {count}")
    print(f"wrote {args.out}")
    if missing and args.shard is None:
        print(f"dln: {missing} cells are not computed: add --resume", file=sys.stderr)
        return FAILED
    if failed:
        print(f"dln: {failed} of {grid.attrs['n_cells']} cells failed; they are NaN, with their status", file=sys.stderr)
    return FAILED if failed else FINE
