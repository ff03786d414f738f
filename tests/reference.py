"""Slow, obvious versions in float64 with plain loops; the fast code is compared with these."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from theriac.unlearning.kinds import KINDS

Batches = Iterable[tuple[Tensor, Tensor]]
Values = dict[str, Tensor]


def importances(
    model: nn.Module, batches: Batches, kind: str, granularity: str, exponent: float = 1.0
) -> Values:
    """Name -> importance: the mean over samples (or batches) of what `sensitivity` gives."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    terms = 0
    for x, y in batches:
        x = x.double()
        groups = (
            [(x[i : i + 1], y[i : i + 1]) for i in range(len(x))] if granularity == "sample" else [(x, y)]
        )
        for group in groups:
            if len(group[0]):
                terms += 1
                for name, value in sensitivity(model, *group, kind, exponent).items():
                    total[name] += value
    return {name: value / terms for name, value in total.items()}


def sensitivity(model: nn.Module, x: Tensor, y: Tensor, kind: str, exponent: float) -> Values:
    """|gradient of the mean loss of (x, y)|, or its square, as `KINDS` says; one autograd call."""
    losses = [sample_loss(f, int(c), kind, exponent) for f, c in zip(model(x), y, strict=True)]
    loss = torch.stack(losses).sum() / len(x)
    names = [name for name, _ in model.named_parameters()]
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    result = {}
    for name, parameter, gradient in zip(names, model.parameters(), gradients, strict=True):
        gradient = torch.zeros_like(parameter) if gradient is None else gradient
        result[name] = gradient**2 if KINDS[kind].reduction == "square" else gradient.abs()
    return result


def sample_loss(logits: Tensor, label: int, kind: str, exponent: float) -> Tensor:
    """Cross-entropy, ||f||^2 or ||f||^w of one sample; the norm of 0 has gradient 0."""
    loss = KINDS[kind].loss
    if loss == "cross_entropy":
        return torch.log(torch.exp(logits - logits.max()).sum()) - (logits[label] - logits.max())
    square = (logits**2).sum()
    if loss == "squared_norm":
        return square
    return torch.sqrt(square) ** exponent if square > 0 else 0.0 * square


def ratios(forget: Values, retain: Values) -> list[float]:
    """r_i for every parameter of the model: nan for 0/0, inf for x/0."""
    result = []
    for name, values in forget.items():
        for f, r in zip(values.flatten().tolist(), retain[name].flatten().tolist(), strict=True):
            if r != 0:
                result.append(f / r)
            else:
                result.append(math.inf if f > 0 else math.nan)
    return result


def alpha_at(forget: Values, retain: Values, percentile: float) -> float:
    """numpy's percentile of the finite ratios, in float64."""
    finite = [r for r in ratios(forget, retain) if math.isfinite(r)]
    return float(np.percentile(np.array(finite, dtype=np.float64), percentile))


def dampen(parameters: Values, forget: Values, retain: Values, alpha: float, constant: float = 1.0) -> Values:
    """Potion eq. 1, element by element."""
    result = {}
    for name, values in parameters.items():
        new = []
        for theta, f, r in zip(
            values.flatten().tolist(),
            forget[name].flatten().tolist(),
            retain[name].flatten().tolist(),
            strict=True,
        ):
            if f > alpha * r:
                theta = theta * min(constant * r / f, 1.0)
            new.append(theta)
        result[name] = torch.tensor(new, dtype=torch.float64).reshape(values.shape)
    return result


def ptn(
    evaluate: Callable[[float], float],
    *,
    forget_count: int,
    train_count: int,
    victim_accuracy: float,
    rho: float = 0.2,
    b_start: float = 25.0,
    s_step: float = 1.1,
    max_steps: int = 500,
) -> list[tuple[float, float, float]]:
    """The loop of the paper: (s, percentile, forget accuracy) of each step up to the crossing."""
    s = forget_count / train_count / b_start
    trace: list[tuple[float, float, float]] = []
    accuracy = math.inf
    while accuracy > rho * victim_accuracy and len(trace) < max_steps:
        percentile = max(0.0, 100.0 - math.log(1.0 + 100.0 * s))
        accuracy = evaluate(percentile)
        trace.append((s, percentile, accuracy))
        s = s * s_step
    return trace


def accuracy(predictions: list[int], labels: list[int]) -> float:
    """Share of equal pairs."""
    hits = 0
    for p, y in zip(predictions, labels, strict=True):
        hits += p == y
    return hits / len(labels)


def attack_success_rate(predictions: list[int], true_labels: list[int], target: int) -> float:
    """Share of samples not of the target class that are predicted as the target."""
    hits = others = 0
    for p, y in zip(predictions, true_labels, strict=True):
        if y != target:
            others += 1
            hits += p == target
    return hits / others


def label_flip_rates(predictions: list[int], num_classes: int) -> list[float]:
    """Share of samples not predicted as c, for each class c."""
    return [sum(p != c for p in predictions) / len(predictions) for c in range(num_classes)]
