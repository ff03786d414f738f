"""The command ``theriac``: results to stdout, logs and progress to stderr.

Exit status: 0 done, 1 some cells failed, 2 bad usage or configuration, 130 interrupted and resumable.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from pydantic import ValidationError
from rich.console import Console

from .. import __version__
from ..errors import BadInput, explain_validation
from ..search.settings import HealSettings
from .messages import Warnings, explain_usage, show_numbers

FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


def _show_default(value: object) -> object:
    return show_numbers(value) if isinstance(value, tuple) else value


out = Console(soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True)

app = App(
    name="theriac",
    help="Heal poisoned image classifiers, and compare the methods that claim to.",
    version=__version__,
    console=out,
    error_console=err,
    result_action="return_value",
    default_parameter=Parameter(negative=(), consume_multiple=True, show_default=_show_default),
    suppress_keyboard_interrupt=False,  # `run` says what to do next
)

Topic = Literal["datasets", "models", "triggers", "methods", "searches", "presets"]
Format = Literal["terminal", "markdown", "latex", "csv"]
Numbers = tuple[float, ...]


@app.command
def quickstart(
    *,
    results: Path = Path("theriac-quickstart"),
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 2,
    seed: Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))] = 0,
    fresh: bool = False,
    verbose: bool = False,
) -> int:
    """Poison handwritten digits, train a victim, heal it in six ways; about a minute.

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
    verbose
        Let Ray and the workers log to stderr.
    """
    start = time.perf_counter()  # before the imports, which take seconds
    from .display import live_reporter
    from .quickstart import run_quickstart

    with live_reporter(err) as reporter:
        report = run_quickstart(
            results, workers=workers, seed=seed, fresh=fresh, verbose=verbose, reporter=reporter
        )
    _print_table(report.searches, "terminal", aggregate=False)
    for figure in report.figures:
        _say(f"figure: {figure}")
    _say(f"results: {report.results}/  (theriac table {report.results})")
    computed, present = report.summary.computed, len(report.summary.keys) - report.summary.computed
    _say(f"cells: {computed} computed, {present} already there; {time.perf_counter() - start:.1f} s")
    return FAILED if report.summary.failed else 0


@app.command
def heal(
    *,
    weights: Path,
    forget: Path,
    retain: Path,
    out_folder: Annotated[Path, Parameter(name="--out")] = Path("healed"),
    model: str = "resnet9",
    width: float = 1.0,
    num_classes: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    image_size: Annotated[int | None, Parameter(validator=Number(gte=2))] = None,
    channels: int = 3,
    mean: Numbers = (0.0,),
    std: Numbers = (1.0,),
    settings: Annotated[HealSettings, Parameter(name="*")] = HealSettings(),  # noqa: B008 (frozen)
    device: str = "auto",
    trust_pickle: bool = False,
) -> int:
    """Heal one model of the trigger that some found samples show.

    Writes model.safetensors and healing.json, and prints the report as JSON. Unless the status is "stopped",
    the weights are those that came in, and the exit status is 1.

    Parameters
    ----------
    weights
        The poisoned model: a safetensors file, or a torch.save checkpoint of a state dict.
    forget
        The samples known to be poisoned, under the labels they were trained with: class folders
        (FORGET/LABEL/*.png) or Parquet image files.
    retain
        The rest of the training set, in either form; it may hold poison not yet found.
    out_folder
        Folder for the healed model and the report; what another healing left there is replaced.
    model
        Architecture: resnet9, or any name timm knows.
    width
        Width factor of our own architectures.
    num_classes
        Logits of the model; by default the number of classes in RETAIN.
    image_size
        Resize (shorter side) and centre-crop to this side; by default as stored.
    channels
        1 for grey, 3 for RGB.
    mean
        Normalisation as in training: mean of images in [0, 1], one number or one a channel.
    std
        Normalisation as in training: standard deviation, one number or one a channel.
    device
        auto, cpu, cuda, cuda:1, ...
    trust_pickle
        Also read checkpoints that run code when loaded. Only for files whose author you trust.
    """
    from ..unlearning.models import ModelSpec
    from .display import PhaseBars, bars
    from .healing import HealRequest, Preprocessing, prepare_output, verdict

    prepare_output(out_folder, weights)
    preprocessing = Preprocessing(image_size=image_size, channels=channels, mean=mean, std=std)
    try:
        spec = ModelSpec(name=model, width=width)
    except ValidationError as error:
        raise explain_validation(error, "model") from error
    request = HealRequest(
        weights=weights,
        model=spec,
        forget=forget,
        retain=retain,
        preprocessing=preprocessing,
        settings=settings,
        num_classes=num_classes,
        device=device,
        trust_pickle=trust_pickle,
    )
    with bars(err) as progress:
        healing = request.run(PhaseBars(progress))
    folder = healing.save(out_folder)
    summary = healing.summary()
    del summary["trace"]
    print(json.dumps(summary, indent=2))
    _say(verdict(healing, folder))
    return 0 if healing.status == "stopped" else FAILED


@app.command
def table(results: Path, /, *, format: Format = "terminal", aggregate: bool = False) -> int:
    """Print the searches of a results folder as a table; works while they are being written.

    Parameters
    ----------
    results
        Folder of results.
    format
        terminal, markdown, latex (booktabs) or csv (raw numbers).
    aggregate
        Mean and standard deviation over seeds.
    """
    from ..search.results import ResultsStore

    store = ResultsStore(results, create=False)
    searches = store.read("searches")
    if not searches.num_rows:
        raise BadInput(f"{results} holds no finished searches yet; run `theriac quickstart` or wait for one")
    _print_table(searches, format, aggregate=aggregate)
    return 0


@app.command(name="list")
def list_(topic: Topic | None = None, /, *, data: Path | None = None) -> int:
    """List what can be named: datasets, models, triggers, methods, searches, presets; all of them by default.

    Parameters
    ----------
    topic
        One of the lists.
    data
        Folder of the datasets; by default the variable THERIAC_DATA, else ./data.
    """
    from .catalogue import catalogue

    for title, entries in catalogue(data).items():
        if topic in (None, title):
            _print_entries(title, entries)
    return 0


@app.command
def doctor(*, data: Path | None = None, results: Path = Path(), start_ray: bool = False) -> int:
    """Check versions, devices, memory, disk, Ray and data folders; each fault with its remedy.

    Parameters
    ----------
    data
        Folder of the datasets; by default the variable THERIAC_DATA, else ./data.
    results
        Folder to which results would be written.
    start_ray
        Also start and stop a local Ray; takes some seconds.
    """
    from .doctor import diagnose

    checks = diagnose(data, results=results, start_ray=start_ray)
    for check in checks:
        out.print("[green]ok   [/]" if check.ok else "[red]FAULT[/]", end=" ")
        out.print(f"{check.name}: {check.value}", markup=False, highlight=False, soft_wrap=True)
        if check.remedy:
            out.print(f"      {check.remedy}", markup=False, highlight=False, soft_wrap=True)
    return 0 if all(check.ok for check in checks) else FAILED


def main() -> None:
    """Run the command line; leaves by `SystemExit`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without "→" shows "?"
    logging.basicConfig(level=logging.WARNING, handlers=[Warnings(_say)])
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    try:
        status = app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _refuse(explain_usage(error))
    except BadInput as error:
        return _refuse(str(error))
    except OSError as error:
        return _output_lost(error)
    except KeyboardInterrupt:
        _say("interrupted; finished cells are kept: run the same command again to go on")
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _say(line: str) -> None:
    err.print(line, markup=False, highlight=False, soft_wrap=True)


def _refuse(reason: str) -> int:
    err.print("error:", style="bold red", end=" ")
    _say(reason)
    return BAD_USAGE


def _output_lost(error: OSError) -> int:
    """The reader of stdout has enough (`theriac table x | head`), its disk is full, or a file is no use."""
    if error.filename is not None:
        return _refuse(f"{error.filename}: {error.strerror}; give a file or folder that theriac may use")
    if error.errno not in (errno.EPIPE, errno.ENOSPC):
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
    return 0 if error.errno == errno.EPIPE else _refuse(f"cannot write: {error.strerror}")


def _print_table(searches: Any, format: Format, *, aggregate: bool) -> None:
    from ..search.tables import TerminalTable, render, searches_table

    arranged = searches_table(searches, aggregate=aggregate)
    if format == "terminal" and out.is_terminal:
        out.print(TerminalTable(table=arranged))
    else:
        print(render(arranged, "text" if format == "terminal" else format).rstrip("\n"))


def _print_entries(title: str, entries: Sequence[tuple[str, str]]) -> None:
    out.print(f"[bold]{title}[/]")
    width = max(len(name) for name, _ in entries)
    for name, text in entries:
        out.print(f"  {name:<{width}}  {text}", markup=False, highlight=False, soft_wrap=True)
