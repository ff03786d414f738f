"""Slow, obvious hypergradients: by a dense solve, and computing every iteration anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from theriac.unlearning.methods.hypergradient import Loss


def dense(
    inner: Loss, outer: Loss, parameters: Sequence[Tensor], delta: Tensor, damping: float = 0.0
) -> list[Tensor]:
    """grad outer + (d delta / d parameters)^T grad_delta outer, with the whole Hessian of the inner loss."""
    point = delta.detach().clone().requires_grad_()
    push, *direct = torch.autograd.grad(
        outer(parameters, point), (point, *parameters), materialize_grads=True
    )
    hessian = torch.autograd.functional.hessian(lambda d: inner(parameters, d), point)
    size = point.numel()
    negative = damping * torch.eye(size, dtype=point.dtype) - hessian.reshape(size, size)
    u = torch.linalg.solve(negative, push.flatten())
    (slope,) = torch.autograd.grad(inner(parameters, point), point, create_graph=True)
    total = []
    for parameter, gradient in zip(parameters, direct, strict=True):
        mixed = torch.stack(
            [
                torch.autograd.grad(s, parameter, retain_graph=True, materialize_grads=True)[0].flatten()
                for s in slope.flatten().unbind()
            ]
        )
        total.append(gradient + (mixed.T @ u).reshape(parameter.shape))
    return total


def plain_fixed_point(
    inner: Loss, outer: Loss, parameters: Sequence[Tensor], delta: Tensor, iterations: int, step: float
) -> list[Tensor]:
    """Iterates v <- J^T v + grad_delta outer, J the Jacobian of delta + step * grad inner, from v = 0.

    The map is built anew for every product: a forward and a backward pass each time, and no product is saved
    in the first iteration.
    """
    point = delta.detach().clone().requires_grad_()
    push, *direct = torch.autograd.grad(
        outer(parameters, point), (point, *parameters), materialize_grads=True
    )

    def mapped() -> Tensor:
        (slope,) = torch.autograd.grad(inner(parameters, point), point, create_graph=True)
        return point + step * slope

    v = torch.zeros_like(push)
    for _ in range(iterations):
        (product,) = torch.autograd.grad(mapped(), point, v)
        v = product + push
    indirect = torch.autograd.grad(mapped(), parameters, v, materialize_grads=True)
    return [d + i for d, i in zip(direct, indirect, strict=True)]


def plain_conjugate_gradient(matrix: Tensor, b: Tensor, iterations: int) -> Tensor:
    """The textbook's loop, on a dense matrix."""
    x, r = torch.zeros_like(b), b.clone()
    p = r.clone()
    for _ in range(iterations):
        alpha = (r @ r) / (p @ matrix @ p)
        x = x + alpha * p
        new = r - alpha * matrix @ p
        p = new + (new @ new) / (r @ r) * p
        r = new
    return x
