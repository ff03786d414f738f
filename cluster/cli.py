"""The command ``theriac``: results to stdout, logs and progress to stderr.

Exit status: 0 done, 1 some cells failed, 2 bad usage or configuration, 130 interrupted and resumable.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from .. import __version__
from ..errors import BadInput, printable
from ..search.store import masked
from .commands import (
    Answer,
    Warnings,
    explain_usage,
    export,
    interruption,
    plot,
    printable_lines,
    report,
    say_warning,
    show_default,
    shown,
    status,
    table,
)
from .environment import allow_warnings, expand_home, explain_output, forgive_streams, no_memory, unusable
from .interrupts import heed_termination
from .lifeline import by_force
from .options import (
    AsJson,
    Code,
    Data,
    Device,
    Folder,
    HealOptions,
    Preprocessing,
    Seconds,
    Seed,
    Set,
    Some,
    Subject,
    Topic,
    Verbose,
    Where,
)

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130

out = Console(soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True)

app = App(
    name="theriac",
    help="Heal poisoned image classifiers, and compare the methods that claim to.",
    version=__version__,
    console=out,
    error_console=err,
    result_action="return_value",
    default_parameter=Parameter(negative=(), consume_multiple=True, show_default=show_default),
    suppress_keyboard_interrupt=False,  # `run` says what to do next
)
app.register_install_completion_command(help="Install tab completion for your shell.")


@app.command
def quickstart(
    *,
    results: Folder = Path("theriac-quickstart"),
    workers: Some = 2,
    seed: Seed = 0,
    fresh: bool = False,
    verbose: Verbose = False,
) -> int:
    """Poison handwritten digits, train a victim, heal it in seven ways; a minute or two.

    Prints the table and writes results (Parquet), models and two figures. Run again, it computes only what
    is missing.

    Parameters
    ----------
    results
        Folder for results, models and figures.
    workers
        Ray workers, one CPU each.
    seed
        Seed of the scenario: poison, weights, sample order.
    fresh
        Compute everything again, except the trained models.
    """
    start = time.perf_counter()  # before the imports, which take seconds
    from ..search.report import searches_table
    from .commands import live_reporter, run_quickstart

    with live_reporter(err, _say) as reporter:
        report = run_quickstart(
            results, workers=workers, seed=seed, fresh=fresh, verbose=verbose, reporter=reporter
        )
    _answer(shown(searches_table(report.searches)))
    for line in report.lines():
        _say(line)
    _say(f"{time.perf_counter() - start:.1f} s")
    return FAILED if report.summary.failed else 0


@app.command
def heal(
    *,
    subject: Annotated[Subject, Parameter(name="*")],
    out_folder: Annotated[Folder, Parameter(name="--out")] = Path("healed"),
    preprocessing: Annotated[Preprocessing, Parameter(name="*")] = Preprocessing(),  # noqa: B008 (frozen)
    settings: Annotated[HealOptions, Parameter(name="*")] = HealOptions(),  # noqa: B008 (frozen)
    set_: Set = [],  # noqa: B006 (read only)
    code: Code = (),
) -> int:
    """Heal one model of the trigger that some found samples show.

    Writes model.safetensors and healing.json, and prints the report as JSON. Unless the found images show
    it healed (status "stopped" or "done"), the weights are those that came in, and the exit status is 1.

    Parameters
    ----------
    out_folder
        Folder for the healed model and the report; what another healing left there is replaced.
    set_
        A hyperparameter of a method that trains, which is not searched then: --set learning_rate=0.001.
    """
    from ..search.phase_progress import phase_progress
    from .commands import HealRequest, hyperparameters, prepare_output, verdict

    prepare_output(out_folder, subject.weights)
    chosen = {"settings": settings, "parameters": hyperparameters(set_)}
    request = HealRequest(**subject.model_dump(exclude_unset=True), preprocessing=preprocessing, **chosen)
    with phase_progress(err) as told:
        healing = request.run(told)
    folder = healing.save(out_folder)
    summary = healing.summary()
    del summary["trace"]
    print(json.dumps(summary, indent=2))
    for line in verdict(healing, Path(printable(str(folder)))).split("\n"):
        _say(line)
    return 0 if healing.healed else FAILED


@app.command
def sweep(
    sweep: str,
    /,
    *,
    set_: Set = [],  # noqa: B006 (read only)
    results: Folder = Path("theriac-results"),
    code: Code = (),
    where: Annotated[Where, Parameter(name="*")] = Where(),  # noqa: B008 (frozen)
    log: Literal["tensorboard", "mlflow", "wandb"] | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    verbose: Verbose = False,
) -> int:
    """Compute every cell of a sweep that is not in the results yet, on this machine or a Ray cluster.

    Ctrl-C once finishes what has begun, twice stops at once; the same command goes on. `theriac status`,
    `table` and `plot` work meanwhile.

    Parameters
    ----------
    sweep
        A YAML file, or a preset (`theriac list sweeps`).
    set_
        Change a value of the sweep: --set seeds=[0,1] --set settings.rho=0.1.
    results
        Folder of the results; many sweeps may share it.
    log
        Also log every cell: to RESULTS/tensorboard, MLflow or Weights & Biases; off by default.
    fresh
        Compute all cells again; trained models and importances are kept.
    dry_run
        Only check the sweep, and print it with the number of its cells.
    """
    from ..search.sweep import checked_sweep
    from .commands import live_reporter
    from .loggers import cell_logger
    from .run_sweep import SweepRun, preview, verdict

    chosen, logger = checked_sweep(sweep, set_, where.data), cell_logger(log, results)
    run = SweepRun(sweep=chosen, directory=results, fresh=fresh, log=logger, **dict(where))
    if dry_run:
        _print(preview(run))
        return 0
    with live_reporter(err, _say) as reporter:
        summary = run.execute(reporter, verbose=verbose)
    _say(verdict(summary, results))
    return FAILED if summary.failed or summary.missing else 0


@app.command
def plan(
    sweep: str,
    /,
    *,
    set_: Set = [],  # noqa: B006 (read only)
    results: Folder = Path("theriac-results"),
    code: Code = (),
    data: Data = None,
    seconds: Seconds = 8.0,
    device: Device = "auto",
    json: AsJson = False,
) -> int:
    """Estimate what is left of a sweep: device hours, memory, disk, and wall clock by workers.

    Times a few batches of every sort of scenario on this machine, and simulates the sweep with them.

    Parameters
    ----------
    sweep
        A YAML file, or a preset (`theriac list sweeps`).
    set_
        Change a value of the sweep.
    results
        Folder whose finished cells are left out, and whose measurements are used.
    seconds
        How long to measure each sort of scenario.
    device
        Where to measure; auto takes a GPU if there is one.
    """
    from ..search.phase_progress import phase_progress
    from ..search.plan import plan_json, plan_text
    from ..search.sweep import checked_sweep
    from .run_sweep import estimate

    with phase_progress(err) as told:
        chosen = checked_sweep(sweep, set_, data)
        found = estimate(chosen, results, data, device, seconds=seconds, progress=told)
    _print(plan_json(found) if json else plan_text(found))
    return 0


for reading in (status, plot, table, report, export):
    app.command(reading)


@app.command(name="list")
def list_(
    topic: Topic | None = None,
    name: str | None = None,
    /,
    *,
    sheet: Path | None = None,
    dataset: str = "digits",
    data: Data = None,
) -> int:
    """List what can be named: datasets, models, methods, presets, sweeps ...; everything by default.

    Parameters
    ----------
    topic
        One of the lists.
    name
        With methods: one of them, with all that can be set about it.
    sheet
        Also draw all triggers to this file (.png, .pdf or .svg); with the topic attacks.
    dataset
        Whose images the sheet shows.
    """
    from .commands import check_sheet, draw_attacks, listing

    check_sheet(sheet, topic, dataset)
    for line in listing(topic, name, data):
        out.print(printable(line), markup=False, highlight=False, style=None if line[:1] == " " else "bold")
    if sheet:
        _say(f"drawn to {draw_attacks(sheet, dataset, data)}")
    return 0


@app.command
def doctor(*, data: Data = None, results: Folder = Path(), start_ray: bool = False) -> int:
    """Check versions, devices, memory, disk, Ray and data folders; each fault with its remedy.

    Parameters
    ----------
    results
        Folder to which results would be written.
    start_ray
        Also start and stop a local Ray; takes some seconds.
    """
    from .commands import diagnose

    checks = diagnose(data, results=results, start_ray=start_ray)
    for check in checks:
        out.print("[green]ok   [/]" if check.ok else "[red]FAULT[/]", end=" ")
        _show(f"{check.name}: {check.value}")
        if check.remedy:
            _show(f"      {check.remedy}")
    return 0 if all(check.ok for check in checks) else FAILED


def main() -> None:
    """Run the command line; leaves by `SystemExit`."""
    allow_warnings()
    forgive_streams()
    by_force.append(os._exit)
    heed_termination()
    logging.basicConfig(level=logging.WARNING, handlers=[Warnings(_say)])
    warnings.showwarning = say_warning(_say)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    reason = unusable()
    if reason and arguments[:1] != ["doctor"]:
        return _refuse(reason)
    try:
        status = _answer(app(expand_home(arguments), exit_on_error=False, print_error=False))
        sys.stdout.flush()
    except CycloptsError as error:
        return _refuse(explain_usage(error, app, arguments))
    except BadInput as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(reason) if (reason := explain_output(error)) else 0
    except (ImportError, MemoryError) as error:
        return _refuse(no_memory(error))
    except KeyboardInterrupt as error:
        _say(str(error) or interruption(arguments))
        return INTERRUPTED
    return status


def _say(line: str) -> None:
    err.print(printable(masked(line)), markup=False, highlight=False, soft_wrap=True)


def _show(line: str) -> None:
    out.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _print(text: str) -> None:
    print(printable_lines(text))


def _refuse(reason: str) -> int:
    err.print("error:", style="bold red", end=" ")
    _say(reason)
    return BAD_USAGE


def _answer(answer: object) -> int:
    """Print what a command found; return the exit status."""
    if not isinstance(answer, Answer):
        return answer if isinstance(answer, int) else 0
    if answer.terminal is not None and out.is_terminal:
        out.print(answer.terminal)
    else:
        print(answer.text) if answer.raw and not out.is_terminal else _print(answer.text)
    return 0
