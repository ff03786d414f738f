"""What importances cost, in units of P: one plain forward and backward pass over the same samples.

    python tests/benchmarks/bench_importance.py [--model NAME] [--samples N] [--rounds N] [--device cuda]
        [--precision bfloat16]

Every round measures every variant once, in turn, so that a machine whose speed drifts slows all of them;
medians and ratios are printed as a Markdown table. Opacus joins in if it is installed. P, batch size 1, vmap
and Opacus run in the same precision. The check of 8 samples, in float32 and once a reading, is in the
figures of "sample": with few samples, or in half precision, it is much of them ("of which check").
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

from theriac.unlearning.importance.estimate import estimate_importance, estimate_importances
from theriac.unlearning.kinds import Granularity, Kind, Precision
from theriac.unlearning.models.build import ModelSpec, create_model
from theriac.unlearning.precision import PRECISIONS, REDUCED

MODELS: dict[str, tuple[str, int]] = {
    "resnet9": ("resnet9", 32),
    "vit_tiny": ("vit_tiny_patch16_224", 224),
    "resnet18": ("resnet18", 64),
}


def norms(model: nn.Module, x: Tensor, precision: str) -> Tensor:
    """||f(x)|| of every image, under autocast if ``precision`` is reduced."""
    dtype = REDUCED.get(precision, torch.bfloat16)
    with torch.autocast(x.device.type, dtype, enabled=precision in REDUCED):
        logits = model(x)
    return torch.linalg.vector_norm(logits.float(), dim=1)


def plain(model: nn.Module, x: Tensor, y: Tensor, precision: str) -> None:
    """P: forward and backward of the mean norm, all weight gradients."""
    model.zero_grad()
    norms(model, x, precision).mean().backward()


def plain_channels_last(model: nn.Module, x: Tensor, y: Tensor, precision: str) -> None:
    """P with weights and images in channels-last order."""
    model.to(memory_format=torch.channels_last)
    plain(model, x.contiguous(memory_format=torch.channels_last), y, precision)
    model.to(memory_format=torch.contiguous_format)


def check_alone(model: nn.Module, x: Tensor, y: Tensor, precision: str) -> None:
    """What a reading costs whatever its length: the importances of 8 samples."""
    estimate_importance(model, [(x[:8], y[:8])], kind="xlf", precision=as_precision(precision))


def as_precision(name: str) -> Precision:
    """One of the names, typed."""
    return "bfloat16" if name == "bfloat16" else "float16" if name == "float16" else "float32"


def one_by_one(model: nn.Module, x: Tensor, y: Tensor, precision: str) -> None:
    """Batch size 1, as the definition reads."""
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for sample in x.split(1):
        model.zero_grad()
        norms(model, sample, precision).sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad.abs()


def by_vmap(model: nn.Module, x: Tensor, y: Tensor, precision: str, chunk: int = 16) -> None:
    """torch.func: vmap over grad, in chunks whose gradients fit into memory."""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    total = {name: torch.zeros_like(p) for name, p in weights.items()}
    reduced = REDUCED.get(precision, torch.bfloat16)

    def loss(parameters: dict[str, Tensor], sample: Tensor) -> Tensor:
        with torch.autocast(x.device.type, reduced, enabled=precision in REDUCED, cache_enabled=False):
            logits = functional_call(model, parameters, (sample[None],))
        return torch.linalg.vector_norm(logits.float())

    for part in x.split(chunk):
        for name, gradients in vmap(grad(loss), (None, 0))(weights, part).items():
            total[name] += gradients.abs().sum(0)


def by_opacus(model: nn.Module, x: Tensor, y: Tensor, precision: str, chunk: int = 16) -> None:
    """Opacus's grad-sample hooks."""
    from opacus import GradSampleModule  # not a dependency: install it by hand to compare

    wrapped = GradSampleModule(copy.deepcopy(model), strict=False)  # it leaves hooks behind when it gives up
    total = {name: torch.zeros_like(p) for name, p in wrapped._module.named_parameters()}
    for part in x.split(chunk):
        wrapped.zero_grad()
        norms(wrapped, part, precision).sum().backward()
        for name, parameter in wrapped._module.named_parameters():
            gradients = getattr(parameter, "grad_sample", None)
            if gradients is not None:
                total[name] += gradients.abs().sum(0)


def variants() -> dict[str, Callable[[nn.Module, Tensor, Tensor, str], object]]:
    """Name -> what is timed."""
    found: dict[str, Callable[[nn.Module, Tensor, Tensor, str], object]] = {
        "P (plain forward + backward)": plain,
        "P, channels last": plain_channels_last,
        "batch xlf": ours("batch", ("xlf",)),
        "batch fim + lf + xlf": ours("batch", ("fim", "lf", "xlf")),
        "sample xlf": ours("sample", ("xlf",)),
        "of which check": check_alone,
        "sample fim": ours("sample", ("fim",)),
        "sample lf + xlf": ours("sample", ("lf", "xlf")),
        "sample fim + lf + xlf": ours("sample", ("fim", "lf", "xlf")),
        "vmap(grad)": by_vmap,
        "batch size 1": one_by_one,
    }
    if importlib.util.find_spec("opacus"):
        found["Opacus"] = by_opacus
    return found


def ours(
    granularity: Granularity, kinds: tuple[Kind, ...]
) -> Callable[[nn.Module, Tensor, Tensor, str], object]:
    """This package's importances over one batch."""

    def run(model: nn.Module, x: Tensor, y: Tensor, precision: str) -> object:
        options = as_precision(precision)
        return estimate_importances(model, [(x, y)], kinds=kinds, granularity=granularity, precision=options)

    return run


def measure(model: nn.Module, x: Tensor, y: Tensor, rounds: int, precision: str) -> dict[str, list[float]]:
    """Seconds of every variant in every round; a first round warms up, and drops what cannot do the model."""
    seconds: dict[str, list[float]] = {}
    for name, run in variants().items():
        try:
            run(model, x, y, precision)
            seconds[name] = []
        except (ValueError, RuntimeError) as error:
            print(f"{name}: not possible ({error})", flush=True)  # noqa: T201
    for _ in range(rounds):
        for name, values in seconds.items():
            start = now(x.device)
            variants()[name](model, x, y, precision)
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
    parser.add_argument("--samples", type=int, default=256, help="images; a quarter of them at 224 x 224")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for key, (name, size) in MODELS.items():
        if options.model not in (key, "all"):
            continue
        samples = options.samples if size < 100 else max(8, options.samples // 4)
        model = create_model(ModelSpec(name=name), num_classes=10, shape=(3, size, size)).to(options.device)
        x = torch.randn(samples, 3, size, size).to(options.device)
        y = torch.randint(0, 10, (samples,)).to(options.device)
        where = f"{options.device}, {options.precision}, torch {torch.__version__}"
        title = f"{name}, {samples} images of {size} x {size}, {where}"
        seconds = measure(model.eval(), x, y, options.rounds, options.precision)
        print(report(title, seconds), end="\n\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
