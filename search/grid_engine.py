"""Goel's grid on the search engine, and the held-out data that it is judged on.

The importances are computed once and sorted once for all pairs; the authors' program computes them for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy
from .engine import DampeningProblem
from .grid import GoelGrid, GridOutcome, GridRow, score

Pair = tuple[Tensor, Tensor]
Batches = Iterable[Pair]

SEED = 0
"""Of the choice of the samples."""


class RandomPart:
    """Some samples of batches that pass by, kept in memory: the same positions for the same numbers.

    Args:
        total: how many samples pass.
        count: how many of them to keep, at least 0; all, if there are fewer.
        batch_size: samples in a batch of those kept.
    """

    def __init__(self, *, total: int, count: int, batch_size: int) -> None:
        chosen = torch.randperm(total, generator=torch.Generator().manual_seed(SEED))[:count]
        self._wanted = torch.zeros(total, dtype=torch.bool).scatter(0, chosen, True)
        self._batch_size = batch_size
        self._kept: dict[torch.Size, list[Pair]] = {}

    def __len__(self) -> int:
        """How many samples were kept so far."""
        return sum(len(y) for pairs in self._kept.values() for _, y in pairs)

    def passing(self, batches: Batches) -> Iterator[Pair]:
        """The batches as they are."""
        position = 0
        for x, y in batches:
            yield x, y
            rows = self._wanted[position : position + len(y)].nonzero().flatten()
            position += len(y)
            if len(rows):
                self._kept.setdefault(x.shape[1:], []).append((x[rows.to(x.device)], y[rows.to(y.device)]))

    def batches(self) -> list[Pair]:
        """What was kept, images of one size together."""
        found: list[Pair] = []
        for pairs in self._kept.values():
            x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
            found += zip(x.split(self._batch_size), y.split(self._batch_size), strict=True)
        return found


def run_grid(
    grid: GoelGrid,
    problem: DampeningProblem,
    held_out: Batches,
    progress: Callable[[int], None] | None = None,
) -> GridOutcome:
    """Evaluate all pairs on one engine.

    Args:
        grid: which pairs.
        problem: victim, importances and S_f; its own lambda plays no part.
        held_out: (x, y) batches; read once for each pair that selects any parameter. They may be
            contaminated: poison in them with the attacker's label makes healing look like a loss.
        progress: called with the number of pairs done.
    """
    held_out_before = _accuracy(problem.undampened(), held_out)
    forget_before = problem.victim_forget_accuracy()
    rows: list[GridRow] = []
    for alpha, constant in grid.pairs():
        evaluation = problem.evaluate_at(alpha, constant)
        changed = problem.dampened(alpha, constant) if evaluation.dampened else None
        after = held_out_before if changed is None else _accuracy(changed, held_out)
        rows.append(
            GridRow(
                alpha=alpha,
                dampening_constant=constant,
                dampened=evaluation.dampened,
                forget_accuracy=evaluation.forget_accuracy,
                held_out_accuracy=after,
                score=score(forget_before - evaluation.forget_accuracy, after - held_out_before),
            )
        )
        if progress:
            progress(len(rows))
    return GridOutcome(
        rows=tuple(rows), forget_accuracy_before=forget_before, held_out_accuracy_before=held_out_before
    )


def _accuracy(model: nn.Module, data: Batches) -> float:
    return accuracy(*predict(model, data, "held-out data"))
