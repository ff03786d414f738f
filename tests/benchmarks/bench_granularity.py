"""Which granularity heals better where: one CIFAR-10 victim, four discovery shares, three methods.

    python tests/benchmarks/bench_granularity.py --data FOLDER --store FOLDER [--samples 5000] [--out NAME]

Trains the victim of the preset ``cifar10-small`` unless the store holds it (an hour on one core), takes
importances from ``--samples`` random training images (S_f left out), runs PTN with the paper's settings and
scores every stop on all 10,000 test images. Writes NAME.parquet and NAME.md, with versions and commit.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from theriac.datasets.poisoning import Share
from theriac.search.artifacts import ArtifactStore
from theriac.search.engine import DampeningProblem, run_ptn
from theriac.search.experiment import Experiment, Part, Row
from theriac.search.provenance import provenance
from theriac.search.ptn import PTNSearch
from theriac.search.scenarios import PRESETS
from theriac.search.truth import Truth, measure_truth
from theriac.unlearning.importance import estimate_importances
from theriac.unlearning.inference import predict
from theriac.unlearning.kinds import Granularity, Kind
from theriac.unlearning.metrics import accuracy

SHARES: tuple[Share, ...] = (1.0, 0.5, 0.1, "one_shot")
GRANULARITIES: tuple[Granularity, ...] = ("sample", "batch")
KINDS: tuple[Kind, ...] = ("fim", "lf", "xlf")
COLUMNS = "| share | granularity | importance | status | dampened | clean % | damage | ASR % | healed_raw % |"


def cell(experiment: Experiment, victim: nn.Module, share: Share, samples: int) -> list[Row]:
    """Both granularities and all kinds at one share."""
    data = experiment.data
    forget, train = data.forget(share), data.train()
    drawn = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:samples]
    retain = train.select(drawn[~torch.isin(drawn, data.order[: len(forget)])])
    rows = []
    for granularity in GRANULARITIES:
        start = time.perf_counter()
        of_forget = estimate_importances(victim, forget, kinds=KINDS, granularity=granularity)
        of_retain = estimate_importances(victim, retain, kinds=KINDS, granularity=granularity)
        row: Row = {"share": str(share), "discovered": len(forget), "granularity": granularity}
        row["seconds_importance"] = time.perf_counter() - start
        for kind in KINDS:
            problem = DampeningProblem(victim, forget, of_forget[kind], of_retain[kind])
            rows.append({**row, "importance": kind, **searched(problem, experiment, len(forget), victim)})
    return rows


def searched(problem: DampeningProblem, experiment: Experiment, count: int, victim: nn.Module) -> Row:
    """PTN, and the truth at its stop."""
    believed = accuracy(*predict(victim, experiment.data.train().select(experiment.data.order[:count])))
    if believed == 0:
        return {"status": "not believed"}
    search = PTNSearch()
    state = search.start(
        forget_count=count, train_count=len(experiment.data.train()), victim_forget_accuracy=believed
    )
    start = time.perf_counter()
    outcome = run_ptn(search, state, problem)
    found: Row = {"status": outcome.state.status, "steps": len(outcome.evaluations)}
    found["seconds_search"] = time.perf_counter() - start
    if outcome.chosen is None:
        return found
    truth = measure_truth(problem.dampened(outcome.chosen.alpha), experiment.data)
    return {**found, "alpha": outcome.chosen.alpha, "dampened": outcome.chosen.dampened, **asdict(truth)}


def markdown(rows: list[Row], before: Truth, origin: dict[str, str | None], samples: int) -> str:
    """The table, and under what conditions it came about."""
    versions = json.loads(origin["versions"] or "{}")
    lines = [
        f"CIFAR-10, preset cifar10-small, importances from {samples} training images, one victim: "
        f"clean {before.clean_accuracy:.1%}, ASR {before.asr:.1%}, healed_raw {before.healed_raw:.1%}.",
        f"{datetime.now(UTC):%Y-%m-%d}, {origin['device']}, torch {versions.get('torch')}, commit "
        f"{origin['git_commit']}.",
        "",
        COLUMNS,
        "|---" * (COLUMNS.count("|") - 1) + "|",
    ]
    for row in rows:
        start = f"| {row['share']} | {row['granularity']} | {row['importance']} | {row['status']} |"
        if "clean_accuracy" not in row:
            lines.append(f"{start} | | | | |")
            continue
        clean, damage = 100 * row["clean_accuracy"], 100 * (row["clean_accuracy"] - before.clean_accuracy)
        lines.append(
            f"{start} {row['dampened']} | {clean:.1f} | {damage:+.1f} | {100 * row['asr']:.1f} | "
            f"{100 * row['healed_raw']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("granularity"))
    options = parser.parse_args()
    experiment = Experiment(PRESETS["cifar10-small"], ArtifactStore(options.store), data_root=options.data)
    stored = experiment.trained(Part("victim"))
    victim, before = experiment.model(stored), Truth(**stored.info["truth"])
    rows = [row for share in SHARES for row in cell(experiment, victim, share, options.samples)]
    pq.write_table(pa.Table.from_pylist(rows), options.out.with_suffix(".parquet"))
    options.out.with_suffix(".md").write_text(markdown(rows, before, provenance("cpu"), options.samples))


if __name__ == "__main__":
    main()
