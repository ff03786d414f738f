"""What a search costs after the importances, as a Markdown table: python tests/benchmarks/bench_search.py

Full-width ResNet-9 with random weights and log-normal importances. P is one plain forward and backward pass
over 4000 images of 32 x 32, measured on 512 of them (the median of three) and scaled. Figures of one row are
measured in turns within one run; all are medians.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.search.engine import DampeningProblem, SearchOutcome, run_ptn
from theriac.search.grid import GoelGrid
from theriac.search.ptn import PTNSearch, percentile_of
from theriac.unlearning.dampening import dampen
from theriac.unlearning.dampening_path import DampeningPath
from theriac.unlearning.importance import Importance
from theriac.unlearning.resnet9 import ResNet9

STEPS = 46  # as many as the golden search takes
FORGET, TRAIN, RETAIN, MEASURED = 100, 50_000, 4000, 512
SHARES = 11

Row = tuple[str, str]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def milliseconds(value: float) -> str:
    return f"{1e3 * value:.3g} ms"


def lognormal(model: nn.Module, seed: int, spread: float) -> Importance:
    """Sizes over many decades; two of these have log-normal ratios."""
    generator = torch.Generator().manual_seed(seed)
    total = {
        name: torch.exp(spread * torch.randn(p.shape, generator=generator)).double()
        for name, p in model.named_parameters()
    }
    return Importance(total=total, count=1, kind="xlf", granularity="sample")


def percentiles() -> list[float]:
    return [percentile_of(FORGET / TRAIN / 25 * 1.1**k) for k in range(STEPS)]


def plain_pass(model: nn.Module) -> float:
    """P in seconds."""
    x, y = torch.randn(MEASURED, 3, 32, 32), torch.randint(0, 10, (MEASURED,))

    def work() -> None:
        for images, labels in zip(x.split(128), y.split(128), strict=True):
            F.cross_entropy(model(images), labels).backward()

    model = copy.deepcopy(model).requires_grad_(True)
    work()
    return median(seconds(work) for _ in range(3)) * RETAIN / MEASURED


class PlainWay:
    """np.percentile of all ratios, dampen on everything, copy into the model: every step anew."""

    def __init__(self, model: nn.Module, forget: Importance, retain: Importance) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.forget, self.retain = forget.mean(), retain.mean()

    def step(self, percentile: float) -> None:
        ratios = torch.cat([(self.forget[n] / self.retain[n]).flatten() for n in self.weights]).numpy()
        alpha = float(np.percentile(ratios[np.isfinite(ratios)], np.float64(percentile)))
        weights = dampen(self.weights, self.forget, self.retain, alpha)
        for name, parameter in self.model.named_parameters():
            parameter.copy_(weights[name])


def path_of(model: nn.Module, forget: Importance, retain: Importance) -> DampeningPath:
    return DampeningPath(dict(copy.deepcopy(model).named_parameters()), forget, retain)


def step_rows(model: nn.Module, pair: tuple[Importance, Importance]) -> Iterator[Row]:
    path, plain = path_of(model, *pair), PlainWay(model, *pair)
    ours, theirs = [], []
    for percentile in percentiles():
        ours.append(seconds(lambda p=percentile: path.move_to(path.alpha_at(p))))  # type: ignore[misc]
        theirs.append(seconds(lambda p=percentile: plain.step(p)))  # type: ignore[misc]
    ratio = median(b / a for a, b in zip(ours, theirs, strict=True))
    yield (
        "build (median of 3)",
        milliseconds(median(seconds(lambda: path_of(model, *pair)) for _ in range(3))),
    )
    yield f"step apart from inference, {STEPS} steps", milliseconds(median(ours))
    yield "the slowest of them", milliseconds(max(ours))
    yield "the same steps the plain way", milliseconds(median(theirs))
    yield "plain / ours, paired", f"{ratio:.0f}"
    yield "bytes held per parameter", f"{path.held_bytes / path.count:.1f}"


def growth_rows(model: nn.Module, pair: tuple[Importance, Importance]) -> Iterator[Row]:
    """A step that newly selects so many parameters."""
    path = path_of(model, *pair)
    for count in (100, 1_000, 10_000, 60_000):
        alpha = path.alpha_at(100 - 100 * count / path.count)
        times = []
        for _ in range(9):
            path.restore()
            times.append(seconds(lambda a=alpha: path.move_to(a)))  # type: ignore[misc]
        yield f"step that selects {path.selected(alpha):,} more", milliseconds(median(times))


def search_rows(model: nn.Module, pair: tuple[Importance, Importance], reference: float) -> Iterator[Row]:
    """Searches over labels that the random model keeps predicting, so that no step crosses."""
    x = torch.randn(FORGET, 3, 32, 32)
    with torch.no_grad():
        found = x, model(x).argmax(1)
    for name, strategy, piece in (
        ("every accuracy exact", "plain", None),
        ("early exit by pieces of 25", "plain", 25),
        ("coarse, then fine", "coarse_fine", None),
        ("both", "coarse_fine", 25),
    ):
        search = PTNSearch.model_validate({"strategy": strategy, "max_steps": STEPS})
        state = search.start(forget_count=FORGET, train_count=TRAIN, victim_forget_accuracy=1.0)
        outcome: list[SearchOutcome] = []

        def work() -> None:
            problem = DampeningProblem(model, [found], *pair, piece=piece)  # noqa: B023 (called here)
            outcome.append(run_ptn(search, state, problem))  # noqa: B023

        took = seconds(work)
        end = outcome[0].state
        what = f"{len(end.trace)} evaluations, {end.status}"
        yield f"PTN search, {STEPS} steps, {name} ({what})", f"{took:.2f} s = {took / reference:.3f} P"


def grid_rows(
    model: nn.Module, pair: tuple[Importance, Importance], found: tuple[Tensor, Tensor], reference: float
) -> Iterator[Row]:
    problem = DampeningProblem(model, [found], *pair)
    pairs = GoelGrid().pairs()
    without = seconds(lambda: [problem.dampened(*one) for one in pairs])
    share = sum(problem.selected(alpha) for alpha, _ in pairs) / len(pairs) / problem.parameter_count
    inference = seconds(lambda: [problem.victim_forget_accuracy() for _ in range(10)]) * len(pairs) / 10
    yield f"{len(pairs)} grid pairs without inference ({share:.0%} selected on average)", f"{without:.2f} s"
    yield f"{SHARES} such grids / P", f"{SHARES * without / reference:.3f}"
    yield f"inference on S_f for {len(pairs)} pairs (10 measured)", f"{inference:.2f} s"


def main() -> None:
    torch.manual_seed(0)
    model = ResNet9(num_classes=10).eval()
    pair = lognormal(model, 1, 1.5), lognormal(model, 2, 1.5)
    found = torch.randn(FORGET, 3, 32, 32), torch.randint(0, 10, (FORGET,))
    reference = plain_pass(model)
    rows = [
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
        ("threads", str(torch.get_num_threads())),
        (f"P: {RETAIN} images, measured on {MEASURED} and scaled", f"{reference:.1f} s"),
        *step_rows(model, pair),
        *growth_rows(model, pair),
        *search_rows(model, pair, reference),
        *grid_rows(model, pair, found, reference),
    ]
    lines = ["| what | figure |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in rows)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
