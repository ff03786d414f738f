"""What a sweep costs beside its work: fan-out per configuration, two workers against one, the published way.

    python tests/benchmarks/bench_sweep.py --scratch FOLDER --workers 2

1. Fan-out: seconds of all workers that no job had, per evaluated setting, over a whole sweep; beside it Ray
   Tune with a trial for every alpha, on the same actors.
2. Two workers against one: the same command in two fresh folders; seconds from the first job to the last
   answer, and of the whole command.
3. The published way: importances again for every run (and for each of Goel's 50 pairs), percentile and masks
   over all parameters for every step. A sample of its runs is timed, once with the batches of the published
   programs, once over single samples where the method says so; the sum over the sweep is arithmetic, shown.
Takes about ten minutes on two cores. Writes sweep-cpu.md and .parquet.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
import torch.nn.functional as F
from ray import tune
from torch import Tensor, nn

from theriac.cluster.actors import ActorSettings
from theriac.cluster.fleet import Fleet
from theriac.cluster.names import ANSWER, CONFIG_ACTOR, CONFIG_JOB
from theriac.cluster.run_sweep import Summary, SweepRun
from theriac.cluster.session import ray_session
from theriac.cluster.trials import JobTrial
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.results import ResultsStore
from theriac.search.store.row_origin import provenance
from theriac.search.sweep.files import Sweep, load_sweep
from theriac.search.sweep.jobs import Answer, SearchJob
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.truth import measure_truth
from theriac.unlearning.dampening.rule import alpha_at, dampen
from theriac.unlearning.inference import predict

NAIVE_TRIALS = 60
SINGLE_SAMPLES = 200
BATCH = 16
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ssd": F.cross_entropy,
    "lf": lambda f, y: f.square().sum(1).mean(),
    "xlf": lambda f, y: f.norm(dim=1).mean(),
}

Row = tuple[str, str]


def timed(do: Callable[[], Any]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def run(sweep: Sweep, folder: Path, workers: int) -> tuple[Summary, float]:
    """The whole sweep in a fresh folder, and the seconds of the command."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    summary = SweepRun(sweep=sweep, directory=folder, workers=workers, device="cpu").execute()
    return summary, time.perf_counter() - start


def fan_out_rows(summary: Summary, workers: int) -> Iterator[Row]:
    counts = summary.counts
    idle = workers * counts["working"] - counts["busy"]
    jobs = sum(number for name, number in counts.items() if name.endswith(" jobs"))
    yield "cells / jobs / settings", f"{summary.computed} / {jobs:.0f} / {counts['settings']:,.0f}"
    yield "seconds from first job to last answer", f"{counts['working']:.1f}"
    yield f"busy seconds of {workers} workers", f"{counts['busy']:.1f}"
    yield "seconds without a job, per job", f"{1000 * idle / jobs:.1f} ms"
    yield "fan-out per evaluated setting", f"{1000 * idle / counts['settings']:.2f} ms"


def naive_rows(sweep: Sweep, folder: Path, workers: int) -> Iterator[Row]:
    """A trial for every alpha, by Tune's own grid search; reuse_actors is on, else it is far slower."""
    task = next(task for task in sweep.tasks() if task.cell.search == "ptn")
    jobs = [
        SearchJob(scenario=task.scenario, cell=task.cell, skip=number, count=1, finish=False)
        for number in range(NAIVE_TRIALS)
    ]
    with ray_session(None, workers):
        settings = ActorSettings(
            store=ArtifactStore(folder).location, scoring=sweep.scoring.model_dump_json()
        )
        fleet = Fleet(settings, size=workers)
        names = [member.name for member in fleet.members.values()]
        for member in fleet.members.values():  # what they need is in their memory before the clock starts
            ray.get(member.handle.work.remote(jobs[0].model_dump_json()))
        actor_of = {job.model_dump_json(): names[number % workers] for number, job in enumerate(jobs)}
        start = time.perf_counter()
        results = naive_tuner(actor_of, folder).fit()
        seconds = time.perf_counter() - start
        found = [(results[number].metrics or {})[ANSWER] for number in range(len(results))]
        busy = sum(Answer.model_validate_json(answer).seconds for answer in found)
        fleet.stop()
    yield (
        f"Tune with a trial for every alpha, {NAIVE_TRIALS} trials: per setting",
        f"{1000 * (workers * seconds - busy) / NAIVE_TRIALS:.0f} ms",
    )


