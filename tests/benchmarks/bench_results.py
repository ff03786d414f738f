"""How tables keep up with results of a real sweep's size, as a Markdown table.

    python tests/benchmarks/bench_results.py --folder FOLDER [--searches 200000] [--steps 10000000]

Rows are made up, in parts as sweeps leave them after compaction. Each row of the table is a size: the seconds
of `finished_searches` and the averages of `theriac table --aggregate`, beside a DuckDB query over the same
files (newest row of each key; mean, deviation, median and count of ten measures by the same columns), in
turns, medians of three; and the most memory of a process that does nothing else.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from theriac.search.report import TableChoice, finished_searches, searches_table, sweep_status
from theriac.search.report.lines import arranged
from theriac.search.store import SCHEMAS, ResultsStore
from theriac.search.store.parts import write_part
from theriac.search.sweep import failed_row, load_sweep

SEEDS, PART = 5, 100_000
MEASURES = (
    "clean_accuracy_before",
    "clean_accuracy",
    "damage",
    "asr_before",
    "asr",
    "healed_raw",
    "healed",
    "alpha",
    "steps",
    "seconds_search",
)
BY = "setup, gate, share, method, search, granularity, settings, uses_oracle"
HEAD = "| searches | steps | lines | ours | DuckDB | ratio, paired | whole table | memory | status |"


def made_up(count: int) -> pa.Table:
    """Return rows of ``searches``: scenarios without end, the cells of a preset on each, five seeds."""
    tasks = load_sweep("cifar10-small").tasks()
    base = pa.Table.from_pylist(
        [{**failed_row(t.scenario, t.cell, "", ""), "written_at": 0} for t in tasks], SCHEMAS["searches"]
    )
    draw, number = np.random.default_rng(0), np.arange(count)
    cell, victim = number % len(tasks), number // len(tasks)
    rows = base.take(pa.array(cell))
    changes: dict[str, Any] = {
        "key": [f"{k:020x}" for k in number],
        "scenario": [f"c{v:019x}" for v in victim],
        "setup": [f"s{v // SEEDS:019x}" for v in victim],
        "seed": victim % SEEDS,
        "manipulated": 100 + victim // SEEDS,
        "status": ["stopped"] * count,
        "error_class": pa.nulls(count, pa.string()),
        "error_message": pa.nulls(count, pa.string()),
        "steps": draw.integers(1, 500, count),
        "written_at": number,
        **{name: draw.random(count) for name in MEASURES if name != "steps"},
    }
    for name, values in changes.items():
        field = rows.schema.field(name)
        column = pa.array(values).cast(field.type)
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    return rows


def made_up_steps(searches: pa.Table, count: int) -> Iterator[pa.Table]:
    """Yield rows of ``steps`` in pieces of 500,000."""
    each, schema = max(1, count // len(searches)), SCHEMAS["steps"]
    keys = searches["key"].to_pylist()
    for start in range(0, len(keys), 500_000 // each):
        some = keys[start : start + 500_000 // each]
        size = len(some) * each
        known = {
            "key": pa.array([f"{key[8:]}{k:08x}" for key in some for k in range(each)]),
            "search": pa.array(np.repeat(some, each)),
            "step": pa.array(np.tile(np.arange(each), len(some))),
            **{
                name: pa.array(np.random.default_rng(start).random(size))
                for name in ("s", "alpha", "forget_accuracy")
            },
            "written_at": pa.array(np.arange(size)).cast(schema.field("written_at").type),
        }
        yield pa.Table.from_arrays(
            [known.get(field.name, pa.nulls(size, field.type)) for field in schema], schema=schema
        )


def fill(folder: Path, searches: int, steps: int) -> None:
    """Write a folder of results."""
    shutil.rmtree(folder, ignore_errors=True)
    ResultsStore(folder)
    rows = made_up(searches)
    for table, pieces in (
        ("searches", [rows[k : k + PART] for k in range(0, searches, PART)]),
        ("steps", made_up_steps(rows, steps)),
    ):
        (folder / table).mkdir()
        for number, piece in enumerate(pieces):
            write_part(piece, folder / table / f"part-{number:06d}.parquet")


def by_duckdb(folder: Path) -> int:
    """Average with DuckDB; return the number of lines."""
    averages = ", ".join(
        f"avg({name}), stddev_samp({name}), median({name}), count({name})" for name in MEASURES
    )
    newest = f"""SELECT * FROM read_parquet('{folder}/searches/*.parquet')
        QUALIFY row_number() OVER (PARTITION BY key ORDER BY written_at DESC) = 1"""
    with duckdb.connect() as session:
        return len(session.execute(f"SELECT {BY}, {averages} FROM ({newest}) GROUP BY {BY}").fetchall())


def by_theriac(folder: Path) -> int:
    """Average as `theriac table --aggregate` does; return the number of lines."""
    return len(arranged(finished_searches(folder), TableChoice(aggregate=True)).lines)


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes, wall-clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory_of(folder: Path) -> float:
    """Return the most memory, in GiB, of a process that prints the table."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", str(folder)], capture_output=True, text=True, check=True
    )
    return float(done.stdout) / 2**20


def row(folder: Path, searches: int, steps: int) -> str:
    """Measure one size."""
    fill(folder, searches, steps)
    lines, expected = by_theriac(folder), by_duckdb(folder)
    assert lines == expected, (lines, expected)
    pairs = [(seconds(lambda: by_theriac(folder)), seconds(lambda: by_duckdb(folder))) for _ in range(3)]
    ours, theirs = (median(side) for side in zip(*pairs, strict=True))
    whole = seconds(lambda: searches_table(finished_searches(folder), aggregate=True).cells())
    status = seconds(lambda: sweep_status(folder))
    ratio = median(a / b for a, b in pairs)
    return (
        f"| {searches:,} | {steps:,} | {lines:,} | {ours:.2f} s | {theirs:.2f} s | {ratio:.1f} | "
        f"{whole:.1f} s | {memory_of(folder):.2f} GiB | {status:.2f} s |"
    )


def main() -> None:
    """Measure a quarter, a half and all of the size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--searches", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=10_000_000)
    parser.add_argument("--only", type=Path)
    options = parser.parse_args()
    if options.only:
        searches_table(finished_searches(options.only), aggregate=True).cells()
        sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        return
    sys.stdout.write(f"{HEAD}\n{'|---' * 9}|\n")
    for part in (4, 2, 1):
        sys.stdout.write(row(options.folder, options.searches // part, options.steps // part) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
