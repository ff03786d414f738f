"""Searches as studies in one SQLite file, which Optuna and its dashboard open."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import pyarrow as pa

from ... import __version__
from ...errors import BadInput
from ...rows import Row
from ..report import finished_searches
from ..store import ResultsStore, repeated
from ..training import TUNE_SEARCHES
from .destination import check_file, counted, whole_file
from .optuna_trials import SEEN, SELECTION, TRUTH, UNSEEN, is_trial, trials_of
from .reading import opened

WITH_TRIALS = ("grid", *TUNE_SEARCHES)
"""Searches whose settings are judged by a score; the others walk until they stop."""
TOGETHER = 1000
"""Searches whose steps are in memory at once."""
LONGEST_NAME = 512
"""Characters that Optuna's table has for the name of a study."""
STEP_COLUMNS = (
    *("search", "step", "parameters", "alpha", "after_stop", "score", "seconds"),
    *(*SEEN, *UNSEEN, *SELECTION),
)
STUDY = (
    *("key", "sweep", "setup", "scenario", "dataset", "model", "width", "image_size", "attack", "target"),
    *("manipulated", "discovered", "share", "seed", "method", "granularity", "search", "status", "settings"),
    *("objective", "uses_oracle", "parameters", "alpha", "dampening_constant", "score", "steps", "dampened"),
    *("forget_accuracy_before", "forget_accuracy", "seconds_search", "error_message"),
)
STUDY_TRUTH = (
    *("clean_accuracy_before", "clean_accuracy", "damage", "asr_before", "asr", "healed_raw_before"),
    *("healed_raw", "healed", "lfr"),
)
ABOUT = (
    f"Attributes that begin with {TRUTH!r} were measured on test images; the search did not see them. "
    f"'taken' marks the setting that the search took. A trial ends when its search was written down."
)


def export_studies(results: Sequence[Path], out: Path, force: bool) -> str:
    """Write every search whose settings are trials as a study; see `trials_of`.

    Such are pairs of alpha and lambda of a grid or TPE, and hyperparameters of methods that train. Values are
    what the search maximised, of a Pareto search both parts of its objective.

    Args:
        results: folders of results.
        out: the SQLite file.
        force: overwrite a file of this name.

    Returns:
        A line that says what was written, and how it is opened.

    Raises:
        BadInput: no search has trials, or the file cannot be written or exists.
    """
    stores = opened(results)
    check_file(out, results, force, example="studies.db")
    counts = repeated(lambda: _export(stores, results, out))
    studies, trials = counted(counts[0], "study", "studies"), counted(counts[1], "trial", "trials")
    return f"{out}: {studies}, {trials}; open it with: optuna-dashboard sqlite:///{out}"


def _export(stores: Sequence[ResultsStore], results: Sequence[Path], out: Path) -> tuple[int, int]:
    searches = finished_searches(*results)
    counts: list[int] = []

    def write(temporary: Path) -> None:
        counts.clear()
        with _quietly():
            storage = _storage(temporary)
            try:
                counts.extend(_add_study(storage, *one) for one in _studies(stores, searches))
            finally:
                storage.remove_session()
                storage.engine.dispose()
        if not counts:
            raise _no_trials(results, searches)

    whole_file(out, write, leftovers=("-journal",))
    return len(counts), sum(counts)


def _studies(stores: Sequence[ResultsStore], searches: pa.Table) -> Iterator[tuple[Row, list[Row]]]:
    """Yield the searches that have trials, each with its steps in order."""
    columns = [*dict.fromkeys([*STUDY, *STUDY_TRUTH])]
    wanted = [k for k, name in enumerate(searches["search"].to_pylist()) if name in WITH_TRIALS]
    for start in range(0, len(wanted), TOGETHER):
        rows = searches.select(columns).take(wanted[start : start + TOGETHER]).to_pylist()
        steps = _steps(stores, [row["key"] for row in rows])
        for row in rows:
            found = _in_order(row, steps.get(row["key"], {}))
            if found:
                yield row, found


def _steps(stores: Sequence[ResultsStore], keys: Sequence[str]) -> dict[str, dict[str, Row]]:
    """Return search -> key -> row of ``steps``, the newest of all folders."""
    found: dict[str, dict[str, Row]] = {}
    for store in stores:
        for row in store.read("steps", columns=STEP_COLUMNS, searches=keys).to_pylist():
            own = found.setdefault(row["search"], {})
            if row["key"] not in own or own[row["key"]]["written_at"] <= row["written_at"]:
                own[row["key"]] = row
    return found


def _in_order(search: Row, steps: dict[str, Row]) -> list[Row]:
    """Return the trials of a search; a longer search that it replaced may have left steps behind."""
    count = search["steps"]
    kept = [row for row in steps.values() if not row["after_stop"] and is_trial(row)]
    kept = [row for row in kept if count is None or (row["step"] or 0) < count]
    return sorted(kept, key=lambda row: row["step"] or 0)


def _add_study(storage: optuna.storages.RDBStorage, search: Row, steps: Sequence[Row]) -> int:
    """Add a study and return how many trials it has."""
    kind, trials = trials_of(search, steps)
    study = optuna.create_study(
        storage=storage, study_name=_name(search), directions=["maximize"] * len(kind.objectives)
    )
    study.set_metric_names(list(kind.objectives))
    for name, value in _about(search).items():
        study.set_user_attr(name, value)
    for trial in trials:
        study.add_trial(trial)
    return len(trials)


def _name(search: Row) -> str:
    method = "-".join(filter(None, (search["method"], search["granularity"])))
    words = (
        *(search["dataset"], search["model"], search["attack"], f"|S_m| {search['manipulated']}"),
        *(f"share {search['share']}", method, search["search"], f"seed {search['seed']}"),
    )
    key = f", {search['key']}"
    return ", ".join(map(str, words))[: LONGEST_NAME - len(key)] + key


def _about(search: Row) -> dict[str, Any]:
    known = {name: search[name] for name in STUDY if search[name] is not None}
    truth = {f"{TRUTH}{name}": search[name] for name in STUDY_TRUTH if search[name] is not None}
    return {**known, **truth, "about": ABOUT, "exported by": f"theriac {__version__}"}


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """Open a new SQLite file, which is flushed to disk as a whole in the end and not at every row."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        return connection

    url = f"sqlite:///{quote(str(path))}"  # SQLAlchemy reads "?" in it, and asks `connect` for the file
    return optuna.storages.RDBStorage(url, engine_kwargs={"creator": connect})


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Optuna from announcing every study, and from warning that the names of objectives are new."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _no_trials(results: Sequence[Path], searches: pa.Table) -> BadInput:
    names = ", ".join(map(str, results))
    there = ", ".join(sorted({str(name) for name in searches["search"].to_pylist() if name})) or "none"
    return BadInput(
        f"{names} holds no trials: only the searches {', '.join(WITH_TRIALS)} have them, and those here are: "
        f"{there}; export to csv or duckdb instead"
    )