def naive_tuner(actor_of: dict[str, str], folder: Path) -> tune.Tuner:
    return tune.Tuner(
        JobTrial,
        param_space={
            CONFIG_JOB: tune.grid_search(list(actor_of)),
            CONFIG_ACTOR: tune.sample_from(lambda config: actor_of[config[CONFIG_JOB]]),
        },
        tune_config=tune.TuneConfig(
            reuse_actors=True, trial_dirname_creator=lambda trial: str(trial.trial_id)
        ),
        run_config=tune.RunConfig(
            storage_path=str((folder / "naive").absolute()),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )


def efficiency_rows(sweep: Sweep, folder: Path) -> Iterator[Row]:
    """Alternating, so that a machine that gets slower does not favour one of them."""
    whole: dict[int, list[float]] = {1: [], 2: []}
    working: dict[int, list[float]] = {1: [], 2: []}
    for workers in (1, 2, 2, 1):
        summary, seconds = run(sweep, folder / f"workers-{workers}", workers)
        whole[workers].append(seconds)
        working[workers].append(summary.counts["working"])
    for name, found in (("first job to last answer", working), ("whole command", whole)):
        one, two = (sum(found[workers]) / 2 for workers in (1, 2))
        yield f"{name}: 1 worker / 2 workers / efficiency", f"{one:.1f} s / {two:.1f} s / {one / two / 2:.2f}"


class PublishedWay:
    """Runs as the published programs do them: nothing is kept from one to the next."""

    def __init__(self, experiment: Experiment, share: float) -> None:
        self.data, self.victim = experiment.data, experiment.victim
        self.forget, self.retain = self.data.forget(share), self.data.retain(share)
        self.held_out = self.retain.select(torch.arange(min(1000, len(self.retain))))
        self.count = len(self.retain)

    def importance(self, method: str, batch: int, most: int | None = None) -> dict[str, Tensor]:
        """Of retain, by plain autograd over batches of a size; ``most``: of so many samples only."""
        model = copy.deepcopy(self.victim)
        total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        samples = self.retain if most is None else self.retain.select(torch.arange(most))
        for x, y in samples.batched(batch):
            model.zero_grad()
            LOSSES[method](model(x), y).backward()
            for name, parameter in model.named_parameters():
                gradient = parameter.grad.detach() if parameter.grad is not None else torch.zeros(())
                total[name] += gradient.square() if method == "ssd" else gradient.abs()
        return total

    def step(self, forget: dict[str, Tensor], retain: dict[str, Tensor], percentile: float) -> None:
        """Percentile and masks over all parameters, a copy of the model, accuracy on S_f."""
        weights = {name: p.detach() for name, p in self.victim.named_parameters()}
        alpha = alpha_at(forget, retain, percentile)
        predict(self.loaded(dampen(weights, forget, retain, alpha)), self.forget, "forget set")

    def pair(self, forget: dict[str, Tensor], retain: dict[str, Tensor], alpha: float) -> None:
        """One of Goel's pairs after its importances: dampen, accuracy on S_f and on held-out data."""
        weights = {name: p.detach() for name, p in self.victim.named_parameters()}
        model = self.loaded(dampen(weights, forget, retain, alpha, alpha))
        predict(model, self.forget, "forget set")
        predict(model, self.held_out, "held-out data")

    def loaded(self, weights: dict[str, Tensor]) -> nn.Module:
        model = copy.deepcopy(self.victim)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        return model


def published_seconds(way: PublishedWay, batch: int) -> dict[str, float]:
    """Median seconds of the parts of its runs."""
    both = way.importance("ssd", batch), way.importance("ssd", batch)
    single = timed(lambda: way.importance("ssd", 1, SINGLE_SAMPLES)) * way.count / SINGLE_SAMPLES
    return {
        "importances, batches": median(timed(lambda: way.importance("ssd", batch)) for _ in range(3)),
        "importances, single samples": single,
        "step": median(timed(lambda: way.step(*both, 99.0)) for _ in range(9)),
        "pair": median(timed(lambda: way.pair(*both, 10.0)) for _ in range(5)),
        "truth": median(timed(lambda: measure_truth(way.victim, way.data)) for _ in range(3)),
    }


def published_rows(sweep: Sweep, folder: Path, ours: float, training: float) -> Iterator[Row]:
    """Sum over all cells of the sweep: runs x parts; PTN with the steps that it took."""
    searches = ResultsStore(folder).read("searches").to_pylist()
    experiment = Experiment(sweep.tasks()[0].scenario, ArtifactStore(folder))
    seconds = published_seconds(PublishedWay(experiment, 0.5), BATCH)
    for name, value in seconds.items():
        yield f"published way, {name}", f"{1000 * value:.0f} ms"
    for name in ("importances, batches", "importances, single samples"):
        runs = [run_seconds(row, seconds, seconds[name]) for row in searches if row["search"]]
        yield f"published way, {len(runs)} searches, {name} for granularity sample", f"{sum(runs):.0f} s"
        alone = ours - training
        yield f"  / ours, the command without trainings ({alone:.0f} s)", f"{sum(runs) / alone:.0f}"
        yield f"  / ours, trainings on both sides ({ours:.0f} s)", f"{(sum(runs) + training) / ours:.0f}"


def run_seconds(row: dict[str, Any], seconds: dict[str, float], of_sample: float) -> float:
    """What the published way takes for a search of the sweep."""
    importance = of_sample if row["granularity"] == "sample" else seconds["importances, batches"]
    if row["search"] == "grid":
        return row["steps"] * (importance + seconds["pair"]) + seconds["truth"]
    return importance + row["steps"] * seconds["step"] + seconds["truth"]


def training_seconds(folder: Path, sweep: Sweep) -> float:
    """Of victims and clean models, wall-clock if two of them are trained at a time."""
    store = ArtifactStore(folder)
    scenarios = {task.scenario.key: task.scenario for task in sweep.tasks()}
    parts = [Part("victim"), Part("clean")]
    return sum(
        Experiment(scenario, store).trained(part).info["seconds"]
        for scenario in scenarios.values()
        for part in parts
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sweep", default="digits")
    parser.add_argument("--small", default="manipulated=[100]", help="of the sweep that is run four times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sweep, folder = load_sweep(options.sweep), options.scratch / "whole"
    summary, whole = run(sweep, folder, options.workers)
    rows: list[Row] = [(f"whole command, {options.sweep}, {options.workers} workers", f"{whole:.1f} s")]
    rows += fan_out_rows(summary, options.workers)
    rows += naive_rows(sweep, folder, options.workers)
    rows += published_rows(sweep, folder, whole, training_seconds(folder, sweep) / options.workers)
    rows += efficiency_rows(load_sweep(options.sweep, [options.small]), options.scratch)
    write(rows)


def write(rows: list[Row]) -> None:
    where: dict[str, Any] = provenance("cpu")
    versions = json.loads(where["versions"])
    out = Path(__file__).parent / "results"
    lines = [
        "# Sweeps on a CPU",
        "",
        f"{where['device']}, torch {versions['torch']}, ray {versions['ray']}, commit {where['git_commit']}, "
        f"{datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| what | |",
        "|---|---:|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    (out / "sweep-cpu.md").write_text("\n".join(lines) + "\n")
    table = pa.table({"what": [name for name, _ in rows], "value": [value for _, value in rows]})
    pq.write_table(
        table.replace_schema_metadata({"provenance": json.dumps(where)}), out / "sweep-cpu.parquet"
    )


if __name__ == "__main__":
    main()
