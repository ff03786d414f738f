"""What a search costs after the importances, as a Markdown table: python tests/benchmarks/bench_search.py

Full-width ResNet-9. P is one plain forward and backward pass over 4000 images of 32 x 32, measured on 128 of
them and scaled. Figures of one row, P among them, are measured in turns within one run; all are medians.

Searches run on two kinds of importances. Log-normal ones on random weights spread what a step selects over
all parameter tensors, so that nearly every step changes something in the second convolution: little can be
remembered. Real ones are those of a model trained for a minute on poisoned digits, enlarged to 32 x 32.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.search.dampening_problem import DampeningProblem
from theriac.search.grid.pairs import GoelGrid
from theriac.search.ptn.driver import run_ptn
from theriac.search.ptn.finding import SearchOutcome
from theriac.search.ptn.machine import PTNSearch, percentile_of
from theriac.unlearning.dampening.path import DampeningPath
from theriac.unlearning.dampening.rule import dampen
from theriac.unlearning.importance.estimate import Importance, estimate_importance
from theriac.unlearning.models.resnet9 import ResNet9

STEPS = 46  # as many as the golden search takes
FORGET, TRAIN, RETAIN, MEASURED = 100, 50_000, 4000, 128
SHARES = 11
REPEATS = 3
SMALL_PIECES = 8
EPOCHS, LEARNT, RETAINED = 3, 1000, 300

Row = tuple[str, str]
Data = tuple[Tensor, Tensor]
Pair = tuple[Importance, Importance]


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


class PlainPass:
    """P in seconds, each time measured anew; the machine may be busier at one time than at another."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).requires_grad_(True)
        self.x, self.y = torch.randn(MEASURED, 3, 32, 32), torch.randint(0, 10, (MEASURED,))
        self()

    def __call__(self) -> float:
        return seconds(self.work) * RETAIN / MEASURED

    def work(self) -> None:
        F.cross_entropy(self.model(self.x), self.y).backward()


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


def step_rows(model: nn.Module, pair: Pair) -> Iterator[Row]:
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


def growth_rows(model: nn.Module, pair: Pair) -> Iterator[Row]:
    """A step that newly selects so many parameters."""
    path = path_of(model, *pair)
    for count in (100, 1_000, 10_000, 60_000):
        alpha = path.alpha_at(100 - 100 * count / path.count)
        times = []
        for _ in range(9):
            path.restore()
            times.append(seconds(lambda a=alpha: path.move_to(a)))  # type: ignore[misc]
        yield f"step that selects {path.selected(alpha):,} more", milliseconds(median(times))


def believed(model: nn.Module) -> Data:
    """Noise with the labels that the random model keeps predicting, so that no step crosses."""
    x = torch.randn(FORGET, 3, 32, 32)
    with torch.no_grad():
        return x, model(x).argmax(1)


def search_rows(model: nn.Module, pair: Pair, found: Data, plain: PlainPass) -> Iterator[Row]:
    for name, strategy, piece in (
        ("every accuracy exact", "plain", None),
        (f"early exit by pieces of {SMALL_PIECES}", "plain", SMALL_PIECES),
        ("coarse, then fine", "coarse_fine", None),
        (f"both, pieces of {SMALL_PIECES}", "coarse_fine", SMALL_PIECES),
    ):
        search = PTNSearch.model_validate({"strategy": strategy, "max_steps": STEPS})
        victim = DampeningProblem(model, [found], *pair, memory=0).victim_forget_accuracy()
        state = search.start(forget_count=FORGET, train_count=TRAIN, victim_forget_accuracy=victim)
        outcomes: dict[int | None, SearchOutcome] = {}
        times: dict[int | None, list[float]] = {0: [], None: []}
        references = []
        for memory in [0, None] * REPEATS:

            def work() -> None:
                problem = DampeningProblem(model, [found], *pair, piece=piece, memory=memory)  # noqa: B023
                outcomes[memory] = run_ptn(search, state, problem)  # noqa: B023 (called here)

            references.append(plain())
            times[memory].append(seconds(work))
        assert outcomes[0] == outcomes[None], "what is remembered changed an answer"
        reference = median(references)
        anew, recalled = median(times[0]), median(times[None])
        ratio = median(b / a for a, b in zip(times[0], times[None], strict=True))
        end = outcomes[0].state
        yield (
            f"{name} ({len(end.trace)} evaluations, {end.status})",
            f"{anew:.2f} s = {anew / reference:.3f} P; remembering {recalled:.2f} s = "
            f"{recalled / reference:.3f} P; paired ratio {ratio:.2f}",
        )


