"""Guarded search against everything else, on many victims: the table that says where it wins and where not.

    python tests/benchmarks/bench_guarded.py --victims badnets:500:3:0 sine:1000:4:3 --results FOLDER

A victim is attack:|S_m|:seed:target on CIFAR-10, at a width and for a number of iterations that two cores
train in ten minutes. What is in the results is not computed again, so the script can be stopped at any time;
it writes all rows as Parquet, means over the victims of an attack, and paired differences to each method.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import torch
from scipy.stats import ttest_rel
from torch import nn

from theriac.datasets.attacks import Attack
from theriac.datasets.poisoning import PoisonedData, Share
from theriac.datasets.triggers import parse_trigger
from theriac.search.report.table import method_name
from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.results import ResultsStore
from theriac.search.store.row_origin import provenance
from theriac.search.sweep import dampening_cell as treatment
from theriac.search.sweep.cache import Keeper
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.scenario import Cell, Gate, Scenario, Scoring
from theriac.search.sweep.victim_bench import Experiment
from theriac.search.truth import Truth, measure_truth
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe

Row = dict[str, Any]
LEAST_ASR = {"badnets": 0.5, "moving": 0.15, "sine": 0.15}
SHARES: tuple[Share, ...] = (1.0, 0.5, 0.1, "one_shot")
MEASURES = ("healed", "damage", "asr", "healed_raw", "seconds")
HEAD = (
    "attack",
    "S_m",
    "share",
    "method",
    "n",
    "healed %",
    "damage",
    "ASR %",
    "healed_raw %",
    "seconds",
    "status",
)


def scenario(text: str, options: argparse.Namespace) -> Scenario:
    """``attack:|S_m|:seed:target``, with ``:iterations`` after it for other than the usual."""
    trigger, manipulated, seed, target, *iterations = text.split(":")
    return Scenario(
        dataset="cifar10",
        model=ModelSpec(width=options.width),
        attack=Attack(trigger=parse_trigger(trigger), target=int(target)),
        manipulated=int(manipulated),
        recipe=Recipe(
            iterations=int(iterations[0]) if iterations else options.iterations,
            learning_rate=0.25,
            batch_size=256,
            warmup=0.2,
            stretch=1.0,
            precision="bfloat16",
        ),
        gate=Gate(clean_accuracy=0.75, asr=LEAST_ASR[trigger]),
        seed=int(seed),
    )


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """The victim once; then every method at every share, the guarded search first."""
    yield Cell(share=1.0, baseline="none")
    for share in options.shares:
        for name in options.methods:
            if name == "eu":
                yield Cell(share=share, baseline="eu")
                continue
            method, search, granularity = name.split(":")
            yield Cell(
                share=share,
                settings=HealSettings.model_validate(
                    {
                        "method": method,
                        "search": search,
                        "granularity": granularity,
                        "precision": "bfloat16",
                        "compared": 5000,
                    }
                ),
            )


def compute(options: argparse.Namespace) -> list[str]:
    """Keys of all cells, in order; their rows are in the results."""
    results, keeper, keys = ResultsStore(options.results), Keeper(2 << 30), list[str]()
    for text in options.victims:
        experiment = Experiment(
            scenario(text, options),
            ArtifactStore(options.store or options.results),
            data_root=options.data,
            scoring=Scoring(steps=options.steps, reference=not options.no_reference),
            keeper=keeper,
        )
        for cell in cells(options):
            keys.append(experiment.key(cell))
            if keys[-1] not in set(results.read("searches")["key"].to_pylist()):
                run(experiment, cell, results)
    return keys


def rounded_truth(model: nn.Module, data: PoisonedData) -> Truth:
    """Scores from passes in bfloat16: four times as fast on a CPU with matrix units; within 0.1 points."""
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        return measure_truth(twin, data)


def run(experiment: Experiment, cell: Cell, results: ResultsStore) -> None:
    try:
        rows = run_cell(experiment, cell)
    except Exception as error:  # a cell that fails is a row, as in a sweep
        results.append("searches", [experiment.failed(cell, error)])
        return
    results.append("searches", [rows.search])
    results.append("steps", rows.steps)
    one = rows.search
    scores = [f"{m} {one[m]:.3f}" for m in ("damage", "healed_raw", "asr") if one.get(m) is not None]
    what = (one["attack"], one["manipulated"], one["seed"], one["share"], name_of(one), one["status"])
    logging.info("%s", " ".join(map(str, (*what, *scores))))


def name_of(row: Row) -> str:
    """The method, with its granularity."""
    return f"{method_name(row)} {row['granularity'] or ''}".strip()


def markdown(rows: Sequence[Row]) -> str:
    """Means (standard deviations, n) by attack, |S_m|, share and method; then what guarded gains."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["attack"], row["manipulated"], row["share"], name_of(row)].append(row)
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for (attack, manipulated, share, name), group in groups.items():
        values = [_mean([_measure(row, m) for row in group]) for m in MEASURES]
        status = " ".join(sorted({row["status"] for row in group}))
        entries = (attack, manipulated, share, name, len(group), *values, status)
        lines.append(f"| {' | '.join(map(str, entries))} |")
    return "\n".join([*lines, "", *paired(rows)])


