"""What a guarded search costs, in P: a plain forward and backward pass over 5000 images.

P is taken in the precision of the importances.

    python tests/benchmarks/bench_guarded_cost.py --preset cifar10-small --data FOLDER --store FOLDER

What is not in the store (victim, importances) is computed first. Suspicion and walk only infer; the ranking
computes importances of at most 500 + 600 + 600 images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from theriac.datasets.views import View
from theriac.search.given.batches import random_part
from theriac.search.guarded import problem as guarded_problem, ranking
from theriac.search.guarded.bystanders import ordered
from theriac.search.settings import heal_settings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.row_origin import provenance
from theriac.search.sweep.cells import treatment as treatment_of
from theriac.search.sweep.scenario import PRESETS, Cell, Scoring
from theriac.search.sweep.victim_bench import Experiment
from theriac.unlearning.kinds import Precision
from theriac.unlearning.precision import Arithmetic

IMAGES = 5000
PRECISIONS: tuple[tuple[Precision, str], ...] = (
    ("float32", "same"),
    ("float32", "bfloat16"),
    ("bfloat16", "same"),
)
"""Of the importances and of P; of the passes that search."""
PARTS = ((guarded_problem, "look_for_suspects"), (guarded_problem, "rank"), (ranking, "look_again"))
MEASURED = ("look_for_suspects", "look_again", "walk", "search", "rank")
HEAD = (
    "precision",
    "probe_precision",
    "share",
    "suspicion",
    "looking again",
    "walk",
    "search: these three",
    "importances of the ranking",
    "P, seconds",
)


def plain_pass(model: nn.Module, part: View, arithmetic: Arithmetic) -> None:
    """P."""
    for x, y in ordered(part, arithmetic):
        model.zero_grad()
        with arithmetic.autocast(x.device):
            loss = F.cross_entropy(model(x).float(), y)
        loss.backward()


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def timed(module: ModuleType, name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The function of a module, its seconds noted; those of all calls of `look_again`."""
    own = getattr(module, name)

    def wrapped(*given: Any) -> Any:
        start, before = time.perf_counter(), spent.get(name, 0.0) if name == "look_again" else 0.0
        result = own(*given)
        spent[name] = before + time.perf_counter() - start
        return result

    return wrapped


def measure(
    experiment: Experiment, share: Any, precisions: tuple[Precision, str], spent: dict[str, float]
) -> dict[str, float]:
    """Seconds of one search's parts, and of P before and after it."""
    precision, own = precisions
    part = random_part(experiment.data.retain(share).batched(256), IMAGES)
    model, arithmetic = experiment.victim.requires_grad_(True), Arithmetic(precision)
    before = seconds(lambda: plain_pass(model, part, arithmetic))  # type: ignore[arg-type]
    model.requires_grad_(False)
    settings = heal_settings(search="guarded", precision=precision, probe_precision=own, compared=IMAGES)
    treatment = treatment_of(experiment, Cell(share=share, settings=settings))
    spent["look_again"] = 0.0
    _ = treatment.start
    walk = seconds(lambda: treatment.carry_on([]))
    model.requires_grad_(True)
    after = seconds(lambda: plain_pass(model, part, arithmetic))  # type: ignore[arg-type]
    return {**spent, "walk": walk, "P": (before + after) / 2}


def main() -> None:
    """Parse the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=[*PRESETS], default="digits")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("guarded-cost.md"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spent: dict[str, float] = {}
    for module, name in PARTS:
        setattr(module, name, timed(module, name, spent))
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for precisions, share in product(PRECISIONS, ("one_shot", 1.0)):
        rows = []
        for _ in range(options.rounds):
            experiment = Experiment(
                PRESETS[options.preset],
                ArtifactStore(options.store),
                data_root=options.data,
                scoring=Scoring(steps=0, reference=False),
            )
            rows.append(measure(experiment, share, precisions, spent))
        for row in rows:
            row["search"] = row["look_for_suspects"] + row["look_again"] + row["walk"]
            row["rank"] -= row["look_again"]
        parts = [median(row[name] / row["P"] for row in rows) for name in MEASURED]
        seconds_of_p = median(row["P"] for row in rows)
        values = " | ".join(f"{value:.2f}" for value in parts)
        lines.append(f"| {' | '.join(precisions)} | {share} | {values} | {seconds_of_p:.1f} |")
    where = ", ".join(f"{name} {value}" for name, value in provenance("cpu").items())
    note = f"In P over {IMAGES} images, medians of {options.rounds} rounds, {options.threads} threads."
    options.out.write_text("\n".join([note, "", *lines, "", where, ""]))


if __name__ == "__main__":
    main()
