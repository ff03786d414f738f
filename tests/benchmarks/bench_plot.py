"""How `theriac plot` keeps up with results of a real sweep's size, as a Markdown table.

    python tests/benchmarks/bench_plot.py --folder FOLDER [--searches 20000] [--steps 1000000]

Rows are made up: datasets, attacks, |S_m|, shares, five seeds, and a preset's methods with two settings. Each
row of the table is a size: what a process that plots takes, the part of it that reads and groups rows, the
figures that were drawn and those that were counted as left out, the rows of ``steps`` that were read of
those that are there, and the most memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from theriac.search.report import result_figures
from theriac.search.report.all_figures import KINDS, MOST, read_searches
from theriac.search.report.figures import first_in_turn
from theriac.search.store import SCHEMAS, ResultsStore
from theriac.search.store.parts import write_part

PART = 100_000
METHODS = (
    *itertools.product(("ssd", "lf", "xlf"), ("ptn", "grid"), ("sample", "batch")),
    *(("xlf", "guarded", "sample"), ("eu", None, None), ("none", None, None)),
)
SHARES = ("one_shot", "0.1", "0.2", "0.5", "1.0")
SEEDS = 5
HEAD = "| searches | steps | wall clock | CPU | reads, groups | figures | left out | steps read | memory |"


def made_up(count: int) -> pa.Table:
    """Return rows of ``searches``: setups without end, the same cells on each."""
    cells = list(itertools.product(METHODS, SHARES, (1.1, 2.0), range(SEEDS)))
    number = np.arange(count)
    cell, setup = number % len(cells), number // len(cells)
    chosen = [cells[k] for k in cell]
    draw = np.random.default_rng(0)
    values: dict[str, Any] = {
        "key": [f"{k:020x}" for k in number],
        "dataset": [f"data{k // 12}" for k in setup],
        "model": ["resnet9"] * count,
        "attack": [("badnets", "sine", "wanet")[k // 4 % 3] for k in setup],
        "manipulated": 100 * (1 + setup % 4),
        "setup": [f"s{k:019x}" for k in setup],
        "share": [share for _, share, _, _ in chosen],
        "seed": [seed for *_, seed in chosen],
        "method": [method for (method, _, _), *_ in chosen],
        "search": [search for (_, search, _), *_ in chosen],
        "granularity": [kind for (_, _, kind), *_ in chosen],
        "settings": [
            json.dumps({"method": method, "rho": 0.2, "s_step": step}) if search else None
            for (method, search, _), _, step, _ in chosen
        ],
        "status": ["stopped"] * count,
        "steps": np.full(count, 50),
        "healed": 100 * draw.random(count),
        "damage": -5 * draw.random(count),
        **{name: draw.random(count) for name in ("clean_accuracy", "healed_raw", "asr", "alpha", "s")},
        **{f"seconds_{phase}": draw.random(count) for phase in ("victim", "importance", "search")},
        "written_at": number,
    }
    return table("searches", values, count)


def made_up_steps(searches: pa.Table, count: int) -> Iterator[pa.Table]:
    """Yield rows of ``steps`` in pieces of about 500,000."""
    each, keys = max(1, count // len(searches)), searches["key"].to_pylist()
    for start in range(0, len(keys), 500_000 // each):
        some = keys[start : start + 500_000 // each]
        size = len(some) * each
        draw = np.random.default_rng(start)
        shares = ("forget_accuracy", "clean_accuracy", "healed_raw", "suspected_healed", "flips_target")
        values = {
            "key": [f"{key[8:]}{k:08x}" for key in some for k in range(each)],
            "search": np.repeat(some, each),
            "step": np.tile(np.arange(each), len(some)),
            "dampened": np.tile(np.arange(1, each + 1), len(some)),
            "status": ["accepted"] * size,
            "after_stop": np.zeros(size, bool),
            **{name: draw.random(size) for name in ("s", "alpha", *shares)},
            "written_at": np.arange(size),
        }
        yield table("steps", values, size)


def table(name: str, values: dict[str, Any], size: int) -> pa.Table:
    """Return columns as a table of results, with nulls for all others."""
    columns = [
        pa.array(values[field.name]).cast(field.type) if field.name in values else pa.nulls(size, field.type)
        for field in SCHEMAS[name]
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMAS[name])


def fill(folder: Path, searches: int, steps: int) -> None:
    """Write a folder of results."""
    shutil.rmtree(folder, ignore_errors=True)
    ResultsStore(folder)
    rows = made_up(searches)
    parts = [rows[k : k + PART] for k in range(0, searches, PART)]
    for name, pieces in (("searches", parts), ("steps", made_up_steps(rows, steps))):
        (folder / name).mkdir()
        for number, piece in enumerate(pieces):
            write_part(piece, folder / name / f"part-{number:06d}.parquet")


def measure(folder: Path) -> dict[str, Any]:
    """Plot, in a process that does nothing else."""
    start, cpu = time.perf_counter(), time.process_time()
    drawn = result_figures(folder, folder / "figures")
    found = {"whole": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    cpu = time.process_time()
    rows = read_searches(folder)
    kinds = [kind(rows) for kind in KINDS.values()]
    found["grouping"] = time.process_time() - cpu
    chosen = {key for kind in kinds for one in first_in_turn(kind, MOST) for key in one.searches}
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    counts = {"figures": len(drawn.paths), "left_out": sum(drawn.left_out.values()), "searches": len(chosen)}
    return {**found, **counts}


def row(folder: Path, searches: int, steps: int) -> str:
    """Measure one size."""
    fill(folder, searches, steps)
    command = [sys.executable, __file__, "--only", str(folder)]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    read = done["searches"] * (steps // searches)
    return (
        f"| {searches:,} | {steps:,} | {done['whole']:.1f} s | {done['cpu']:.1f} s | "
        f"{done['grouping']:.2f} s | {done['figures']} | "
        f"{done['left_out']:,} | {read:,} | {done['memory']:.2f} GiB |"
    )


def main() -> None:
    """Measure a quarter, a half and all of the size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--searches", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--only", type=Path)
    options = parser.parse_args()
    if options.only:
        sys.stdout.write(json.dumps(measure(options.only)))
        return
    sys.stdout.write(f"{HEAD}\n{'|---' * 9}|\n")
    for part in (4, 2, 1):
        sys.stdout.write(row(options.folder, options.searches // part, options.steps // part) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
