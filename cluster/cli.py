"""The command ``theriac``: results to stdout, logs and progress to stderr.

Exit status: 0 done, 1 some cells failed, 2 bad usage or configuration, 130 interrupted and resumable.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler

from .. import __version__
from ..errors import BadInput, explain_validation
from ..search.settings import HealSettings

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
)

Topic = Literal["datasets", "models", "triggers", "methods", "presets"]
Format = Literal["terminal", "markdown", "latex", "csv"]


@app.command
def quickstart(
    *,
    results: Path = Path("theriac-quickstart"),
    workers: int = 2,
    seed: int = 0,
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
    from .display import live_reporter
    from .quickstart import run_quickstart

    if seed < 0:
        raise BadInput(f"seed {seed}: give 0 or more")
    with live_reporter(err) as reporter:
        report = run_quickstart(
            results, workers=workers, seed=seed, fresh=fresh, verbose=verbose, reporter=reporter
        )
    _print_table(report.searches, "terminal", aggregate=False)
    for figure in report.figures:
        err.print(f"figure: {figure}")
    err.print(f"results: {report.results}/  (theriac table {report.results})")
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
    num_classes: int | None = None,
    image_size: int | None = None,
    channels: int = 3,
    mean: Annotated[tuple[float, ...], Parameter(negative=())] = (0.0,),
    std: Annotated[tuple[float, ...], Parameter(negative=())] = (1.0,),
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
        Folder for the healed model and the report.
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
    from .healing import HealRequest, Preprocessing

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
    err.print(_verdict(healing.status, folder))
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
    """List what can be named: datasets, models, triggers, methods, presets; all of them by default.

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
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=err, show_time=False, show_path=False)],
    )
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    try:
        status = app(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        return BAD_USAGE
    except BadInput as error:
        err.print(f"[bold red]error:[/] {_escaped(error)}", highlight=False, soft_wrap=True)
        return BAD_USAGE
    except KeyboardInterrupt:
        err.print("interrupted; what was finished is kept: run the same command again to go on")
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _print_table(searches: Any, format: Format, *, aggregate: bool) -> None:
    from ..search.tables import TerminalTable, render, searches_table

    arranged = searches_table(searches, aggregate=aggregate)
    if format == "terminal" and out.is_terminal:
        out.print(TerminalTable(table=arranged))
    else:
        print(render(arranged, "text" if format == "terminal" else format))


def _print_entries(title: str, entries: Sequence[tuple[str, str]]) -> None:
    out.print(f"[bold]{title}[/]")
    width = max(len(name) for name, _ in entries)
    for name, text in entries:
        out.print(f"  {name:<{width}}  {text}", markup=False, highlight=False, soft_wrap=True)


def _verdict(status: str, folder: Path) -> str:
    return {
        "stopped": f"healed model: {folder}/model.safetensors",
        "no_stop": f"no setting made the model forget; {folder} holds the weights that came in. "
        f"Try --granularity or --method, and check that FORGET shows one trigger",
        "collapsed": f"the setting that forgets wrecks the model; {folder} holds the weights that came in. "
        f"Try another --granularity, a higher --rho (or auto), or more found samples",
    }[status]


def _escaped(error: BaseException) -> str:
    from rich.markup import escape

    return escape(str(error))
