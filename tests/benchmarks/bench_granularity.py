"""Which importances heal where: granularity x method x discovery share over several victims.

    python tests/benchmarks/bench_granularity.py --preset cifar10-small --data FOLDER --results FOLDER

Runs a sweep on a local Ray (what is in the results already is not computed again), scores every stop on all
test images, and writes a table (medians over the seeds, and each seed's healed_raw) and all rows as Parquet.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import get_args

import pyarrow.compute as pc
import pyarrow.parquet as pq

from theriac.cluster.run_sweep import SweepRun
from theriac.datasets.poisoning import Share
from theriac.rows import Row
from theriac.search.settings import Method
from theriac.search.store.results import ResultsStore
from theriac.search.store.row_origin import provenance
from theriac.search.sweep.files import Sweep
from theriac.search.sweep.rules import Match
from theriac.search.sweep.scenario import PRESETS, Scoring
from theriac.unlearning.kinds import Granularity, Precision

SHARES: tuple[Share, ...] = (1.0, 0.5, 0.1, "one_shot")
METHODS: tuple[Method, ...] = ("ssd", "lf", "xlf")
GRANULARITIES: tuple[Granularity, ...] = ("sample", "batch")
COLUMNS = (
    "| share | method | granularity | status | dampened | clean % | damage | ASR % | healed_raw % | by seed |"
)


def share(text: str) -> Share:
    """A number, or "one_shot"."""
    return "one_shot" if text == "one_shot" else float(text)


def sweep(options: argparse.Namespace) -> Sweep:
    """The victim as it is, once, and every method; a victim for each seed."""
    again = Match(methods=("none",), shares=tuple(options.shares[1:])) if options.shares[1:] else None
    chosen = {"batch_size": options.batch_size, "precision": options.precision, "compared": 2000}
    return Sweep(
        name="granularity",
        scenario=PRESETS[options.preset],
        seeds=tuple(options.seeds),
        shares=tuple(options.shares),
        methods=("none", *options.methods),
        granularities=tuple(options.granularities),
        settings=(chosen,),
        exclude=(again,) if again else (),
        scoring=Scoring(steps=0, reference=False),
    )


def compute(options: argparse.Namespace) -> tuple[str, ...]:
    """Run the sweep; the keys of all its rows."""
    run = SweepRun(
        sweep=sweep(options),
        directory=options.results,
        data=options.data,
        workers=options.workers,
        device="cpu",
    )
    return run.execute().keys


def percent(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * median(known):.1f}" if known else "-"


def line(rows: list[Row]) -> str:
    """Medians over the seeds of one cell."""
    first = rows[0]
    status = " ".join(
        f"{sum(r['status'] == s for r in rows)} {s}" for s in sorted({r["status"] for r in rows})
    )
    damage = [r["damage"] for r in rows if r["damage"] is not None]
    cells = [
        first["share"],
        first["method"],
        first["granularity"] or "-",
        status,
        f"{median(r['dampened'] or 0 for r in rows):.0f}",
        percent([r["clean_accuracy"] for r in rows]),
        f"{median(damage):+.1f}" if damage else "-",
        percent([r["asr"] for r in rows]),
        percent([r["healed_raw"] for r in rows]),
        " ".join(percent([r["healed_raw"]]) for r in rows),
    ]
    return f"| {' | '.join(cells)} |"


def markdown(rows: list[Row], options: argparse.Namespace) -> str:
    """The table, and under what conditions it came about."""
    origin = provenance("cpu")
    versions = json.loads(origin["versions"] or "{}")
    lines = [
        f"Preset {options.preset}, seeds {options.seeds} (a victim each), batches of {options.batch_size}, "
        f"importances in {options.precision}; PTN with the paper's settings. Medians over the seeds; scored "
        f"on all test images.",
        f"{datetime.now(UTC):%Y-%m-%d}, {origin['device']}, torch {versions.get('torch')}, commit "
        f"{origin['git_commit']}.",
        "",
        COLUMNS,
        "|---" * (COLUMNS.count("|") - 1) + "|",
    ]
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["share"], row["method"], row["granularity"]), []).append(row)
    return "\n".join([*lines, *map(line, groups.values())]) + "\n"


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=[*PRESETS], default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", nargs="+", type=share, default=SHARES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--granularities", nargs="+", choices=GRANULARITIES, default=GRANULARITIES)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("granularity"))
    options = parser.parse_args()
    keys = compute(options)
    table = ResultsStore(options.results).read("searches")
    table = table.filter(pc.is_in(table["key"], value_set=pc.cast(list(keys), "string")))
    cell_count = len(keys) // len(options.seeds)
    rows = sorted(table.to_pylist(), key=lambda row: (keys.index(row["key"]) % cell_count, row["seed"]))
    pq.write_table(table, options.out.with_suffix(".parquet"))
    options.out.with_suffix(".md").write_text(markdown(rows, options))


if __name__ == "__main__":
    main()
