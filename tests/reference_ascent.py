"""The objectives of GA, NPO and RGA with plain loops in float64, and their gradients without autograd.

The model is one linear layer, f(x) = W x + b, so that every derivative can be written down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Weights [K, D] and biases [K] of model, victim and base; images [N, D] and labels of both batches."""

    weight: Array
    bias: Array
    victim: tuple[Array, Array]
    base: tuple[Array, Array]
    forget: tuple[Array, list[int]]
    retain: tuple[Array, list[int]]


def probabilities(weight: Array, bias: Array, x: Array) -> Array:
    """Softmax of one image's logits."""
    logits = [
        float(b) + sum(float(w * v) for w, v in zip(row, x, strict=True))
        for row, b in zip(weight, bias, strict=True)
    ]
    powers = [math.exp(f - max(logits)) for f in logits]
    return np.array([p / sum(powers) for p in powers])


def cross_entropies(weight: Array, bias: Array, data: tuple[Array, list[int]]) -> list[float]:
    """-log p_y of every image."""
    return [-math.log(probabilities(weight, bias, x)[y]) for x, y in zip(*data, strict=True)]


def divergence(case: Case) -> float:
    """Mean over the forget images of sum_k p_victim,k log(p_victim,k / p_theta,k)."""
    total = 0.0
    for x in case.forget[0]:
        p, q = probabilities(*case.victim, x), probabilities(case.weight, case.bias, x)
        total += sum(float(a) * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(case.forget[0])


def rises(case: Case) -> list[float]:
    """CE_theta - CE_victim of every forget image."""
    ours = cross_entropies(case.weight, case.bias, case.forget)
    return [a - b for a, b in zip(ours, cross_entropies(*case.victim, case.forget), strict=True)]


def forget_weights(case: Case, method: str, beta: float, c: float) -> list[float]:
    """How strongly each forget sample is ascended: -n times d loss / d CE of that sample."""
    count = len(case.forget[1])
    if method == "npo":
        return [2 / (1 + math.exp(beta * rise)) for rise in rises(case)]
    return [math.exp(-c * divergence(case)) if method == "rga" else 1.0] * count


def loss(case: Case, method: str, beta: float = 1.0, c: float = 2.0, mu: float = 0.05) -> float:
    """The objective of design.md section 2."""
    retain = float(np.mean(cross_entropies(case.weight, case.bias, case.retain)))
    forget = float(np.mean(cross_entropies(case.weight, case.bias, case.forget)))
    if method == "npo":
        terms = [math.log(1 + math.exp(-beta * rise)) for rise in rises(case)]
        return retain + 2 / beta * sum(terms) / len(terms)
    if method == "rga":
        return retain - math.exp(-c * divergence(case)) * forget + mu * distance(case)
    return retain - forget


def distance(case: Case) -> float:
    """||W - W_base|| + ||b - b_base||."""
    return sum(
        math.sqrt(sum(float(v) ** 2 for v in (ours - base).flatten()))
        for ours, base in zip((case.weight, case.bias), case.base, strict=True)
    )


def gradient(
    case: Case, method: str, beta: float = 1.0, c: float = 2.0, mu: float = 0.05
) -> tuple[Array, Array]:
    """Of `loss` with respect to W and b, the weight of RGA held fixed: d CE / d f = p - onehot."""
    weight, bias = np.zeros_like(case.weight), np.zeros_like(case.bias)
    ascended = forget_weights(case, method, beta, c)
    for data, factors in ((case.retain, [-1.0] * len(case.retain[1])), (case.forget, ascended)):
        for x, y, factor in zip(*data, factors, strict=True):
            slope = probabilities(case.weight, case.bias, x)
            slope[y] -= 1
            weight -= factor / len(factors) * np.outer(slope, x)
            bias -= factor / len(factors) * slope
    if method == "rga":
        weight += mu * direction(case.weight - case.base[0])
        bias += mu * direction(case.bias - case.base[1])
    return weight, bias


def direction(difference: Array) -> Array:
    """The gradient of a 2-norm; 0 at 0."""
    norm = math.sqrt(float((difference**2).sum()))
    return difference / norm if norm > 0 else np.zeros_like(difference)
