"""The gradient of an outer loss through the solution of an inner maximisation (Zeng et al., 2022, eqs. 2, 3).

The invariant of this file. ``inner(parameters, delta)`` is what delta MAXIMISES, ``outer(parameters, delta)``
what the parameters minimise; both are scalars, and neither has its sign changed anywhere. At a maximum the
map delta -> delta + step * grad_delta inner has delta as its fixed point, and the implicit function theorem
gives, with A = damping * I - Hessian_delta inner (positive definite at a strict maximum),

    d outer(parameters, delta(parameters)) / d parameters = grad_parameters outer + M u,

where A u = grad_delta outer and M u = grad_parameters <grad_delta inner, u>. No Hessian is ever formed: a
product with A costs one backward pass through the graph of grad_delta inner, which is built once and used
for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Loss = Callable[[Sequence[Tensor], Tensor], Tensor]
"""(parameters, delta) -> scalar. It may close over a model that holds these very parameters."""
Product = Callable[[Tensor], Tensor]


class Solver(BaseModel):
    """How A u = b is solved, b = grad_delta outer; both solvers start from u = 0.

    "fixed_point" (Grazzi et al., 2020) iterates u <- u + step * (b - A u): K iterations take K - 1 products,
    since the first gives step * b. Its error falls as max(1 - step * mu, step * L - 1)^K for eigenvalues
    mu..L of A (Theorem 1), so it needs step < 2 / L; where A has a negative eigenvalue, delta is no maximum
    and the iteration grows slowly in that direction, from step * K * b on, rather than jumping to a pole.

    "conjugate_gradient" takes K products and is exact after as many iterations as there are distinct
    eigenvalues, but only where A is positive definite. It stops before the first direction of negative
    curvature, as the truncated Newton method does, keeps what it has solved by then (0 if it was the first
    direction) and says so. Enough ``damping`` makes A positive definite.

    Attributes:
        name: which of the two.
        iterations: K; 0 leaves the indirect term out: u = 0, no inner loss is computed.
        step: of the fixed-point map, in units of delta^2 per unit of loss.
        damping: added to the diagonal of A, as if the inner loss had -damping/2 ||delta - delta*||^2.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["fixed_point", "conjugate_gradient"] = "fixed_point"
    iterations: int = Field(default=5, ge=0, le=2**31)
    step: float = Field(default=0.1, gt=0)
    damping: float = Field(default=0.0, ge=0)


@dataclass(frozen=True, kw_only=True)
class Solution:
    """An approximate solution of A u = b.

    Attributes:
        u: of the shape of delta, in units of delta^2 per unit of loss times those of b.
        residual: ||b - A u'|| / ||b||, a scalar: u' is u (conjugate_gradient), or the iterate before u
            (fixed_point, where the residual of u would cost one more product); above 1 it diverges. 1 where
            nothing was solved.
        products: products with A that it took.
        indefinite: conjugate_gradient met a direction d with <d, A d> <= 0 and stopped there.
    """

    u: Tensor
    residual: Tensor
    products: int
    indefinite: bool = False


@dataclass(frozen=True, kw_only=True)
class Hypergradient:
    """What `hypergradient` found; detached tensors.

    Attributes:
        gradient: direct + indirect, one tensor a parameter; what a descent step subtracts.
        direct_norm: Euclidean norm of grad_parameters outer over all parameters, a scalar.
        indirect_norm: that of M u.
        outer_loss: at delta.
        inner_loss: at delta; nan where ``iterations`` is 0.
        solution: of A u = grad_delta outer.
    """

    gradient: tuple[Tensor, ...]
    direct_norm: Tensor
    indirect_norm: Tensor
    outer_loss: Tensor
    inner_loss: Tensor
    solution: Solution


