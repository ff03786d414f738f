"""Tell TensorBoard, MLflow or Weights & Biases of every finished cell; off unless asked for by name.

The Parquet results are the record; these are views of it, and losing one loses nothing.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from ..errors import BadInput
from ..rows import Row

Name = Literal["tensorboard", "mlflow", "wandb"]

PROJECT = "theriac"
PARAMETERS = (
    "dataset",
    "model",
    "attack",
    "manipulated",
    "share",
    "seed",
    "method",
    "granularity",
    "search",
    "parameters",
)
METRICS = (
    "clean_accuracy",
    "damage",
    "asr",
    "healed_raw",
    "healed",
    "alpha",
    "steps",
    "seconds_victim",
    "seconds_importance",
    "seconds_search",
    "seconds_evaluation",
)
TAGS = ("status", "key", "scenario", "error_class", "error_message")
MOST_FAILURES = 3
LOGIN_SECONDS = 30.0

log = logging.getLogger(__name__)


@runtime_checkable
class CellLogger(Protocol):
    """Takes the row of `searches` of every finished cell."""

    def cell(self, row: Row) -> None:
        """Log the row of a finished cell; never raises."""

    def close(self) -> None:
        """Wait until all is logged that was taken; takes no further rows."""


class Sink(Protocol):
    """Where rows go; may be slow, and may raise."""

    def log(self, row: Row) -> None:
        """Log a row of `searches`."""


def cell_logger(name: Name | None, results: Path) -> CellLogger | None:
    """Return a logger by name; None for None.

    Nothing is written or connected to before the first cell.

    Args:
        name: a key of `LOGGERS`.
        results: folder of the results; TensorBoard and a local MLflow write below it.

    Raises:
        BadInput: the package is not installed, or cannot be imported.
    """
    if name is None:
        return None
    kind = LOGGERS[name]
    try:
        module = importlib.import_module(kind.module)
    except ImportError as error:
        raise BadInput(
            f"--log {name} needs the package {kind.package} ({error}); "
            f"pip install {kind.package}, or leave --log out"
        ) from error
    return Background(name, kind.sink(module, results))


class Background:
    """Logs in a thread of its own: the sweep waits for no server.

    The first failure is a warning. After `MOST_FAILURES` in a row nothing more is logged.

    Args:
        name: of the logger, for the warning.
        sink: where rows go.
    """

    def __init__(self, name: str, sink: Sink) -> None:
        self._name, self._sink = name, sink
        self._in_a_row, self._warned = 0, False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"theriac-{name}")

    def cell(self, row: Row) -> None:
        """Log the row when its turn comes."""
        self._thread.submit(self._log, dict(row))

    def close(self) -> None:
        """Wait until all is logged."""
        self._thread.shutdown(wait=True)

    def _log(self, row: Row) -> None:
        if self._in_a_row >= MOST_FAILURES:
            return
        try:
            self._sink.log(row)
            self._in_a_row = 0
        except Exception as error:  # of any library and server: the results are safe
            self._in_a_row += 1
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            log.warning(
                "a cell could not be logged to %s (%s); the results have it, and the sweep goes on without "
                "further warnings of this kind",
                self._name,
                " ".join(f"{type(error).__name__}: {error}".split())[:300],
            )
        self._warned = True


class TensorBoard:
    """A run per cell below RESULTS/tensorboard, with hyperparameters (the status among them) and scalars."""

    def __init__(self, module: Any, results: Path) -> None:
        self._writer, self._folder = module.SummaryWriter, results / "tensorboard"
        self._hparams = importlib.import_module(f"{module.__name__}.summary").hparams

    def log(self, row: Row) -> None:
        """Write the run's event file."""
        # no summary of the experiment: of several, TensorBoard takes the first for all, and a failed cell's
        # has no metrics; without any it puts one together from the runs
        _, begin, end = self._hparams({**_chosen(row, PARAMETERS), "status": row["status"]}, {})
        with self._writer(logdir=str(self._folder / run_name(row))) as writer:
            writer.file_writer.add_summary(begin)
            writer.file_writer.add_summary(end)
            for name, value in _numbers(row).items():
                writer.add_scalar(name, value, 0)


class MLflow:
    """A run per cell in the experiment "theriac", in the store of MLFLOW_TRACKING_URI or RESULTS/mlflow.db.

    A database, because MLflow 3 refuses to track in plain files. Through MLflow's client, which leaves a run
    that the caller may have under way alone.
    """

    def __init__(self, module: Any, results: Path) -> None:
        self._module, self._results = module, results.absolute()
        self._uri = os.environ.get("MLFLOW_TRACKING_URI")
        self._client: Any = None
        self._experiment = ""

    def log(self, row: Row) -> None:
        """Create the run, fill it and end it."""
        self._connect()
        tags = {name: str(value) for name, value in _chosen(row, TAGS).items()}
        run = self._client.create_run(self._experiment, tags=tags, run_name=run_name(row)).info.run_id
        for name, value in _chosen(row, PARAMETERS).items():
            self._client.log_param(run, name, value)
        for name, value in _numbers(row).items():
            self._client.log_metric(run, name, value)
        self._client.set_terminated(run, "FAILED" if row["status"] == "failed" else "FINISHED")

    def _connect(self) -> None:
        if self._client is not None:
            return
        self._results.mkdir(parents=True, exist_ok=True)
        client = self._module.MlflowClient(tracking_uri=self._uri or f"sqlite:///{self._results}/mlflow.db")
        # artifacts (there are none) would go to the current folder
        place = None if self._uri else (self._results / "mlruns").as_uri()
        found = client.get_experiment_by_name(PROJECT)
        self._experiment = found.experiment_id if found else client.create_experiment(PROJECT, place)
        self._client = client


class WeightsAndBiases:
    """A run per cell in the project "theriac"; local files in RESULTS/wandb."""

    def __init__(self, module: Any, results: Path) -> None:
        self._module, self._results = module, results

    def log(self, row: Row) -> None:
        """Begin a run beside any other of this process, fill it and end it."""
        self._results.mkdir(parents=True, exist_ok=True)  # else W&B writes to the system's temporary folder
        run = self._module.init(
            project=PROJECT,
            name=run_name(row),
            config=_chosen(row, PARAMETERS),
            tags=[row["status"]],
            dir=str(self._results),
            reinit="create_new",
            settings=self._module.Settings(silent=True, login_timeout=LOGIN_SECONDS),
        )
        run.summary.update({**_numbers(row), **_chosen(row, ("key", "error_class", "error_message"))})
        run.finish(exit_code=int(row["status"] == "failed"))


class _MakeSink(Protocol):
    def __call__(self, module: Any, results: Path) -> Sink: ...


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a logger needs: the module, the package that brings it, and the class that uses it."""

    module: str
    package: str
    sink: _MakeSink


LOGGERS: Mapping[Name, Kind] = {
    "tensorboard": Kind(module="tensorboardX", package="tensorboardX", sink=TensorBoard),
    "mlflow": Kind(module="mlflow", package="mlflow", sink=MLflow),
    "wandb": Kind(module="wandb", package="wandb", sink=WeightsAndBiases),
}


def run_name(row: Row) -> str:
    """Name a run readably, usable as a folder, and differently for every cell."""
    parts = [row.get(name) for name in ("dataset", "model", "attack", "manipulated", "share")]
    parts += [row.get(name) for name in ("method", "granularity", "search")]
    shown = "-".join(str(part) for part in parts if part is not None)
    return f"{shown}-seed{row.get('seed')}-{row['key'][:8]}".replace("/", "_")


def _chosen(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names if row.get(name) is not None}


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in _chosen(row, METRICS).items()}
