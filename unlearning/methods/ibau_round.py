"""A round of I-BAU: deltas, outer steps, and what can be seen of their effect without knowing the truth."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import nullcontext
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.samples import Samples
from ...rows import Row
from ..inference import Batch
from ..training import TrainingDiverged
from .double_backward import cheap_double_backward, twice_differentiable
from .hypergradient import Hypergradient, hypergradient
from .ibau_settings import IBAUSettings
from .universal_perturbation import Ascent, Pixels, accuracy_under, ascend, attacked, inner_loss
from .unlearner import Run

PROBE_BATCH = 500


class Session:
    """The state of a run of `IBAU`: model, optimiser, random streams, and the delta of the moment.

    Args:
        settings: see `IBAU`.
        model: trained in place; all its parameters require gradients.
        clean: images and true labels.
        run: whose streams are drawn from.
    """

    def __init__(self, settings: IBAUSettings, model: nn.Module, clean: Samples, run: Run) -> None:
        self._settings, self._model, self._clean = settings, model.eval(), clean
        self._parameters = tuple(model.parameters())
        self._victim = copy.deepcopy(model) if settings.distillation else None
        self._optimizer = _optimizer(settings, self._parameters)
        self._order, self._draws = run.generator("batches"), run.generator("patched")
        self._crops = run.generator("augmentation")
        self._pixels = Pixels.of(clean.mean, clean.std, settings.clamp, self._parameters[0])
        self._rows = self._shuffled()
        self._steps = settings.rounds * (settings.batches or -(-len(clean) // settings.batch_size))
        self._steps_done = 0
        self._probe = list(self._batches(self._rows[: settings.probe or None], PROBE_BATCH))
        self._ascend(settings.perturbations)
        self._victim_accuracy = accuracy_under(model, self._probe, None, self._pixels)
        self.victim_recovered = self._recovered(self._victim_accuracy)

    def round(self) -> Row:
        """Take the steps of a round; a row of what the method itself sees, measured after it.

        "inner_loss", "delta_norm": of the round's deltas, before the last projection, means. "outer_loss",
        "direct_norm", "indirect_norm", "residual": means over the batches, see `Hypergradient`. "clean":
        accuracy on the probe; "damage": its change against the victim, percentage points; "attacked":
        accuracy under the round's deltas; "fresh": under deltas found anew; "recovered": "fresh" by "clean".
        """
        self._rows = self._shuffled()
        columns: Row = {"inner_loss": self._inner, "delta_norm": self._norm}
        found = [self._step(rows) for rows in self._outer_batches()]
        return columns | _means(found) | self._effect()

    def _outer_batches(self) -> list[Tensor]:
        size = self._settings.batch_size
        parts = list(self._rows.split(size))
        count = self._settings.batches or len(parts)
        while len(parts) < count:
            parts += self._shuffled().split(size)
        return parts[:count]

    def _effect(self) -> Row:
        clean = accuracy_under(self._model, self._probe, None, self._pixels)
        under = accuracy_under(self._model, self._probe, self._delta, self._pixels)
        last = self._steps_done == self._steps
        self._ascend(1 if last else self._settings.perturbations)
        recovered = self._recovered(clean)
        return {
            "clean": clean,
            "damage": 100.0 * (clean - self._victim_accuracy),
            "attacked": under,
            "fresh": recovered * clean,
            "recovered": recovered,
        }

    def _recovered(self, clean: float) -> float:
        return accuracy_under(self._model, self._probe, self._delta, self._pixels) / clean if clean else 0.0

    def _shuffled(self) -> Tensor:
        count = len(self._clean)
        if not self._settings.shuffle:
            return torch.arange(count)
        return torch.randperm(count, generator=self._order)

    def _batches(self, rows: Tensor, size: int) -> Iterator[Batch]:
        return (self._clean.batch(part) for part in rows.split(size))

    def _ascend(self, count: int) -> None:
        """Find ``count`` deltas for the model as it is, each from batches of its own."""
        found = [ascend(self._model.eval(), *self._ascent()) for _ in range(count)]
        self._delta = torch.cat([delta for delta, _, _ in found])
        self._norm, self._inner = fmean(n for _, n, _ in found), fmean(loss for _, _, loss in found)

    def _ascent(self) -> tuple[list[Batch], Ascent, Pixels]:
        rows, steps = self._shuffled(), self._settings.inner_steps
        rows = rows if steps is None else rows[: steps * self._settings.batch_size]
        batches = list(self._batches(rows, self._settings.batch_size))
        return batches, self._settings.ascent, self._pixels

    def _step(self, rows: Tensor) -> Hypergradient:
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        twice = twice_differentiable() if self._settings.iterations else nullcontext()
        with cheap_double_backward(self._model), twice:
            found = hypergradient(
                lambda _, delta: self._inner_loss(rows, delta),
                lambda _, delta: self._outer_loss(rows, delta),
                self._parameters,
                self._delta,
                self._settings.linear_solver,
            )
        for parameter, gradient in zip(self._parameters, found.gradient, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        self._steps_done += 1
        return found

    def _learning_rate(self) -> float:
        share = self._steps_done / self._steps
        factors = {"constant": 1.0, "linear": 1.0 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}
        return self._settings.learning_rate * factors[self._settings.schedule]

    def _inner_loss(self, rows: Tensor, delta: Tensor) -> Tensor:
        settings = self._settings
        size = settings.batch_size
        rows = {"first": self._rows[:size], "each": rows, "all": self._rows}[settings.inner_batch]
        batch = attacked(self._model.eval(), self._clean.batch(rows), settings.inner_labels)
        return inner_loss(self._model, batch, delta, self._pixels, settings.inner_penalty)

    def _outer_loss(self, rows: Tensor, delta: Tensor) -> Tensor:
        settings = self._settings
        x, y = self._clean.batch(rows, settings.augmentation, self._crops)
        chosen = self._patched(len(x)).to(x.device)
        images = torch.where(chosen.view(-1, 1, 1, 1), self._pixels.add(x, self._drawn(delta, len(x))), x)
        logits = self._model.train(settings.mode == "train")(images)
        loss = self._labelled(logits, y, chosen)
        if self._victim is None or bool(chosen.all()):
            return loss
        with torch.no_grad():
            soft = self._victim(x[~chosen]).softmax(1)
        kept = F.cross_entropy(logits[~chosen], soft)
        return (1 - settings.distillation) * loss + settings.distillation * kept

    def _labelled(self, logits: Tensor, y: Tensor, chosen: Tensor) -> Tensor:
        """Compute the mean cross-entropy of a batch whose ``chosen`` images weigh no more than they may."""
        losses = F.cross_entropy(logits, y, reduction="none")
        if self._settings.largest is None or not bool(chosen.any()):
            return losses.mean()
        excess = (losses.detach()[chosen].mean() / self._settings.largest).clamp_min(1.0)
        return torch.where(chosen, losses / excess, losses).mean()

    def _drawn(self, delta: Tensor, count: int) -> Tensor:
        """Draw one of the deltas for each of ``count`` images, times its factor."""
        which = torch.randint(len(delta), (count,), generator=self._draws)
        factors = torch.rand(count, generator=self._draws) * (1 - self._settings.weakest)
        factors = (self._settings.weakest + factors).to(delta)
        return factors.view(-1, 1, 1, 1) * delta[which.to(delta.device)]

    def _patched(self, count: int) -> Tensor:
        """Draw which images of a batch carry delta, bool [count]."""
        share = self._settings.patched
        chosen = torch.zeros(count, dtype=torch.bool)
        if share:
            rows = torch.randperm(count, generator=self._draws)[: max(1, round(share * count))]
            chosen[rows] = True
        return chosen


def _optimizer(settings: IBAUSettings, parameters: tuple[nn.Parameter, ...]) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate)
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)


def _means(found: list[Hypergradient]) -> Row:
    row: Row = {
        "outer_loss": fmean(float(f.outer_loss) for f in found),
        "direct_norm": fmean(float(f.direct_norm) for f in found),
        "indirect_norm": fmean(float(f.indirect_norm) for f in found),
        "residual": fmean(float(f.solution.residual) for f in found),
        "indefinite": sum(f.solution.indefinite for f in found),
    }
    if not math.isfinite(row["outer_loss"]):
        raise TrainingDiverged(
            f"the outer loss of I-BAU is {row['outer_loss']}; lower learning_rate or bound, "
            f"or raise distillation"
        )
    return row