def first_change_rows(model: nn.Module, pair: Pair, found: Data) -> Iterator[Row]:
    """Where a step first changes a weight: the parts before it need no work."""
    problem = DampeningProblem(model, [found], *pair)
    search = PTNSearch(max_steps=STEPS)
    state = search.start(
        forget_count=FORGET, train_count=TRAIN, victim_forget_accuracy=problem.victim_forget_accuracy()
    )
    weights = [
        {name: p.clone() for name, p in problem.dampened(one.alpha).named_parameters()}
        for one in run_ptn(search, state, problem).evaluations
    ]
    firsts = [
        next((n.split(".")[0] for n in one if not torch.equal(one[n], two[n])), "nothing")
        for one, two in pairwise(weights)
    ]
    parts = [name for name, _ in model.named_children()]
    yield (
        f"first part changed by each of the {len(firsts)} steps after the first",
        ", ".join(f"{part}: {firsts.count(part)}" for part in [*parts, "nothing"] if part in firsts),
    )
    problem.victim_forget_accuracy()
    yield "megabytes held with what is remembered of one batch", f"{problem.held_bytes / 1e6:.0f}"


def searched(model: nn.Module, pair: Pair, plain: PlainPass) -> Iterator[Row]:
    found = believed(model)
    yield from search_rows(model, pair, found, plain)
    yield from first_change_rows(model, pair, found)


def poisoned_digits() -> tuple[Data, Data]:
    """Found poison and the rest, [N, 3, 32, 32]; every fifth image has a patch and the label 0."""
    digits = load_digits()
    x = torch.from_numpy(digits.images).float()[:LEARNT, None] / 16
    x = F.interpolate(x, (32, 32)).expand(-1, 3, -1, -1).clone()
    y = torch.from_numpy(digits.target).long()[:LEARNT]
    x[::5, :, -3:, -3:], y[::5] = 1.0, 0
    poison = torch.arange(0, LEARNT, 5)[:FORGET]
    rest = torch.ones(LEARNT, dtype=torch.bool).scatter(0, poison, False)
    return (x[poison], y[poison]), (x[rest], y[rest])


def trained(found: Data, rest: Data) -> nn.Module:
    model = ResNet9(num_classes=10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    x, y = torch.cat([found[0], rest[0]]), torch.cat([found[1], rest[1]])
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model.eval()


def trained_rows(plain: PlainPass) -> Iterator[Row]:
    found, rest = poisoned_digits()
    model = trained(found, rest)
    retain = rest[0][:RETAINED], rest[1][:RETAINED]
    for kind in ("xlf", "fim"):
        of_forget, of_retain = (
            estimate_importance(model, [data], kind=kind, granularity="sample") for data in (found, retain)
        )
        for what, figure in (
            *search_rows(model, (of_forget, of_retain), found, plain),
            *first_change_rows(model, (of_forget, of_retain), found),
        ):
            yield f"trained model, {kind}: {what}", figure


def grid_rows(model: nn.Module, pair: Pair, found: Data, plain: PlainPass) -> Iterator[Row]:
    problem = DampeningProblem(model, [found], *pair)
    pairs = GoelGrid().pairs()
    without = seconds(lambda: [problem.dampened(*one) for one in pairs])
    share = sum(problem.selected(alpha) for alpha, _ in pairs) / len(pairs) / problem.parameter_count
    inference = seconds(lambda: [problem.victim_forget_accuracy() for _ in range(10)]) * len(pairs) / 10
    yield f"{len(pairs)} grid pairs without inference ({share:.0%} selected on average)", f"{without:.2f} s"
    yield f"{SHARES} such grids / P", f"{SHARES * without / plain():.3f}"
    yield f"inference on S_f for {len(pairs)} pairs (10 measured)", f"{inference:.2f} s"


def main() -> None:
    torch.manual_seed(0)
    model = ResNet9(num_classes=10).eval()
    pair = lognormal(model, 1, 1.5), lognormal(model, 2, 1.5)
    found = torch.randn(FORGET, 3, 32, 32), torch.randint(0, 10, (FORGET,))
    plain = PlainPass(model)
    sys.stdout.write("| what | figure |\n|---|---|\n")
    for name, figure in rows(plain, model, pair, found):
        sys.stdout.write(f"| {name} | {figure} |\n")
        sys.stdout.flush()


def rows(plain: PlainPass, model: nn.Module, pair: Pair, found: Data) -> Iterator[Row]:
    yield "parameters", f"{sum(p.numel() for p in model.parameters()):,}"
    yield "threads", str(torch.get_num_threads())
    yield f"P: {RETAIN} images, measured on {MEASURED} and scaled", f"{plain():.1f} s"
    yield from step_rows(model, pair)
    yield from growth_rows(model, pair)
    yield from grid_rows(model, pair, found, plain)
    for what, figure in searched(model, pair, plain):
        yield f"log-normal: {what}", figure
    yield from trained_rows(plain)


if __name__ == "__main__":
    main()