def hypergradient(
    inner: Loss, outer: Loss, parameters: Sequence[Tensor], delta: Tensor, solver: Solver
) -> Hypergradient:
    """Compute the implicit hypergradient at ``delta``, a maximum of ``inner`` or only on the way to one.

    It costs, for one pass over a batch each: outer forward + backward, inner forward + backward in delta,
    ``products`` Hessian-vector products in delta, one mixed derivative. Random layers (dropout) must draw
    nothing between: each loss is evaluated once.

    Args:
        inner: delta maximises it; twice differentiable in delta wherever it is evaluated.
        outer: the parameters minimise it.
        parameters: leaves that require gradients; one that a loss does not use has gradient 0.
        delta: any shape; not changed.
        solver: see `Solver`.
    """
    point = delta.detach().clone().requires_grad_()
    outer_loss = outer(parameters, point)
    push, *direct = _gradients(outer_loss, (point, *parameters))
    if not solver.iterations:
        return _sum(direct, None, outer_loss, outer_loss.new_tensor(torch.nan), _nothing(push))
    inner_loss = inner(parameters, point)
    (slope,) = _gradients(inner_loss, (point,), create_graph=True)
    solution = solve(lambda d: solver.damping * d - _product(slope, point, d), push, solver)
    indirect = _gradients(slope, parameters, solution.u) if slope.requires_grad else None
    return _sum(direct, indirect, outer_loss, inner_loss, solution)


def solve(product: Product, b: Tensor, solver: Solver) -> Solution:
    """Solve A u = b, approximately, from products with a symmetric A alone; see `Solver`."""
    if not solver.iterations or not bool(b.any()):
        return _nothing(b)
    return _SOLVERS[solver.name](product, b, solver)


def _fixed_point(product: Product, b: Tensor, solver: Solver) -> Solution:
    """Sum step * (I - step A)^k b over k; the terms are the residuals, times step."""
    residual, total = b, b
    for _ in range(solver.iterations - 1):
        residual = residual - solver.step * product(residual)
        total = total + residual
    return Solution(
        u=solver.step * total, residual=residual.norm() / b.norm(), products=solver.iterations - 1
    )


def _conjugate_gradient(product: Product, b: Tensor, solver: Solver) -> Solution:
    u, residual, direction = torch.zeros_like(b), b, b
    square, first, done = b.pow(2).sum(), b.pow(2).sum(), 0
    indefinite = False
    tiny = torch.finfo(b.dtype).eps ** 2
    while done < solver.iterations and square > tiny * first:
        image, done = product(direction), done + 1
        bend = (direction * image).sum()
        if bend <= 0:
            indefinite = True
            break
        u = u + square / bend * direction
        residual = residual - square / bend * image
        previous, square = square, residual.pow(2).sum()
        direction = residual + square / previous * direction
    return Solution(u=u, residual=(square / first).sqrt(), products=done, indefinite=indefinite)


_SOLVERS: dict[str, Callable[[Product, Tensor, Solver], Solution]] = {
    "fixed_point": _fixed_point,
    "conjugate_gradient": _conjugate_gradient,
}


def _nothing(b: Tensor) -> Solution:
    return Solution(
        u=torch.zeros_like(b), residual=torch.ones((), dtype=b.dtype, device=b.device), products=0
    )


def _gradients(
    of: Tensor, by: Sequence[Tensor], weights: Tensor | None = None, *, create_graph: bool = False
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(of, by, weights, create_graph=create_graph, materialize_grads=True)


def _product(slope: Tensor, point: Tensor, direction: Tensor) -> Tensor:
    """Multiply Hessian_delta inner by ``direction``; 0 where the inner loss is linear in delta."""
    if not slope.requires_grad:
        return torch.zeros_like(direction)
    (image,) = torch.autograd.grad(slope, point, direction, retain_graph=True, materialize_grads=True)
    return image


def _sum(
    direct: Sequence[Tensor],
    indirect: Sequence[Tensor] | None,
    outer_loss: Tensor,
    inner_loss: Tensor,
    solution: Solution,
) -> Hypergradient:
    zero = torch.zeros_like(outer_loss.detach())
    total = direct if indirect is None else [d + i for d, i in zip(direct, indirect, strict=True)]
    return Hypergradient(
        gradient=tuple(total),
        direct_norm=_norm(direct),
        indirect_norm=zero if indirect is None else _norm(indirect),
        outer_loss=outer_loss.detach(),
        inner_loss=inner_loss.detach(),
        solution=solution,
    )


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    total: Tensor = torch.stack([t.norm() for t in tensors]).norm()
    return total
