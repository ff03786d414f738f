"""I-BAU on the two published victims: what a round costs, how soon it works, and with how few clean images.

    python tests/benchmarks/bench_ibau.py [--quick] [--out tests/benchmarks/results/ibau-golden]

Needs ../shared/golden and ../shared/data/cifar10 beside the repository. Cost is counted in forward passes
over one batch: a backward pass counts 1 in the images and 1 in the weights. One outer step with K fixed-point
iterations is outer forward + backward 3, inner forward + backward in delta 2, K - 1 Hessian-vector products
in delta at 2 (up the graph of the gradient and down that of the loss), and the mixed derivative 4 (the same,
and the weights in both): 9 + 2 (K - 1), 17 with K = 5. The floor is that many measured forward passes. Every
batch is measured with every variant in turn, so that a machine whose speed drifts slows all of them. Seconds
to an effect are those at the end of the first round that shows it on scored images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.search.store.row_origin import provenance
from theriac.tests import reference_ibau
from theriac.tests.golden_victims import TARGETS, Halves, halves, victim
from theriac.unlearning.methods.double_backward import cheap_double_backward
from theriac.unlearning.methods.hypergradient import Solver, hypergradient
from theriac.unlearning.methods.ibau import IBAU
from theriac.unlearning.methods.unlearner import Known
from theriac.unlearning.training import TrainingDiverged

Row = dict[str, Any]
ITERATIONS, STEP, BATCH = 5, 0.1, 100
FLOOR = 9 + 2 * (ITERATIONS - 1)
LEAST_COSINE = 0.9999
SETTINGS: dict[str, tuple[Callable[[], IBAU], int]] = {
    "default": (IBAU, 2),
    "released": (IBAU.released, 1),
    "paper": (IBAU.paper, 1),
}
COUNTS = (2500, 500, 100)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def speed(name: str, data: Halves, batches: int) -> Row:
    """Forward pass, this package's hypergradient and the plain one, over so many batches of 100."""
    model = victim(name).requires_grad_(True)
    parameters = tuple(model.parameters())
    delta = 0.05 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seconds, cosine = {"forward": 0.0, "ours": 0.0, "plain": 0.0}, 1.0
    for number in range(-1, batches):  # the first warms up
        rows = torch.arange(BATCH) + BATCH * max(number, 0)
        loss = batch_loss(model, *data.unlearning.batch(rows))
        inner = first_loss(model, *data.unlearning.batch(torch.arange(BATCH)))
        found = {
            "forward": timed(partial(forward, loss, parameters, delta)),
            "ours": timed(partial(ours, model, inner, loss, parameters, delta)),
            "plain": timed(
                partial(reference_ibau.plain_fixed_point, inner, loss, parameters, delta, ITERATIONS, STEP)
            ),
        }
        cosine = min(cosine, F.cosine_similarity(flat(found["ours"][1]), flat(found["plain"][1]), 0).item())
        if number >= 0:
            seconds = {key: value + found[key][0] for key, value in seconds.items()}
    assert cosine >= LEAST_COSINE, cosine
    return {"victim": name, "images": batches * BATCH, "cosine": cosine, **seconds}


def batch_loss(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[Sequence[Tensor], Tensor], Tensor]:
    """Outer loss: a tenth of the batch carries delta."""
    carries = (torch.arange(len(x)) % 10 == 0).view(-1, 1, 1, 1)
    return lambda _, delta: F.cross_entropy(model(x + carries * delta), y)


def first_loss(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[Sequence[Tensor], Tensor], Tensor]:
    """Inner loss: every image carries delta."""
    return lambda _, delta: F.cross_entropy(model(x + delta), y) - 0.001 * delta.pow(2).sum()


@torch.no_grad()
def forward(loss: Callable[..., Tensor], parameters: Sequence[Tensor], delta: Tensor) -> Tensor:
    """One forward pass."""
    return loss(parameters, delta)