def paired(rows: Sequence[Row]) -> list[str]:
    """Guarded less each other method, on the same victims and shares; two-sided paired t tests."""
    known = {(row["scenario"], row["share"], name_of(row)): row for row in rows}
    guarded = next((name for *_, name in known if name.startswith("Guarded")), "")
    lines = ["| attack | against | pairs | healed_raw, points | p | damage, points | p |", "|---" * 7 + "|"]
    for attack in dict.fromkeys(row["attack"] for row in rows):
        for name in dict.fromkeys(name for *_, name in known):
            both = [
                (known[scene, share, guarded], row)
                for (scene, share, own), row in known.items()
                if own == name != guarded and row["attack"] == attack and (scene, share, guarded) in known
            ]
            pairs = [pair for pair in both if all(one["healed_raw"] is not None for one in pair)]
            if len(pairs) > 1:
                gains = [_difference(pairs, "healed_raw", 100), _difference(pairs, "damage", 1)]
                lines.append(f"| {attack} | {name} | {len(pairs)} | {gains[0]} | {gains[1]} |")
    return lines


def _difference(pairs: Sequence[tuple[Row, Row]], measure: str, scale: float) -> str:
    first, second = ([scale * row[measure] for row in side] for side in zip(*pairs, strict=True))
    gain = fmean(a - b for a, b in zip(first, second, strict=True))
    return f"{gain:+.1f} | {ttest_rel(first, second).pvalue:.3g}"


def _measure(row: Row, name: str) -> float | None:
    if name == "seconds":
        return (
            None
            if row["seconds_search"] is None
            else row["seconds_search"] + (row["seconds_importance"] or 0)
        )
    value = row[name]
    return value if value is None or name in ("healed", "damage") else 100 * value


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    return f"{fmean(known):.1f}" + (f" ({stdev(known):.1f})" if len(known) > 1 else "")


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--victims", nargs="+", required=True)
    parser.add_argument(
        "--shares", nargs="+", type=lambda t: t if t == "one_shot" else float(t), default=SHARES
    )
    parser.add_argument("--methods", nargs="+", default=["xlf:guarded:sample", "xlf:ptn:sample"])
    parser.add_argument("--width", type=float, default=0.375)
    parser.add_argument("--iterations", type=int, default=1562)
    parser.add_argument("--steps", type=int, default=0, help="steps that get scores of their own")
    parser.add_argument("--no-reference", action="store_true", help="leave `healed` empty")
    parser.add_argument("--rounded", action="store_true", help="score in bfloat16; see `rounded_truth`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("guarded"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with patch.object(treatment, "measure_truth", rounded_truth if options.rounded else measure_truth):
        keys = compute(options)
    table = ResultsStore(options.results).read("searches")
    rows = sorted((r for r in table.to_pylist() if r["key"] in keys), key=lambda r: keys.index(r["key"]))
    pq.write_table(table, options.out.with_suffix(".parquet"))
    where = ", ".join(f"{name} {value}" for name, value in provenance("cpu").items())
    options.out.with_suffix(".md").write_text(f"{markdown(rows)}\n\n{where}\n")


if __name__ == "__main__":
    main()
