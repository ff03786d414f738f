"""What a guarded search costs, in P: one plain forward and backward pass over 5000 images of retain.

    python tests/benchmarks/bench_guarded_cost.py --preset cifar10-small --data FOLDER --store FOLDER

What is not in the store (victim, importances) is computed first. Suspicion and walk only infer; the ranking
computes importances of at most 500 + 600 + 600 images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from theriac.datasets.views import View
from theriac.search import guarded_problem
from theriac.search.artifacts import ArtifactStore
from theriac.search.experiment import Experiment
from theriac.search.inputs import random_part
from theriac.search.provenance import provenance
from theriac.search.scenarios import PRESETS, Cell, Scoring
from theriac.search.settings import HealSettings

IMAGES = 5000


def plain_pass(model: nn.Module, part: View) -> None:
    """P."""
    for x, y in part:
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def timed(name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The function of `guarded_problem`, its seconds noted."""
    own = getattr(guarded_problem, name)

    def wrapped(*given: Any) -> Any:
        start = time.perf_counter()
        result = own(*given)
        spent[name.strip("_")] = time.perf_counter() - start
        return result

    return wrapped


def measure(experiment: Experiment, share: Any, spent: dict[str, float]) -> dict[str, float]:
    """Seconds of one search's parts, and of P before and after it."""
    part = random_part(experiment.data.retain(share).batched(256), IMAGES)
    model = experiment.victim.requires_grad_(True)
    before = seconds(lambda: plain_pass(model, part))  # type: ignore[arg-type]
    model.requires_grad_(False)
    settings = HealSettings(search="guarded", precision="bfloat16", compared=IMAGES)
    treatment = experiment.treatment(Cell(share=share, settings=settings))
    _ = treatment.start
    walk = seconds(lambda: treatment.carry_on([]))
    after = seconds(lambda: plain_pass(model.requires_grad_(True), part))  # type: ignore[arg-type]
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
    for name in ("_suspicion", "_ranking"):
        setattr(guarded_problem, name, timed(name, spent))
    lines = ["| share | suspicion | ranking | walk | search (all but ranking) |", "|---" * 5 + "|"]
    for share in ("one_shot", 1.0):
        rows = []
        for _ in range(options.rounds):
            experiment = Experiment(
                PRESETS[options.preset],
                ArtifactStore(options.store),
                data_root=options.data,
                scoring=Scoring(steps=0, reference=False),
            )
            rows.append(measure(experiment, share, spent))
        parts = [median(row[n] / row["P"] for row in rows) for n in ("suspicion", "ranking", "walk")]
        entries = [*parts, median((row["suspicion"] + row["walk"]) / row["P"] for row in rows)]
        lines.append(f"| {share} | {' | '.join(f'{value:.2f}' for value in entries)} |")
    where = ", ".join(f"{name} {value}" for name, value in provenance("cpu").items())
    note = f"In P over {IMAGES} images, medians of {options.rounds} rounds, {options.threads} threads."
    options.out.write_text("\n".join([note, "", *lines, "", where, ""]))


if __name__ == "__main__":
    main()
