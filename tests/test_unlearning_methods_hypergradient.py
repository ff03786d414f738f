"""The implicit hypergradient against a dense solve, finite differences, and the plain iteration."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from theriac.tests import reference_ibau
from theriac.unlearning.methods.hypergradient import Hypergradient, Solver, hypergradient, solve

SIZE = 6


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


class Concave:
    """An inner loss strongly concave in delta and an outer loss of a network of 50 parameters, float64."""

    def __init__(self, seed: int = 0, curvature: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(8, SIZE, generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 2, (8,), generator=generator)
        shapes = ((5, SIZE), (5,), (2, 5), (2,), (3,))
        self.parameters = tuple(
            torch.randn(shape, generator=generator, dtype=torch.float64).mul_(0.5).requires_grad_()
            for shape in shapes
        )
        assert sum(p.numel() for p in self.parameters) == 50
        self.curvature = curvature

    def logits(self, p: Sequence[Tensor], delta: Tensor) -> Tensor:
        return torch.tanh((self.x + delta) @ p[0].T + p[1]) @ p[2].T + p[3]

    def inner(self, p: Sequence[Tensor], delta: Tensor) -> Tensor:
        well = self.curvature * (1 + p[4].pow(2).sum()) * delta.pow(2).sum()
        return 0.3 * F.cross_entropy(self.logits(p, delta), self.y) - well + p[4].sum() * delta.sum()

    def outer(self, p: Sequence[Tensor], delta: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(p, delta), self.y) + 0.01 * p[3].sum()

    def maximum(self, p: Sequence[Tensor]) -> Tensor:
        """delta(parameters), by Newton's method."""
        delta = torch.zeros(SIZE, dtype=torch.float64)
        for _ in range(30):
            slope = torch.autograd.functional.jacobian(lambda d: self.inner(p, d), delta)
            hessian = torch.autograd.functional.hessian(lambda d: self.inner(p, d), delta)
            delta = delta - torch.linalg.solve(hessian, slope)
        return delta

    def solved(self, solver: Solver, delta: Tensor | None = None) -> Hypergradient:
        where = self.maximum(self.parameters) if delta is None else delta
        return hypergradient(self.inner, self.outer, self.parameters, where, solver)


EXACT = (Solver(iterations=400, step=0.2), Solver(name="conjugate_gradient", iterations=SIZE))


@pytest.mark.parametrize("solver", EXACT, ids=lambda s: s.name)
@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_dense_solve(solver: Solver, damping: float, seed: int) -> None:
    problem = Concave(seed)
    generator = torch.Generator().manual_seed(seed)
    delta = torch.randn(SIZE, generator=generator, dtype=torch.float64)  # no maximum is needed for this
    found = problem.solved(solver.model_copy(update={"damping": damping}), delta)
    expected = reference_ibau.dense(problem.inner, problem.outer, problem.parameters, delta, damping)
    torch.testing.assert_close(flat(found.gradient), flat(expected), rtol=1e-9, atol=1e-11)
    assert found.solution.residual < 1e-9
    assert found.indirect_norm > 1e-3 * found.direct_norm  # else the comparison would say nothing


@pytest.mark.parametrize("solver", EXACT, ids=lambda s: s.name)
def test_finite_differences_of_the_solved_inner_problem(solver: Solver) -> None:
    problem = Concave()
    found = flat(problem.solved(solver).gradient)
    shapes = [p.shape for p in problem.parameters]
    start, step = flat(problem.parameters).detach(), 1e-5

    def value(weights: Tensor) -> float:
        pieces = weights.split([s.numel() for s in shapes])
        p = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return float(problem.outer(p, problem.maximum(p)))

    for i in range(0, len(start), 3):
        one = torch.zeros_like(start)
        one[i] = step
        assert found[i].item() == pytest.approx(
            (value(start + one) - value(start - one)) / (2 * step), abs=1e-8
        )


@pytest.mark.parametrize("step", [0.05, 0.2])
def test_the_error_falls_with_iterations_as_theorem_1_says(step: float) -> None:
    problem = Concave()
    delta = problem.maximum(problem.parameters)
    exact = flat(reference_ibau.dense(problem.inner, problem.outer, problem.parameters, delta))
    counts = (1, 2, 4, 8, 16)
    errors = [
        (flat(problem.solved(Solver(iterations=k, step=step), delta).gradient) - exact).norm().item()
        for k in counts
    ]
    a = -torch.autograd.functional.hessian(lambda d: problem.inner(problem.parameters, d), delta)
    eigenvalues = torch.linalg.eigvalsh(a)
    rate = max(1 - step * eigenvalues[0].item(), step * eigenvalues[-1].item() - 1)
    assert 0 < rate < 1
    for (k, error), (j, later) in zip(
        zip(counts, errors, strict=True), zip(counts[1:], errors[1:], strict=True), strict=False
    ):
        assert later <= 1.5 * error * rate ** (j - k), (k, j)
    assert errors[-1] < 0.6 * errors[0]


