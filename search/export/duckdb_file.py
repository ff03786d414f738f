"""Results as one DuckDB file: three tables, and views of what is asked most."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ..averages import MEASURES
from ..store import SCHEMAS, ResultsStore, repeated
from .destination import check_file, counted, whole_file
from .reading import batches, none_finished, opened

MEMORY = "256MB"
"""What DuckDB may keep of the file in memory, beside the rows that are being added."""
LINE = (
    *("dataset", "model", "width", "image_size", "attack", "manipulated", "share", "method", "granularity"),
    *("search", "settings", "uses_oracle", "gate", "setup", "attack_settings", "recipe", "held_back"),
)
"""What rows of one line have in common."""
TRIAL = ("dataset", "model", "attack", "manipulated", "share", "seed", "method", "granularity")

LINES_VIEW = """
CREATE VIEW lines AS SELECT {head},
  count(*) FILTER (scored) AS n, count(*) AS "rows", {measures}
FROM (
  SELECT *, seconds_importance + seconds_search AS seconds,
    coalesce(setup, scenario) AS victim, status NOT IN ('failed', 'gate_failed') AS scored
  FROM searches
)
GROUP BY victim, {head}
"""
MEAN = """
  CASE WHEN count({name}) FILTER (scored) = count(*) FILTER (scored)
    THEN avg({name}) FILTER (scored) END AS {name}_mean,
  CASE WHEN count({name}) FILTER (scored) = count(*) FILTER (scored)
    THEN stddev_samp({name}) FILTER (scored) END AS {name}_sd"""
TRIALS_VIEW = """
CREATE VIEW trials AS SELECT {head}, searches.search AS search_name, steps.*
FROM steps JOIN searches ON steps.search = searches.key
"""
ABOUT = {
    "TABLE runs": "Configuration, versions, device and commit of each run; the newest row of each key.",
    "TABLE searches": "One row per finished search; the newest row of each key. Shares are in [0, 1].",
    "TABLE steps": "One row per evaluated setting; steps.search is searches.key.",
    "VIEW lines": "Means and sample standard deviations over seeds, of searches that differ in nothing else. "
    "Of so many rows, n are averaged: failed ones are not. Null: one of the n lacks the measure.",
    "VIEW trials": "The steps, each with what its search was about.",
}


def export_database(results: Sequence[Path], out: Path, force: bool) -> str:
    """Write the tables ``runs``, ``searches`` and ``steps`` (the newest row of each key), and two views.

    ``lines`` has means over seeds, as `theriac table --aggregate` has them, and ``trials`` the steps beside
    what their search was about. Comments in the file say so, too.

    Args:
        results: folders of results.
        out: the file.
        force: overwrite a file of this name.

    Returns:
        A line that says what was written.

    Raises:
        BadInput: DuckDB is not installed, no search is finished, or the file cannot be written or exists.
    """
    duckdb = _library()
    stores = opened(results)
    check_file(out, results, force, example="results.duckdb")
    counts: dict[str, int] = {}

    def write(temporary: Path) -> None:
        settings = {"memory_limit": MEMORY, "temp_directory": f"{temporary}.spilled"}
        with closing(duckdb.connect(str(temporary), config=settings)) as session:
            counts.update({table: _fill(session, stores, table) for table in SCHEMAS})
            if not counts["searches"]:
                raise none_finished(results)
            _add_views(session)

    repeated(lambda: whole_file(out, write, leftovers=(".wal",)))
    said = ", ".join(f"{table} {number:,}" for table, number in counts.items())
    return f"{out}: {counted(len(counts), 'table', 'tables')} ({said}), and the views lines and trials"


def _library() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError as error:
        raise BadInput(
            f"--to duckdb needs the package duckdb ({error}); pip install 'theriac[duckdb]', or export to csv"
        ) from error


def _fill(session: Any, stores: Sequence[ResultsStore], table: str) -> int:
    """Make a table, add all rows and return how many there are."""
    session.register("batch", SCHEMAS[table].empty_table())
    session.execute(f"CREATE TABLE {table} AS SELECT * FROM batch")
    count = 0
    for rows in batches(stores, table):
        session.register("batch", rows)
        session.execute(f"INSERT INTO {table} SELECT * FROM batch")
        count += len(rows)
    session.unregister("batch")
    return count


def _add_views(session: Any) -> None:
    measures = ", ".join(MEAN.format(name=name) for name in MEASURES)
    session.execute(LINES_VIEW.format(head=", ".join(LINE), measures=measures))
    session.execute(TRIALS_VIEW.format(head=", ".join(f"searches.{name}" for name in TRIAL)))
    for thing, words in ABOUT.items():
        session.execute(f"COMMENT ON {thing} IS '{words}'")
