"""What remembered outputs save in the searches of a poisoned CIFAR-10 victim, as a Markdown table.

    python tests/benchmarks/bench_unchanged.py --data FOLDER --store FOLDER [--width 0.25] [--iterations 600]

A cell of a sweep computes importances (shared with other cells of the victim), searches, and scores its stop.
Each row gives the search without and with what is remembered, in turns (median of three), and how much of the
cell that is: of all its seconds, and of those that are its own, the search and the scores.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import get_args

import torch

from theriac.datasets.poisoning import Share
from theriac.search.dampening_problem import DampeningProblem
from theriac.search.ptn.driver import run_ptn
from theriac.search.ptn.finding import SearchOutcome
from theriac.search.ptn.machine import PTNSearch, Strategy
from theriac.search.store import ArtifactStore
from theriac.search.sweep.scenario import PRESETS, Scenario
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.truth import measure_truth
from theriac.tests.benchmarks.bench_search import Pair, seconds
from theriac.unlearning.importance.estimate import Importance, estimate_importance
from theriac.unlearning.kinds import Kind

KINDS: tuple[Kind, ...] = ("fim", "lf", "xlf")
SHARES: tuple[Share, ...] = (1.0, 0.2)
SAMPLED, REPEATS, BATCH = 2000, 3, 500
HEAD = "| kind | S_f | search | steps | anew | remembered | ratio, paired | saved of its own | of all |"


def scenario(width: float, iterations: int) -> Scenario:
    """A slim victim, trained for minutes: so little training needs 3 % of poison to leave its mark."""
    base = PRESETS["cifar10-small"].model_dump()
    base["model"]["width"], base["manipulated"] = width, 1500
    base["recipe"].update(iterations=iterations, batch_size=128, learning_rate=0.05, precision="float32")
    return Scenario.model_validate(base)


def importances(experiment: Experiment, share: Share, kind: Kind) -> tuple[Pair, float]:
    """Of S_f and of some of retain; the seconds that all of both would take."""
    forget, retain = experiment.data.forget(share), experiment.data.retain(share)
    model = experiment.victim
    some = retain.select(torch.randperm(len(retain), generator=torch.Generator().manual_seed(0))[:SAMPLED])
    made: list[Importance] = []
    for part in (forget, some):
        start = time.perf_counter()
        made.append(estimate_importance(model, part.batched(BATCH), kind=kind, granularity="sample"))
        spent = time.perf_counter() - start
    return (made[0], made[1]), spent * (len(forget) + len(retain)) / len(some)


def searched(
    experiment: Experiment, share: Share, search: PTNSearch, pair: Pair, memory: int | None
) -> SearchOutcome:
    """Search as a cell does, from the construction of its problem on."""
    forget = experiment.data.forget(share)
    problem = DampeningProblem(
        experiment.victim, forget.batched(BATCH), *pair, memory=memory, forget_count=len(forget)
    )
    before = problem.victim_forget_accuracy()
    count = len(experiment.data.train())
    state = search.start(forget_count=len(forget), train_count=count, victim_forget_accuracy=before)
    return run_ptn(search, state, problem)


def compared(
    experiment: Experiment, share: Share, search: PTNSearch, pair: Pair
) -> tuple[SearchOutcome, list[float], list[float]]:
    """Search in turns without memory and with it; what was found, which is the same, and the seconds."""
    times: dict[int | None, list[float]] = {0: [], None: []}
    found: dict[int | None, SearchOutcome] = {}
    for memory in [0, None] * REPEATS:
        start = time.perf_counter()
        found[memory] = searched(experiment, share, search, pair, memory)
        times[memory].append(time.perf_counter() - start)
    assert found[0] == found[None], "what is remembered changed an answer"
    return found[0], times[0], times[None]


def rows(experiment: Experiment) -> Iterator[str]:
    """A line for each kind, share and strategy."""
    scoring = seconds(lambda: measure_truth(experiment.victim, experiment.data))
    for kind, share in product(KINDS, SHARES):
        pair, spent = importances(experiment, share, kind)
        count = len(experiment.data.forget(share))
        for strategy in get_args(Strategy):
            outcome, anew, recalled = compared(experiment, share, PTNSearch(strategy=strategy), pair)
            ratio = median(b / a for a, b in zip(anew, recalled, strict=True))
            own, saved = median(anew) + scoring, median(anew) - median(recalled)
            yield (
                f"| {kind} | {count} | {strategy} | {outcome.state.status}, {len(outcome.state.trace)} | "
                f"{median(anew):.2f} s | {median(recalled):.2f} s | {ratio:.2f} | {saved / own:.0%} | "
                f"{saved / (own + spent):.0%} |"
            )


def main() -> None:
    """Train the victim, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True, help="folder where the victim is kept")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--iterations", type=int, default=600)
    options = parser.parse_args()
    chosen = scenario(options.width, options.iterations)
    experiment = Experiment(chosen, ArtifactStore(options.store), data_root=options.data)
    truth = experiment.truth(Part("victim"))
    sys.stdout.write(f"victim: {truth}; threads: {torch.get_num_threads()}\n\n{HEAD}\n{'|---' * 9}|\n")
    for line in rows(experiment):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
