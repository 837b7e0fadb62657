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
from pathlib import Path
from typing import Any

import numpy as np

import dln

from ._arguments import PRINT, check_out, joined, make_rule, parsers, read_problem
from ._suggest import unknown
from .cli_sweep import body as _sweep

__all__ = ["main"]

FINE, FAILED, BAD, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141

#: A coefficient counts as part of the support above this fraction of the largest.
SUPPORT = 1e-3


# ---------------------------------------------------------------------------------------------------------------------
# The way in and out


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
    parser, commands = parsers(COMMANDS)
    if argv and not argv[0].startswith("-") and argv[0] not in commands:
        raise ValueError(unknown("command", argv[0], commands))
    args, rest = parser.parse_known_args(joined(argv))
    for word in rest:
        if word.startswith("-"):
            options = commands[args.command]._option_string_actions if args.command else ("--help", "--version")
            raise ValueError(unknown(f"option of dln {args.command or ''}".rstrip(), word.split("=")[0], options))
        raise ValueError(f"dln {args.command} takes no further argument {word!r} (see dln {args.command} --help)")
    if args.command is None:
        parser.print_help()
        return FINE
    return int(args.body(args))


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


def _spread(logs: np.ndarray) -> str:
    return f"mean {logs.mean():.6g}, from {logs.min():.6g} to {logs.max():.6g}"


def _scale_words(args: argparse.Namespace) -> str:
    scale = f"alpha = {args.alpha:g}" if args.alpha is not None else f"log alpha = {args.log_alpha:g}"
    depth = getattr(args, "depth", 2.0)
    return scale if depth == 2.0 else f"{scale}, depth {depth:g}"


