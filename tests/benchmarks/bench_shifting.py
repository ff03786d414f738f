"""Does the trigger shift? GA, NPO and RGA at one budget: lfr of every class before and after.

    python tests/benchmarks/bench_shifting.py --seeds 0 1 2

A victim of preset digits for each seed, all of S_m found. Of every result: lfr of the target, the lowest lfr
of any other class on triggered test images, and beside it the same class on CLEAN test images: where both are
equally low the class takes all images, which is a collapse, not a shift. Beside them the victim, and a model
trained without S_m. The Parquet file also has the rows between (lfr of all classes every ten steps). Takes
about five minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from theriac.datasets.poisoning import PoisonedData
from theriac.datasets.sources.names import load_dataset
from theriac.search.store.row_origin import provenance
from theriac.search.sweep.scenario import PRESETS, Scenario
from theriac.search.truth import measure_truth
from theriac.unlearning.inference import predict
from theriac.unlearning.methods.gradient_ascent import NPO, RGA, Ascent, GradientAscent
from theriac.unlearning.methods.unlearner import Known
from theriac.unlearning.metrics import label_flip_rates
from theriac.unlearning.retraining import train_from_scratch

Row = dict[str, Any]
COLUMNS = {
    "method": "method",
    "seed": "seed",
    "target_lfr_before": "target lfr before",
    "target_lfr": "after",
    "lowest_lfr": "lowest other lfr",
    "lowest_class": "class",
    "lowest_class_clean_lfr": "its lfr on clean images",
    "asr": "ASR",
    "clean_accuracy": "clean",
    "healed_raw": "healed_raw",
    "seconds": "s",
}


def methods(budget: dict[str, Any]) -> dict[str, Ascent]:
    """What is compared, all with the same steps."""
    return {
        "GA": GradientAscent(**budget),
        "NPO": NPO(**budget),
        "RGA": RGA(**budget),
        "RGA, mu 0": RGA(mu=0, **budget),
        "RGA, c 0.5": RGA(c=0.5, **budget),
    }


def poisoned(scenario: Scenario) -> PoisonedData:
    return PoisonedData(
        dataset=load_dataset(scenario.dataset),
        attack=scenario.attack,
        manipulated=scenario.manipulated,
        seed=scenario.seed,
        device=torch.device("cpu"),
    )


def trained(scenario: Scenario, data: PoisonedData, clean: bool) -> nn.Module:
    part = data.clean_train() if clean else data.train()
    classes = len(data.dataset.classes)
    return train_from_scratch(scenario.model, part, scenario.recipe, seed=scenario.seed, num_classes=classes)


def scores(model: nn.Module, data: PoisonedData) -> Row:
    """Of one model on all test images; the target class of the preset is 0."""
    truth = measure_truth(model, data)
    clean, _ = predict(model, data.test(), "test images")
    rates = label_flip_rates(clean, len(truth.lfr))
    lowest = min(range(1, len(truth.lfr)), key=lambda c: truth.lfr[c])
    return {
        "target_lfr": truth.lfr[0],
        "lowest_lfr": truth.lfr[lowest],
        "lowest_class": lowest,
        "lowest_class_clean_lfr": rates[lowest],
        "asr": truth.asr,
        "clean_accuracy": truth.clean_accuracy,
        "healed_raw": truth.healed_raw,
        "lfr": truth.lfr,
    }


def rows(seed: int, budget: dict[str, Any]) -> Iterator[Row]:
    scenario = PRESETS["digits"].model_copy(update={"seed": seed})
    data = poisoned(scenario)
    victim = trained(scenario, data, clean=False)
    before = {"seed": seed, "target_lfr_before": measure_truth(victim, data).lfr[0]}
    for name, method in methods(budget).items():
        known = Known(forget=data.forget(1.0), retain=data.retain(1.0))
        found = method(victim, known, seed=seed, watch=lambda model: scores(model, data))
        for row in found.trace:
            last = row is found.trace[-1]
            yield {"method": name, "after": "the last step" if last else "", **before, **row}
    yield {"method": "victim", "after": "the last step", **before, **scores(victim, data)}
    clean = scores(trained(scenario, data, clean=True), data)
    yield {"method": "trained without S_m", "after": "the last step", **before, **clean}


def cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str("" if value is None else value)


def write(found: list[Row], budget: dict[str, Any], out: Path) -> None:
    where: dict[str, Any] = provenance("cpu")
    settings = ", ".join(f"{name} {value}" for name, value in budget.items())
    final = sorted((r for r in found if r["after"]), key=lambda r: (order(found, r), r["seed"]))
    lines = [
        "# Trigger shifting on three digits victims",
        "",
        f"Preset digits, all of S_m (100) found; {settings}; else the defaults. A healthy lfr is 0.90.",
        f"{datetime.now(UTC):%Y-%m-%d}, {where['device']}, one thread, torch "
        f"{json.loads(where['versions'])['torch']}, commit {where['git_commit']}.",
        "",
        f"| {' | '.join(COLUMNS.values())} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {' | '.join(cell(row.get(name)) for name in COLUMNS)} |" for row in final),
    ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    table = pa.Table.from_pylist(found)
    pq.write_table(
        table.replace_schema_metadata({"provenance": json.dumps(where)}), out.with_suffix(".parquet")
    )


def order(found: list[Row], row: Row) -> int:
    """Methods in the order in which they ran."""
    return list(dict.fromkeys(r["method"] for r in found)).index(row["method"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "shifting-cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = {
        "learning_rate": options.learning_rate,
        "steps": options.steps,
        "forget_batch": 32,
        "retain_batch": 64,
    }
    found = [row for seed in options.seeds for row in rows(seed, budget)]
    write(found, budget, options.out)


if __name__ == "__main__":
    main()
