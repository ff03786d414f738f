"""What importances cost, in units of P: one plain forward and backward pass over the same samples.

    python tests/benchmarks/bench_importance.py [--model NAME] [--samples N] [--rounds N] [--device cuda]

Every round measures every variant once, in turn, so that a machine whose speed drifts slows all of them;
medians and ratios of medians are printed as a Markdown table. Opacus joins in if it is installed.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from theriac.unlearning.importance import estimate_importance, estimate_importances
from theriac.unlearning.models import ModelSpec, create_model

MODELS: dict[str, tuple[str, int]] = {
    "resnet9": ("resnet9", 32),
    "vit_tiny": ("vit_tiny_patch16_224", 224),
    "resnet18": ("resnet18", 64),
}


def plain(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """P: forward and backward of the mean norm, all weight gradients."""
    model.zero_grad()
    torch.linalg.vector_norm(model(x), dim=1).mean().backward()


def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Batch size 1, as the definition reads."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for sample in x.split(1):
        model.zero_grad()
        torch.linalg.vector_norm(model(sample), dim=1).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad.abs()


def by_vmap(model: nn.Module, x: Tensor, y: Tensor, chunk: int = 16) -> None:
    """torch.func: vmap over grad, in chunks whose gradients fit into memory."""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    total = {name: torch.zeros_like(p) for name, p in weights.items()}

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.linalg.vector_norm(functional_call(model, parameters, (sample[None],)))

    for part in x.split(chunk):
        for name, gradients in vmap(grad(loss), (None, 0))(weights, part).items():
            total[name] += gradients.abs().sum(0)


def by_opacus(model: nn.Module, x: Tensor, y: Tensor, chunk: int = 16) -> None:
    """Opacus's grad-sample hooks."""
    from opacus import GradSampleModule  # not a dependency: install it by hand to compare

    wrapped = GradSampleModule(copy.deepcopy(model), strict=False)  # it leaves hooks behind when it gives up
    total = {name: torch.zeros_like(p) for name, p in wrapped._module.named_parameters()}
    for part in x.split(chunk):
        wrapped.zero_grad()
        torch.linalg.vector_norm(wrapped(part), dim=1).sum().backward()
        for name, parameter in wrapped._module.named_parameters():
            gradients = getattr(parameter, "grad_sample", None)
            if gradients is not None:
                total[name] += gradients.abs().sum(0)


def variants() -> dict[str, Callable[[nn.Module, Tensor, Tensor], object]]:
    """Name -> what is timed."""
    found: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
        "P (plain forward + backward)": plain,
        "batch xlf": lambda m, x, y: estimate_importance(m, [(x, y)], kind="xlf", granularity="batch"),
        "sample xlf": lambda m, x, y: estimate_importance(m, [(x, y)], kind="xlf"),
        "sample fim": lambda m, x, y: estimate_importance(m, [(x, y)], kind="fim"),
        "sample lf + xlf": lambda m, x, y: estimate_importances(m, [(x, y)], kinds=("lf", "xlf")),
        "sample fim + lf + xlf": lambda m, x, y: estimate_importances(
            m, [(x, y)], kinds=("fim", "lf", "xlf")
        ),
        "vmap(grad)": by_vmap,
        "batch size 1": one_by_one,
    }
    if importlib.util.find_spec("opacus"):
        found["Opacus"] = by_opacus
    return found


def measure(model: nn.Module, x: Tensor, y: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant in every round; a first round warms up, and drops what cannot do the model."""
    seconds: dict[str, list[float]] = {}
    for name, run in variants().items():
        try:
            run(model, x, y)
            seconds[name] = []
        except (NotImplementedError, ValueError) as error:
            print(f"{name}: not possible ({error})", flush=True)  # noqa: T201
    for _ in range(rounds):
        for name, values in seconds.items():
            start = now(x.device)
            variants()[name](model, x, y)
            values.append(now(x.device) - start)
    return seconds


def now(device: torch.device) -> float:
    """The time when all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def report(title: str, seconds: dict[str, list[float]]) -> str:
    """A Markdown table of medians, and of each round's ratio to its own P."""
    base = next(iter(seconds.values()))
    lines = [
        f"### {title}",
        "",
        "| what | median s | median ratio to P | lowest..highest |",
        "|---|---|---|---|",
    ]
    for name, values in seconds.items():
        ratios = [value / p for value, p in zip(values, base, strict=True)]
        lines.append(
            f"| {name} | {statistics.median(values):.3f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f}..{max(ratios):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for key, (name, size) in MODELS.items():
        if options.model not in (key, "all"):
            continue
        samples = options.samples if size < 100 else max(8, options.samples // 8)
        model = create_model(ModelSpec(name=name), num_classes=10, shape=(3, size, size)).to(options.device)
        x = torch.randn(samples, 3, size, size).to(options.device)
        y = torch.randint(0, 10, (samples,)).to(options.device)
        title = f"{name}, {samples} images of {size} x {size}, {options.device}, torch {torch.__version__}"
        print(report(title, measure(model.eval(), x, y, options.rounds)), end="\n\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
