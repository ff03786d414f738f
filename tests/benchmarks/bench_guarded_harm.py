"""Does the guarded search do harm where there is little to heal? Handwritten digits, three seeds.

    python tests/benchmarks/bench_guarded_harm.py --store FOLDER --out guarded-harm

Clean models with one wrongly flagged sample; found poison with 10, 30 and 50 % wrongly flagged samples;
0.2 to 20 % poison in the training set, one sample found; two triggers of one target, one of them found.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

import theriac
from theriac.datasets.attacks import Aim, Attack
from theriac.datasets.triggers import BadNets, Sine
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.row_origin import provenance
from theriac.search.sweep.scenario import PRESETS
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.threshold import NothingToUnlearn
from theriac.search.truth import measure_truth

Row = dict[str, Any]
HEAD = (
    "case",
    "n",
    "no stop",
    "damage",
    "worst",
    "its harm / at most / if wrong, %",
    "ASR %",
    "healed_raw %",
    "doubted",
    "over one point unreported",
)
HARMS = ("harm", "harm_at_most", "harm_if_wrong")
Case = tuple[str, Experiment, Part, Tensor]
"""What it is called, whose victim, which model, positions of S_f in the training set."""


def experiment(store: Path, seed: int, manipulated: int = 100, **attack: Any) -> Experiment:
    update = {"seed": seed, "manipulated": manipulated, "attack": Attack(**attack)}
    return Experiment(PRESETS["digits"].model_copy(update=update), ArtifactStore(store))


def cases(store: Path, seed: int) -> Iterator[Case]:
    """All cases of a seed."""
    usual = experiment(store, seed)
    train, order = usual.data.train(), usual.data.order
    clean = torch.tensor(sorted(set(range(len(train))) - set(order.tolist())))
    random = clean[torch.randperm(len(clean), generator=torch.Generator().manual_seed(seed))]
    for position in random[:8]:
        yield "clean model, one sample flagged", usual, Part("clean"), position[None]
    for wrong in (2, 6, 10):
        mixed = torch.cat([order[: 20 - wrong], random[:wrong]])
        yield f"20 found, {5 * wrong} % of them wrongly flagged", usual, Part("victim"), mixed
    for manipulated in (3, 10, 30, 287):
        other = experiment(store, seed, manipulated)
        yield f"S_m = {manipulated}, one found", other, Part("victim"), other.data.order[:1]
    aims = (Aim(trigger=BadNets(), target=0), Aim(trigger=Sine(), target=0))
    two = experiment(store, seed, 200, several=aims)
    yield "two triggers with one target, ten of the first found", two, Part("victim"), two.data.order[:20:2]


def healed(case: Case) -> Row:
    """Heal, and score before and after."""
    name, whose, part, found = case
    model, train = whose.model(whose.trained(part)), whose.data.train()
    rest = torch.ones(len(train), dtype=torch.bool)
    rest[found] = False
    if part.name == "clean":
        rest[whose.data.order] = False
    before = after = measure_truth(model, whose.data)
    status, metrics = "refused", {}
    try:
        healing = theriac.heal(model, train.select(found), train.select(rest), search="guarded")
        status, metrics = healing.status, healing.metrics
        after = measure_truth(healing.model, whose.data)
    except NothingToUnlearn:
        logging.info("%s: the model does not believe its label", name)
    return {
        "case": name,
        "seed": whose.scenario.seed,
        "status": status,
        "damage": 100 * (after.clean_accuracy - before.clean_accuracy),
        "asr_before": before.asr,
        "asr": after.asr,
        "asr_by_trigger": after.asr_by_trigger,
        "healed_raw_before": before.healed_raw,
        "healed_raw": after.healed_raw,
        **{name: metrics.get(name) for name in (*HARMS, "suspects", "found_doubted", "separation")},
    }


def write(rows: list[Row], out: Path) -> None:
    """All rows as Parquet, and means by case."""
    pq.write_table(pa.Table.from_pylist(rows), out.with_suffix(".parquet"))
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        worst = min(own, key=lambda row: row["damage"])
        entries: tuple[Any, ...] = (
            case,
            len(own),
            sum(row["status"] != "stopped" for row in own),
            f"{fmean(row['damage'] for row in own):.1f}",
            f"{worst['damage']:.1f}",
            " / ".join(f"{100 * (worst[name] or 0.0):.1f}" for name in HARMS),
            change(own, "asr"),
            change(own, "healed_raw"),
            " ".join(str(row["found_doubted"]) for row in own),
            sum(row["damage"] < -1 and (row["harm_if_wrong"] or 0.0) < 0.01 for row in own),
        )
        lines.append(f"| {' | '.join(map(str, entries))} |")
    where = ", ".join(f"{name} {value}" for name, value in provenance("cpu").items())
    out.with_suffix(".md").write_text("\n".join([*lines, "", where, ""]))


def change(rows: list[Row], name: str) -> str:
    before, after = (100 * fmean(row[column] for row in rows) for column in (f"{name}_before", name))
    return f"{before:.0f} → {after:.0f}"


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("guarded-harm"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rows: list[Row] = []
    for seed in options.seeds:
        for case in cases(options.store, seed):
            rows.append(healed(case))
            logging.info("%s", rows[-1])
            write(rows, options.out)


if __name__ == "__main__":
    main()