def _progress() -> Callable[..., Any] | None:
    """Give tqdm on a terminal, else nothing."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    return tqdm


# ---------------------------------------------------------------------------------------------------------------------
# Commands


def _flow(args: argparse.Namespace) -> int:
    rule = make_rule(args)
    check_out(args.out, "--out", (".npz",))
    check_out(args.plot, "--plot", (".png", ".pdf"))
    problem = read_problem(args)
    assert problem is not None
    run = dln.flow(problem, rule, depth=args.depth, alpha=args.alpha, log_alpha=args.log_alpha, t_end=args.t_end,
                   rtol=args.rtol, method=args.method, max_steps=args.max_steps)
    names = ("success", "status", "message", "t", "loss", "residual", "error_estimate", "method", "n_steps",
             "n_rejected", "n_rhs", "rtol", "beta", "log_effective_alpha", "center", "log_u", "log_v", "dual",
             "shrinkage", "log_alpha", "log_ratio", "depth", "exact_law")
    record: dict[str, Any] = {"data": problem.name, "feature_names": problem.feature_names, "rule": repr(rule)}
    record |= {name: getattr(run, name) for name in names}
    record["status"] = str(run.status)
    if not run.exact_law:
        best = dln.predict(run).beta
        record["distance_to_minimizer"] = math.dist(run.beta, best) / max(float(np.linalg.norm(best)), 1e-300)
    if args.out:
        _save_npz(args.out, problem, record)
    if args.plot:
        _plot(args, problem, rule, run.t)
    if args.json:
        _print_json(record)
    else:
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
            "log alpha_eff": _spread(run.log_effective_alpha),
            **({} if run.exact_law else {"no exact law": f"relative distance {record['distance_to_minimizer']:.2e} from the "
                                                         f"minimiser of the potential at alpha_eff"}),
        })
    return FINE if run.success else _complain(f"{run.status}: {run.message}", FAILED)


def _descend(args: argparse.Namespace) -> int:
    rule = make_rule(args)
    check_out(args.out, "--out", (".npz",))
    problem = read_problem(args)
    assert problem is not None
    run = dln.descend(problem, rule, step=args.step, n_steps=args.n_steps, alpha=args.alpha, log_alpha=args.log_alpha,
                      momentum=args.momentum, nesterov=args.nesterov, batch_size=args.batch_size, sampling=args.sampling,
                      label_noise=args.label_noise, rng=args.run_seed)
    names = ("success", "status", "message", "n_steps", "t", "loss", "flooded_loss", "residual", "n_sign_flips", "n_descents",
             "n_ascents", "n_alternations", "beta", "log_effective_alpha", "effective_log_ratio", "center", "log_u", "log_v",
             "sign_u", "sign_v", "dual", "log_alpha", "log_ratio", "exact_law")
    options = ("step", "momentum", "nesterov", "batch_size", "sampling", "label_noise", "run_seed")
    record: dict[str, Any] = {"data": problem.name, "feature_names": problem.feature_names, "rule": repr(rule)}
    record |= {name: getattr(args, name) for name in options} | {name: getattr(run, name) for name in names}
    record["status"] = str(run.status)
    if args.out:
        _save_npz(args.out, problem, record)
    if args.json:
        _print_json(record)
    else:
        flooding = {"flooding": f"{run.n_descents} steps down, {run.n_ascents} up, {run.n_alternations} changes; "
                                f"flooded loss {run.flooded_loss:.4g}"} if isinstance(rule, dln.Flooding) else {}
        print(f"{problem}, {rule}, {_scale_words(args)}, step {args.step:g}")
        _print_rows({
            "status": f"{run.status}: {run.message}",
            "t": f"{run.t:.8g}",
            "loss": f"{run.loss:.4g}",
            **flooding,
            "residual": f"{run.residual:.2e} (relative)",
            "sign flips": f"{run.n_sign_flips}",
            **_sizes(run.beta),
            "log alpha_eff": _spread(run.log_effective_alpha),
        })
    return FINE if run.success else _complain(f"{run.status}: {run.message}", FAILED)


def _plot(args: argparse.Namespace, problem: dln.Problem, rule: dln.Rule, t_end: float) -> None:
    import figures

    log_alpha = args.log_alpha if args.alpha is None else math.log(args.alpha)
    module = figures.get("trajectories")
    data = module.compute(problem, rule, log_alphas=[log_alpha], t_end=t_end, rtol=args.rtol, method=args.method,
                          max_steps=args.max_steps, depth=args.depth)
    figures.save(_figure_of(module.draw(data)), args.plot)


def _predict(args: argparse.Namespace) -> int:
    check_out(args.out, "--out", (".npz",))
    problem = read_problem(args)
    assert problem is not None
    best = dln.minimize_potential(problem, depth=args.depth, alpha=args.alpha, log_alpha=args.log_alpha)
    names = ("success", "status", "message", "residual", "duality_gap", "n_iterations", "beta", "dual")
    record = {"data": problem.name, "feature_names": problem.feature_names}
    record |= {"alpha": args.alpha, "log_alpha": args.log_alpha, "depth": args.depth}
    record |= {name: getattr(best, name) for name in names}
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

    potential = None
    try:
        if args.map is not None:
            potential = theory.derive_potential(args.map)
            derivation = potential.derivation
        else:
            derivation = theory.get(args.theorem).derive()
    except theory.DerivationError as error:  # a step that sympy does not prove is a failed check, not bad input
        return _complain(str(error), FAILED)
    print(derivation.to_latex() if args.latex else derivation)
    if potential is not None and not args.latex:
        print(f"\n{potential}")
    return FINE


def _verify(args: argparse.Namespace) -> int:
    import theory

    if args.json == PRINT and args.markdown:
        raise ValueError("argument --markdown: not allowed with argument --json, unless that is given a file to write to")
    if args.json not in (None, PRINT):
        check_out(args.json, "--json", (".json",))
    if args.jobs is not None and args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {args.jobs}")
    for key in args.theorems:  # before data are read: a misspelt key should not cost time
        theory.get(key)
    if args.mutants:
        return _mutants(args)
    # Starting processes costs some seconds: more than most theorems take alone.
    jobs = args.jobs or (1 if len(args.theorems) == 1 else _cores())
    progress = _report_finished if args.progress or sys.stderr.isatty() else None
    checks = theory.verify(args.theorems or None, read_problem(args), progress, jobs)
    if args.json not in (None, PRINT):
        args.json.write_text(theory.to_json(checks) + "\n", encoding="utf-8")
    print(theory.to_json(checks) if args.json == PRINT else theory.table(checks, "markdown" if args.markdown else "text"))
    failed = [check for check in checks if check.passed is False]  # None is neither: an empirical claim
    for check in failed:
        _complain(f"{check.key} failed: {check.message}", FAILED)
    return FAILED if failed else FINE


def _report_finished(check: Any) -> None:
    print(check, file=sys.stderr, flush=True)


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mutants(args: argparse.Namespace) -> int:
    import theory

    keys = args.theorems or list(theory.theorems)
    verdicts = theory.kill_mutants([theory.get(key) for key in keys], read_problem(args), _progress())
    print(theory.mutant_table(verdicts))
    return FAILED if any(verdict.survivors for verdict in verdicts) else FINE


def _figure(args: argparse.Namespace) -> int:
    import figures

    if args.list:
        width = max(map(len, figures.registry))
        for name in figures.registry:
            print(f"{name:{width}}  {(figures.get(name).__doc__ or '').splitlines()[0]}")
        return FINE
    if args.all:
        return _gallery(args)
    if args.out_dir is not None:
        raise ValueError("--out-dir goes with --all; for one figure give --out FILE")
    if args.name is None:
        raise ValueError(f"name a figure: {', '.join(figures.registry)}")
    module = figures.get(args.name)
    if not args.out:
        raise ValueError(f"figure {args.name} needs --out FILE, ending in {' or '.join(figures.SUFFIXES)}")
    for path in args.out:
        check_out(path, "--out", figures.SUFFIXES)
    figure = _figure_of(module.draw(_figure_data(args, module)))
    for path in args.out:
        figures.save(figure, path)
        print(f"wrote {path}")
    return FINE


def _figure_data(args: argparse.Namespace, module: Any) -> Any:
    """Give what a figure is to draw: read from a stored grid, or computed."""
    from figures import _stored, gallery

    choices = {name: getattr(args, name) for name in ("x", "y", "measure", "at") if getattr(args, name) is not None}
    if args.data is not None and _stored.is_store(args.data):
        for name in ("target", "n_samples", "seed", "full"):
            if getattr(args, name) not in (None, False):
                raise ValueError(f"--{name.replace('_', '-')} does not go with a stored grid")
        if not hasattr(module, "read"):
            raise ValueError(f"figure {args.name} is not drawn from a stored grid: leave out --data, or take phase-diagram")
        return module.read(_stored.open_store(args.data), **choices | ({"at": _stored.places(args.at)} if args.at else {}))
    for name in choices:
        raise ValueError(f"--{name} needs --data with a stored grid, such as grid.zarr")
    options = gallery.options_of(module, args.full)
    accepted = inspect.signature(module.compute).parameters
    problem = read_problem(args)
    if problem is not None:
        if "problem" not in accepted:
            raise ValueError(f"figure {args.name} needs no data: leave out --data")
        options["problem"] = problem
    if "progress" in accepted:
        options["progress"] = _progress()
    return module.compute(**options)


def _gallery(args: argparse.Namespace) -> int:
    from figures import gallery

    for name in ("name", "out", "data", "x", "y", "measure", "at"):
        if getattr(args, name) is not None:
            option = "a figure's name" if name == "name" else f"--{name}"
            raise ValueError(f"{option} does not go with --all, which draws every figure with its own data into --out-dir")
    read_problem(args)  # options of data without data are refused
    drawn = gallery.draw_all(args.out_dir or Path("build/gallery"), full=args.full,
                             report=lambda one: print(one, file=sys.stderr if one.error else sys.stdout, flush=True))
    failed = sum(bool(one.error) for one in drawn)
    print(f"{len(drawn) - failed} of {len(drawn)} figures in {sum(one.seconds for one in drawn):.0f} s")
    return _complain(f"{failed} of {len(drawn)} figures failed", FAILED) if failed else FINE


def _explore(args: argparse.Namespace) -> int:
    import figures
    from figures import explore

    check_out(args.screenshot, "--screenshot", figures.SUFFIXES)
    if args.alpha is not None and not args.alpha > 0:
        raise ValueError(f"--alpha must be positive, got {args.alpha:g}")
    begin = {"rule": args.rule, "gamma": args.gamma, "epsilon": args.epsilon,
             "log_alpha": args.log_alpha if args.alpha is None else math.log(args.alpha)}
    settings = explore.Settings(**{name: value for name, value in begin.items() if value is not None})
    problem = read_problem(args)
    assert problem is not None
    if args.screenshot is None:
        explore.show(problem, settings)
    else:
        explore.screenshot(problem, args.screenshot, settings)
        print(f"wrote {args.screenshot}")
    return FINE


def _figure_of(axes: Any) -> Any:
    return np.ravel(axes)[0].figure


COMMANDS = {"flow": _flow, "descend": _descend, "sweep": _sweep, "predict": _predict, "theorems": _theorems,
            "derive": _derive, "verify": _verify, "figure": _figure, "explore": _explore}