def test_a_worse_maximum_gives_a_worse_hypergradient() -> None:
    """Theorem 1's other term: the error follows ||delta_t - delta(theta)||."""
    problem = Concave()
    maximum = problem.maximum(problem.parameters)
    exact = flat(problem.solved(EXACT[1], maximum).gradient)
    away = torch.randn(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    errors = [
        (flat(problem.solved(EXACT[1], maximum + t * away).gradient) - exact).norm() for t in (0.1, 0.01)
    ]
    assert errors[0] > 5 * errors[1] > 0


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_the_plain_iteration(iterations: int) -> None:
    problem = Concave()
    delta = torch.full((SIZE,), 0.3, dtype=torch.float64)
    found = problem.solved(Solver(iterations=iterations, step=0.1), delta)
    slow = reference_ibau.plain_fixed_point(
        problem.inner, problem.outer, problem.parameters, delta, iterations, 0.1
    )
    torch.testing.assert_close(flat(found.gradient), flat(slow), rtol=1e-12, atol=1e-13)
    assert found.solution.products == iterations - 1


def test_no_iterations_are_the_direct_gradient() -> None:
    problem = Concave()
    delta = torch.full((SIZE,), 0.3, dtype=torch.float64)
    found = problem.solved(Solver(iterations=0), delta)
    expected = torch.autograd.grad(
        problem.outer(problem.parameters, delta), problem.parameters, materialize_grads=True
    )
    torch.testing.assert_close(flat(found.gradient), flat(expected))
    assert found.indirect_norm == 0
    assert found.inner_loss.isnan()


def test_a_step_that_is_too_long_shows_in_the_residual() -> None:
    assert Concave().solved(Solver(iterations=8, step=2.0)).solution.residual > 10


def test_conjugate_gradient_is_the_textbooks() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    matrix, b = (
        root @ root.T + torch.eye(9, dtype=torch.float64),
        torch.randn(9, generator=generator).double(),
    )
    for iterations in (1, 3, 9):
        found = solve(lambda v: matrix @ v, b, Solver(name="conjugate_gradient", iterations=iterations))
        slow = reference_ibau.plain_conjugate_gradient(matrix, b, iterations)
        torch.testing.assert_close(found.u, slow, rtol=1e-8, atol=1e-12)
        residual = (b - matrix @ found.u).norm() / b.norm()
        assert found.residual.item() == pytest.approx(residual.item(), rel=1e-4, abs=1e-10)


def test_conjugate_gradient_stops_at_negative_curvature_and_says_so() -> None:
    matrix = torch.diag(torch.tensor([4.0, 1.0, -2.0], dtype=torch.float64))
    solver = Solver(name="conjugate_gradient", iterations=10)
    found = solve(lambda v: matrix @ v, torch.tensor([1.0, 1.0, 1.0]).double(), solver)
    assert found.indefinite
    assert found.products == 2
    assert found.u.norm() > 0
    assert found.u @ matrix @ found.u > 0
    at_once = solve(lambda v: matrix @ v, torch.tensor([0.0, 0.1, 1.0]).double(), solver)
    assert (at_once.indefinite, at_once.products) == (True, 1)
    assert not at_once.u.any()


def test_damping_makes_an_indefinite_problem_solvable() -> None:
    problem = Concave(curvature=-0.5)  # delta is driven from a minimum: the inner loss is convex
    delta = torch.full((SIZE,), 0.1, dtype=torch.float64)
    solver = Solver(name="conjugate_gradient", iterations=SIZE)
    assert problem.solved(solver, delta).solution.indefinite
    damped = problem.solved(solver.model_copy(update={"damping": 20.0}), delta)
    assert not damped.solution.indefinite
    expected = reference_ibau.dense(problem.inner, problem.outer, problem.parameters, delta, 20.0)
    torch.testing.assert_close(flat(damped.gradient), flat(expected), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["fixed_point", "conjugate_gradient"])
def test_losses_that_do_not_meet(name: str) -> None:
    """An inner loss linear in delta, an outer loss without delta, and a parameter that nothing uses."""
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    delta = torch.zeros(2)
    solver = Solver.model_validate({"name": name, "iterations": 3})
    linear = hypergradient(
        lambda p, d: d.sum(), lambda p, d: ((p[0] + d) ** 2).sum(), (used, unused), delta, solver
    )
    assert linear.gradient[0].tolist() == [2.0, 2.0]
    assert linear.gradient[1].tolist() == [0.0, 0.0, 0.0]
    apart = hypergradient(
        lambda p, d: -(d * p[0]).pow(2).sum(), lambda p, d: (p[0] ** 2).sum(), (used, unused), delta, solver
    )
    assert apart.gradient[0].tolist() == [2.0, 2.0]
    assert not apart.solution.u.any()


def test_a_model_that_holds_its_parameters() -> None:
    """Closures over a module give what functional calls give; neither it nor delta is changed."""
    model = nn.Sequential(nn.Linear(SIZE, 4), nn.ELU(), nn.Linear(4, 2)).double()
    parameters, names = tuple(model.parameters()), [n for n, _ in model.named_parameters()]
    before, x = [p.detach().clone() for p in parameters], torch.randn(5, SIZE).double()
    delta = torch.randn(SIZE).double()

    def called(p: Sequence[Tensor], d: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, p, strict=True)), (x + d,)).pow(2).mean()

    def held(_: Sequence[Tensor], d: Tensor) -> Tensor:
        return model(x + d).pow(2).mean()

    one, other = (hypergradient(f, f, parameters, delta, Solver()) for f in (called, held))
    torch.testing.assert_close(flat(one.gradient), flat(other.gradient))
    assert all(torch.equal(b, p) and p.grad is None for b, p in zip(before, parameters, strict=True))
    assert not delta.requires_grad


@pytest.mark.parametrize(
    "bad", [{"name": "newton"}, {"iterations": -1}, {"step": 0.0}, {"damping": -1.0}, {"steps": 1}]
)
def test_settings_out_of_range(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Solver.model_validate(bad)
