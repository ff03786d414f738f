"""What each part of the guarded search earns: one is left out or changed at a time, on handwritten digits.

    python tests/benchmarks/bench_guarded_ablation.py --store FOLDER --out guarded-ablation

Victims: the preset digits, |S_m| 100 and 200, BadNets (target 0) and sine (target 5), each seed; shares one
sample, 0.1 and 1. Scores on all test images; a search without a stop counts with the victim's.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from theriac.datasets.attacks import Attack
from theriac.datasets.poisoning import Share
from theriac.datasets.triggers import parse_trigger
from theriac.search import guarded, guarded_problem
from theriac.search.artifacts import ArtifactStore
from theriac.search.experiment import Experiment, Part
from theriac.search.probe import Suspicion
from theriac.search.provenance import provenance
from theriac.search.scenarios import PRESETS, Cell, Scenario, Scoring
from theriac.search.settings import HealSettings

Row = dict[str, Any]
SHARES: tuple[Share, ...] = ("one_shot", 0.1, 1.0)
ATTACKS = (("badnets", 0), ("sine", 5))


def _replaced(name: str, value: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(guarded_problem, name, value)


def _all_falling(model: torch.nn.Module, batches: Any) -> dict[str, torch.Tensor]:
    return {name: torch.ones_like(parameter) for name, parameter in model.named_parameters()}


_suspicion = guarded_problem._suspicion


def _trusting(*given: Any) -> Suspicion:
    """S_f alone is poison: nothing in retain is suspected, nothing in S_f doubted."""
    seen = _suspicion(*given)
    return Suspicion(
        retain=torch.zeros_like(seen.retain),
        forget=torch.ones_like(seen.forget),
        separation=seen.separation,
        apart=True,
    )


_ranking = guarded_problem._ranking


def _of_all_classes(victim: Any, sets: Any, *rest: Any) -> Any:
    """The ranking without the importance over the target's own samples."""
    return _ranking(victim, (sets[0], sets[1], None), *rest)


VARIANTS: dict[str, tuple[dict[str, Any], Callable[[], AbstractContextManager[Any]]]] = {
    "as it is": ({}, nullcontext),
    "hidden poison not looked for": ({}, _replaced("_suspicion", _trusting)),
    "the class's own importance left out": ({}, _replaced("_ranking", _of_all_classes)),
    "direction left out": ({}, _replaced("falling", _all_falling)),
    "no weight left out (guard by stopping)": ({}, lambda: patch.object(guarded, "NOISE", 1e9)),
    "lf": ({"method": "lf"}, nullcontext),
    "ssd (fim)": ({"method": "ssd"}, nullcontext),
    "granularity batch (16)": ({"granularity": "batch", "batch_size": 16}, nullcontext),
    "lambda 0.3": ({"dampening_constant": 0.3}, nullcontext),
    "lambda 2": ({"dampening_constant": 2.0}, nullcontext),
    "harm_weight 4": ({"harm_weight": 4.0}, nullcontext),
    "harm_weight 16": ({"harm_weight": 16.0}, nullcontext),
    "PTN, xlf, sample": ({"search": "ptn"}, nullcontext),
}


def scenarios(seeds: list[int]) -> Iterator[Scenario]:
    """The victims."""
    for (trigger, target), manipulated, seed in product(ATTACKS, (100, 200), seeds):
        attack = Attack(trigger=parse_trigger(trigger), target=target)
        update = {"seed": seed, "manipulated": manipulated, "attack": attack}
        yield PRESETS["digits"].model_copy(update=update)


def compute(options: argparse.Namespace) -> list[Row]:
    """A row for each victim, share and variant."""
    rows: list[Row] = []
    for scenario in scenarios(options.seeds):
        store = ArtifactStore(options.store)
        for variant, (settings, changed) in VARIANTS.items():
            for share in SHARES:
                experiment = Experiment(scenario, store, scoring=Scoring(steps=0, reference=False))
                experiment.trained(Part("victim"))
                cell = Cell(share=share, settings=HealSettings(**{"search": "guarded", **settings}))
                with changed():
                    found = experiment.run(cell).search
                rows.append({**found, "variant": variant})
                logging.info("%s %s %s %s", scenario.attack.name, variant, share, found["status"])
        write(rows, options.out)
    return rows


def write(rows: list[Row], out: Path) -> None:
    """All rows as Parquet, and means by variant and share."""
    names = ("variant", "attack", "manipulated", "seed", "share", "status", "damage", "asr", "healed_raw")
    more = ("dampened", "steps", "suspects", "left_out", "settings", "seconds_importance", "seconds_search")
    kept = [{name: row.get(name) for name in (*names, *more)} for row in rows]
    pq.write_table(pa.Table.from_pylist(kept), out.with_suffix(".parquet"))
    lines = ["| variant | share | n | no stop | damage | worst | ASR % | healed_raw % |", "|---" * 8 + "|"]
    for variant, share in product(VARIANTS, SHARES):
        own = [row for row in rows if row["variant"] == variant and row["share"] == str(share)]
        if own:
            scores = [fmean(row[name] for row in own) for name in ("damage", "asr", "healed_raw")]
            worst = min(row["damage"] for row in own)
            still = sum(row["status"] != "stopped" for row in own)
            entries = (f"{scores[0]:.1f}", f"{worst:.1f}", f"{100 * scores[1]:.1f}", f"{100 * scores[2]:.1f}")
            lines.append(f"| {variant} | {share} | {len(own)} | {still} | {' | '.join(entries)} |")
    where = ", ".join(f"{name} {value}" for name, value in provenance("cpu").items())
    out.with_suffix(".md").write_text("\n".join([*lines, "", where, ""]))


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("guarded-ablation"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    compute(options)


if __name__ == "__main__":
    main()