def ours(
    model: nn.Module, inner: Any, outer: Any, parameters: Sequence[Tensor], delta: Tensor
) -> tuple[Tensor, ...]:
    """As `IBAU` computes it."""
    with cheap_double_backward(model):
        solver = Solver(iterations=ITERATIONS, step=STEP)
        return hypergradient(inner, outer, parameters, delta, solver).gradient


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One vector."""
    return torch.cat([t.flatten() for t in tensors])


def heal(name: str, setting: str, rounds: int, count: int, data: Halves, scored: int) -> list[Row]:
    """Rows of one run: round 0 is the victim; the last round is scored on the whole half."""
    healer = SETTINGS[setting][0]().model_copy(update={"rounds": rounds})
    model = victim(name)
    shared = {"victim": name, "setting": setting, "clean_images": count}
    start: Row = {"round": 0, "seconds": 0.0, **data.truth(model, name)}
    try:
        found = healer(model, Known(clean=data.first(count)), watch=lambda m: data.truth(m, name, scored))
    except TrainingDiverged:
        return [shared | {"status": "diverged", "final": True} | start]
    rows = [start, *found.trace]
    rows[-1] = {**rows[-1], **data.truth(found.model, name)}
    return [shared | {"status": found.status, "final": row is rows[-1]} | row for row in rows]


def table(rows: list[Row]) -> list[str]:
    """Markdown of all rounds."""
    lines = [
        "| victim | setting | clean images | status | round | s | clean | ASR | healed_raw | lowest lfr | "
        "norm of delta | direct | indirect | fresh |",
        "|" + "---|" * 14,
    ]
    for row in rows:
        shares = " | ".join(f"{100 * row[key]:.1f}" for key in ("clean_accuracy", "asr", "healed_raw"))
        seen = " | ".join(number(row.get(k)) for k in ("delta_norm", "direct_norm", "indirect_norm", "fresh"))
        lines.append(
            f"| {row['victim']} | {row['setting']} | {row['clean_images']} | {row['status']} | "
            f"{row['round']} | "
            f"{row['seconds']:.1f} | {shares} | {min(row['lfr']):.2f} | {seen} |"
        )
    return lines


def number(value: float | None) -> str:
    """Three figures, or nothing."""
    return "" if value is None else f"{value:.3g}"


def effects(rows: list[Row]) -> list[str]:
    """Markdown: seconds until ASR < 20 % and until healed_raw >= 60 %, with 5000 clean images or the most."""
    most = max(row["clean_images"] for row in rows)
    lines = ["| victim | setting | s until ASR < 20 % | s until healed_raw >= 60 % |", "|---|---|---|---|"]
    for name in TARGETS:
        for setting in SETTINGS:
            one = [r for r in rows if (r["victim"], r["setting"], r["clean_images"]) == (name, setting, most)]
            if one:
                never = "diverged" if one[0]["status"] == "diverged" else f"not in {len(one) - 1}"
                asr = next((f"{r['seconds']:.1f}" for r in one if r["asr"] < 0.2), never)
                well = next((f"{r['seconds']:.1f}" for r in one if r["healed_raw"] >= 0.6), never)
                lines.append(f"| {name} | {setting} | {asr} | {well} |")
    return lines


def speeds(rows: list[Row]) -> list[str]:
    """Markdown of the cost of a round."""
    lines = [
        "| victim | images | forward s | floor s | hypergradient s | by floor | plain s | by ours | cosine |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        floor = FLOOR * row["forward"]
        lines.append(
            f"| {row['victim']} | {row['images']} | {row['forward']:.2f} | {floor:.1f} | {row['ours']:.1f} | "
            f"{row['ours'] / floor:.2f} | {row['plain']:.1f} | {row['plain'] / row['ours']:.2f} | "
            f"{row['cosine']:.6f} |"
        )
    return lines


def plan(quick: bool) -> list[tuple[str, str, int, int]]:
    """(victim, setting, rounds, clean images) of every run."""
    if quick:
        return [("badnets_8_02", "default", 1, 1000), ("badnets_8_02", "released", 1, 500)]
    full = [(v, s, rounds, 5000) for v in TARGETS for s, (_, rounds) in SETTINGS.items()]
    return full + [(v, "default", 2, count) for v in TARGETS for count in COUNTS]


def main() -> None:
    """Parse the arguments, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small part, in under two minutes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--scored", type=int, default=1000, help="images on which rounds before the last are scored"
    )
    parser.add_argument("--out", type=Path, default=Path("ibau-golden"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start, data, rows = time.perf_counter(), halves(), []
    cost = [speed("badnets_8_02", data, 3 if options.quick else 20)]
    for name, setting, rounds, count in plan(options.quick):
        rows += heal(name, setting, rounds, count, data, options.scored)
        write(options, cost, rows, time.perf_counter() - start)


def write(options: argparse.Namespace, cost: list[Row], rows: list[Row], seconds: float) -> None:
    """What is known so far, so that nothing is lost."""
    facts = {"date": datetime.now(UTC).date().isoformat()}
    facts |= {key: str(value) for key, value in provenance().items()}
    facts |= {"threads": str(options.threads), "total_seconds": f"{seconds:.0f}"}
    out = options.out
    columns = sorted({key for row in rows for key in row})
    pq.write_table(
        pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows]).replace_schema_metadata(
            facts
        ),
        out.with_suffix(".parquet"),
    )
    out.with_suffix(".md").write_text(report(facts, cost, rows))


def report(facts: dict[str, str], cost: list[Row], rows: list[Row]) -> str:
    """The Markdown file."""
    about = ", ".join(f"{key} {value}" for key, value in facts.items() if len(value) < 80)
    parts = [
        ["# I-BAU on the published victims", "", about],
        [f"## One outer round (K = {ITERATIONS}, floor {FLOOR} forward passes)", "", *speeds(cost)],
        ["## Seconds to an effect", "", *effects(rows)],
        ["## All rounds", "", *table(rows)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


if __name__ == "__main__":
    main()
