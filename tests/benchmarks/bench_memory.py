"""Peak memory of importances and of a search, by model size: python tests/benchmarks/bench_memory.py

Each figure comes from a process of its own, as a peak cannot be taken back: the largest resident set (CPU)
or the most that tensors took (CUDA), less what there was when the model and the images were made. A plain
forward and backward pass over the same images stands beside it. Importances of the search are log-normal.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable

import torch
from torch import Tensor, nn

from theriac.search.dampening_problem import DampeningProblem
from theriac.search.ptn.machine import percentile_of
from theriac.search.stopwatch import peak_memory
from theriac.tests.importance_models import PreActivation
from theriac.unlearning.importance.estimate import Importance, estimate_importance
from theriac.unlearning.models.build import ModelSpec, create_model

MEGABYTE = 2**20
STEPS = 5


def wide_resnet_28_10() -> nn.Module:
    """36.5 million parameters (Zagoruyko and Komodakis, 2016)."""
    widths, blocks, inputs = (160, 320, 640), [], 16
    for stride, width in zip((1, 2, 2), widths, strict=True):
        for place in range(4):
            blocks.append(PreActivation(inputs, width, stride if place == 0 else 1))
            inputs = width
    head = [nn.BatchNorm2d(640), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(640, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), *blocks, *head)


def named(name: str, side: int) -> nn.Module:
    if name == "wrn28x10":
        return wide_resnet_28_10()
    return create_model(ModelSpec(name=name), num_classes=10, shape=(3, side, side))


MODELS = {"resnet9": (32, 256), "wrn28x10": (32, 16), "vit_base_patch16_224": (224, 8)}
"""Name -> side of the images, and how many."""


def plain(model: nn.Module, x: Tensor, y: Tensor) -> None:
    torch.linalg.vector_norm(model(x), dim=1).mean().backward()


def sample(model: nn.Module, x: Tensor, y: Tensor) -> None:
    estimate_importance(model, [(x, y)], kind="xlf")


def batch(model: nn.Module, x: Tensor, y: Tensor) -> None:
    estimate_importance(model, [(x, y)], kind="xlf", granularity="batch")


def search(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Importances of float64 sums, as a reading leaves them, are counted: a caller has them then."""

    def lognormal() -> Importance:
        total = {name: torch.randn_like(p).exp_().double() for name, p in model.named_parameters()}
        return Importance(total=total, count=1, kind="xlf", granularity="sample")

    with torch.no_grad():
        problem = DampeningProblem(model, [(x, y)], lognormal(), lognormal())
        for step in range(STEPS):
            problem.evaluate(percentile_of(1e-4 * 1.1**step))


WORK: dict[str, Callable[[nn.Module, Tensor, Tensor], None]] = {
    "plain": plain,
    "batch": batch,
    "sample": sample,
    "search": search,
}


def measured(name: str, work: str, device: str, answers: multiprocessing.SimpleQueue[int]) -> None:
    """Bytes beyond the model and its images."""
    side, count = MODELS[name]
    model = named(name, side).to(device).eval()
    x, y = torch.randn(count, 3, side, side, device=device), torch.randint(0, 10, (count,), device=device)
    before = peak_memory(torch.device(device))
    WORK[work](model, x, y)
    answers.put(peak_memory(torch.device(device)) - before)


def peak(name: str, work: str, device: str) -> int:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=measured, args=(name, work, device, answers))
    process.start()
    process.join()
    return int(answers.get()) if process.exitcode == 0 else -1


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    options = parser.parse_args()
    print(f"| model | parameters | weights MB | images | {' | '.join(f'{w} MB' for w in WORK)} |")  # noqa: T201
    print("|---" * (4 + len(WORK)) + "|")  # noqa: T201
    for name in options.models:
        side, count = MODELS[name]
        parameters = sum(p.numel() for p in named(name, side).parameters())
        peaks = [f"{peak(name, work, options.device) / MEGABYTE:.0f}" for work in WORK]
        row = [name, f"{parameters:,}", f"{4 * parameters / MEGABYTE:.0f}", str(count), *peaks]
        print(f"| {' | '.join(row)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
