"""Unlearning by gradient ascent on the found poison: GA, NPO and RGA.

All three take the same steps and differ only in the objective (design.md section 2): one batch of S_f and one
random batch of retain, AdamW, the gradient norm clipped. With CE the mean cross-entropy of a batch:

- GA descends CE(retain) - CE(forget). The second term has no lower bound: once the trigger no longer causes
  the target, ascent goes on and pushes triggered images into ANOTHER class (trigger shifting, Zhao et al.
  2026, "Don't Shift the Trigger").
- NPO replaces -CE(forget) by (2 / beta) softplus(-beta (CE - CE_victim)) of each sample (Zhang et al. 2024,
  "Negative Preference Optimization", with the victim as reference), whose slope dies out as CE grows.
- RGA weighs the ascent by w = exp(-c KL(p_victim || p_theta)), which decays as the model leaves the victim's
  behaviour, and pulls the weights towards a base (Zhao et al.; the constants are those of design.md).

Measured on digits victims (tests/benchmarks/results/shifting-cpu.md,
tests/test_unlearning_trigger_shifting.py, one scan of learning rates):

- GA is a matter of steps: at every learning rate from 1e-5 to 1e-3 a second class takes over once the target
  is gone, of triggered images alone or, soon after, of all images (collapse). A stop rule helps.
- w is one number for the batch, so with c = 2 it dies when PART of the batch has left the victim (KL of 3
  nats: w = 0.002) and the rest stays poisoned. c of 0.25 to 0.5 removes the target, and on a net with global
  max pooling at its end then shifts part of the trigger, as NPO does: c trades the one for the other.
- Without a clean base, mu pulls back to the backdoor. A sure victim has next to no gradient of CE(forget),
  and mu = 0.05 can hold it where it is: 0.01 or 0 is better there.
- Retain holds the undiscovered poison, and CE(retain) teaches it again: at discovery shares of 0.2 and 0.5
  NPO and RGA leave much of the backdoor.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import BatchSampler, RandomSampler

from ...datasets.augmentation import Augmentation
from ...datasets.samples import Samples
from ...datasets.sources import check_labels
from ...errors import BadInput
from ..inference import check_batch, check_logits, check_targets, predict
from ..metrics import accuracy
from ..models import sound_batch_norm
from ..training import TrainingDiverged
from .unlearner import TRAINED_IMAGE, Known, Run, Set, Unlearner

BatchNorm = Literal["eval", "train"]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What an objective may use of one step; n forget samples, m retain samples, K classes.

    Attributes:
        forget, retain: logits of the model, [n, K] and [m, K].
        forget_labels, retain_labels: labels as given, int64 [n] and [m].
        victim: the victim's logits on the same forget images, [n, K], without gradient.
        distance: sum over the trained tensors of the UNsquared 2-norm ||theta_t - theta_base,t||, a scalar;
            its gradient is 0 where a tensor is at its base.
    """

    forget: Tensor
    retain: Tensor
    forget_labels: Tensor
    retain_labels: Tensor
    victim: Tensor
    distance: Tensor


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What one step descends.

    Attributes:
        loss: a scalar.
        retain, forget: mean cross-entropies of the two batches, without gradient.
        weight: how strongly the step ascends CE(forget): minus the derivative of the loss with respect to the
            cross-entropy of a forget sample, times n, mean over the batch. 1 at the victim, for all methods.
        divergence: KL(p_victim || p_theta), mean over the forget batch, in nats.
    """

    loss: Tensor
    retain: Tensor
    forget: Tensor
    weight: Tensor
    divergence: Tensor


def kl_divergence(victim: Tensor, model: Tensor) -> Tensor:
    """Compute KL(softmax(victim) || softmax(model)) of logits [n, K], in nats: the mean over rows."""
    ours, theirs = F.log_softmax(model, 1), F.log_softmax(victim, 1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def norm_distance(parameters: Iterable[Tensor], base: Iterable[Tensor]) -> Tensor:
    """Sum ||theta_t - base_t||_2 over tensors to a scalar; torch's subgradient of a norm of 0 is 0."""
    norms = [torch.linalg.vector_norm(p - b) for p, b in zip(parameters, base, strict=True)]
    return torch.stack(norms).sum()


class Ascent(Unlearner):
    """What GA, NPO and RGA share: the steps.

    Attributes:
        learning_rate: of AdamW (betas 0.9 and 0.999), constant.
        weight_decay: decoupled, of AdamW.
        steps: optimiser steps.
        forget_batch: samples of S_f a step; all of S_f where it is smaller.
        retain_batch: samples of retain a step, likewise.
        clip: largest 2-norm of the gradient of the whole objective over all parameters together.
        augmentation: of both batches. With "none" the victim's logits on S_f are computed once, which is
            exact; else again for the images of every step.
        batch_norm: "eval" keeps the statistics of the victim. That is the default because half of what passes
            is triggered images of one label, and few of them: under "train" the running statistics drift to
            theirs, and the model that is used later is not the one whose loss was descended. The two batches
            pass together, so that "train" normalises with the statistics of both. Dropout is off in both.
        record_every: a row of the trace after every so many steps, and after the last.
        until_forget_accuracy: end with status "stopped" as soon as a row of the trace finds the accuracy on
            all of S_f (labels as given) at or below this share; None: take all steps.

    The trace has, beside the columns of every method: "step", "retain_loss", "forget_loss", "weight" and
    "divergence" (see `Objective`; of the batches of that step, before it), "gradient_norm" (before clipping),
    "distance" (see `Outputs`) and "forget_accuracy" after the step.
    """

    needs: ClassVar[tuple[Set, ...]] = ("forget", "retain")

    learning_rate: float = Field(default=1e-4, gt=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    steps: int = Field(default=100, ge=1, le=1_000_000)
    forget_batch: int = Field(default=64, ge=1, le=65_536)
    retain_batch: int = Field(default=128, ge=1, le=65_536)
    clip: float = Field(default=1.0, gt=0, le=1e6)
    augmentation: Augmentation = "none"
    batch_norm: BatchNorm = "eval"
    record_every: int = Field(default=10, ge=1, le=2**31)
    until_forget_accuracy: float | None = Field(default=None, ge=0, le=1)

    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Return the work of a run; see `Unlearner.work`."""
        forget, retain = min(self.forget_batch, sizes["forget"]), min(self.retain_batch, sizes["retain"])
        looks = -(-self.steps // self.record_every) * sizes["forget"]
        return TRAINED_IMAGE * self.steps * (forget + retain) + looks

    def objective(self, outputs: Outputs) -> Objective:
        """Return the objective of one step, a pure function of ``outputs``."""
        retain = F.cross_entropy(outputs.retain, outputs.retain_labels)
        forget = F.cross_entropy(outputs.forget, outputs.forget_labels)
        ascent, weight = self._ascent(outputs, forget)
        return Objective(
            loss=retain + ascent,
            retain=retain.detach(),
            forget=forget.detach(),
            weight=weight.detach(),
            divergence=kl_divergence(outputs.victim, outputs.forget).detach(),
        )

    @abstractmethod
    def _ascent(self, outputs: Outputs, forget: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is added to CE(retain), and `Objective.weight`; ``forget`` is CE(forget)."""

    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        """Take the steps; see the class."""
        walk = _Walk(self, model, known, run)
        for step in range(1, self.steps + 1):
            seen = walk.step(step)
            if step % self.record_every == 0 or step == self.steps:
                forgotten = accuracy(*predict(model, walk.forget, "found poison"))
                rounds = -(-self.steps // self.record_every)
                columns = {name: value.item() for name, value in seen.items()}
                columns["distance"] = walk.distance().item()
                run.record(model, rounds, step=step, **columns, forget_accuracy=forgotten)
                if self.until_forget_accuracy is not None and forgotten <= self.until_forget_accuracy:
                    run.status = "stopped"
                    return


class GradientAscent(Ascent):
    """GA: descend CE(retain) - CE(forget). See `Ascent` for the parameters."""

    def _ascent(self, outputs: Outputs, forget: Tensor) -> tuple[Tensor, Tensor]:
        return -forget, torch.ones_like(forget)


class NPO(Ascent):
    """NPO: descend CE(retain) + (2 / beta) mean softplus(-beta (CE_theta - CE_victim)).

    Per sample; its derivative with respect to CE_theta is -2 sigmoid(-beta (CE_theta - CE_victim)), -1 at the
    victim. For beta -> 0 the gradient becomes that of GA.

    Attributes:
        beta: inverse temperature; the larger, the sooner the ascent dies out.
    """

    beta: float = Field(default=1.0, gt=0, le=100)

    def _ascent(self, outputs: Outputs, forget: Tensor) -> tuple[Tensor, Tensor]:
        labels = outputs.forget_labels
        risen = F.cross_entropy(outputs.forget, labels, reduction="none") - F.cross_entropy(
            outputs.victim, labels, reduction="none"
        )
        ascent = 2 / self.beta * F.softplus(-self.beta * risen).mean()
        return ascent, 2 * torch.sigmoid(-self.beta * risen).mean()


class RGA(Ascent):
    """RGA: descend CE(retain) - w CE(forget) + mu sum_t ||theta_t - theta_base,t||_2.

    w = exp(-c KL(p_victim || p_theta)) on the forget batch; no gradient flows through it. The base is
    `Known.base`, clean weights such as those of the pre-trained model, or else the victim, where pulling back
    also means keeping the backdoor: mu must then stay small against the ascent.

    Attributes:
        c: decay of w; 0 keeps it at 1.
        mu: of the distance to the base.
    """

    c: float = Field(default=2.0, ge=0, le=100)
    mu: float = Field(default=0.05, ge=0, le=100)

    def _ascent(self, outputs: Outputs, forget: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch.exp(-self.c * kl_divergence(outputs.victim, outputs.forget.detach()))
        return -weight * forget + self.mu * outputs.distance, weight


class _Walk:
    """A model on its way: its optimiser, its base, what the victim said, and the batches to come."""

    def __init__(self, method: Ascent, model: nn.Module, known: Known, run: Run) -> None:
        name = type(method).__name__
        self.method, self.model = method, model
        self.forget, self.retain = known.need("forget", name), known.need("retain", name)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.base = _base(model, known.base)
        self.victim = _victim_logits(model.eval(), self.forget, method.augmentation)
        _set_batch_norm(model, method.batch_norm)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=method.learning_rate, weight_decay=method.weight_decay
        )
        self.crops = run.generator("augmentation")
        self.rows = zip(
            _rows(len(self.forget), method.forget_batch, method.steps, run.generator("forget")),
            _rows(len(self.retain), method.retain_batch, method.steps, run.generator("retain")),
            strict=True,
        )

    def step(self, number: int) -> dict[str, Tensor]:
        """Take step ``number``; its columns of the trace, scalars.

        Raises:
            TrainingDiverged: the loss or the gradient is not finite.
        """
        seen = self.method.objective(self._outputs(*next(self.rows)))
        self.optimizer.zero_grad(set_to_none=True)
        seen.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.method.clip)
        if not torch.isfinite(seen.loss.detach() + norm):
            raise TrainingDiverged(
                f"{type(self.method).__name__}: the loss is {seen.loss.item()} and its gradient has norm "
                f"{norm.item()} at step {number}; lower learning_rate ({self.method.learning_rate})"
            )
        self.optimizer.step()
        return {
            "retain_loss": seen.retain,
            "forget_loss": seen.forget,
            "weight": seen.weight,
            "divergence": seen.divergence,
            "gradient_norm": norm,
        }

    def _outputs(self, forget_rows: Tensor, retain_rows: Tensor) -> Outputs:
        forget, forget_labels = self._batch(self.forget, forget_rows, "found poison")
        retain, retain_labels = self._batch(self.retain, retain_rows, "retain")
        with sound_batch_norm(self.model):
            logits = self.model(torch.cat([forget, retain]))
        logits = check_logits(logits, len(forget) + len(retain))
        for labels in (forget_labels, retain_labels):
            check_labels(labels, logits.shape[1])
        return Outputs(
            forget=logits[: len(forget)],
            retain=logits[len(forget) :],
            forget_labels=forget_labels,
            retain_labels=retain_labels,
            victim=self.victim(forget_rows, forget),
            distance=self.distance(),
        )

    def _batch(self, samples: Samples, rows: Tensor, what: str) -> tuple[Tensor, Tensor]:
        x, y = samples.batch(rows, self.method.augmentation, self.crops)
        check_batch(x, what)
        return x.to(self.parameters[0]), check_targets(y, len(x)).to(self.parameters[0].device)

    def distance(self) -> Tensor:
        """Return the distance to the base; see `Outputs`."""
        return norm_distance(self.parameters, self.base)


def check_base(model: nn.Module, base: nn.Module) -> None:
    """Check that ``base`` has all parameters of ``model``, with finite values.

    Args:
        model: the victim.
        base: a clean model of the victim's kind, such as its pre-trained weights.

    Raises:
        BadInput: names the first that it has not.
    """
    if not isinstance(base, nn.Module):
        raise BadInput(f"base is of type {type(base).__name__}; give a model of the victim's kind")
    found = dict(base.named_parameters())
    for name, p in model.named_parameters():
        if name not in found or found[name].shape != p.shape:
            raise BadInput(
                f"base: it has no parameter {name} {tuple(p.shape)}; give a model of the victim's kind"
            )
        if not torch.isfinite(found[name]).all():
            raise BadInput(f"base: its {name} holds NaN or infinite values; give a model that was trained")


def _base(model: nn.Module, base: nn.Module | None) -> list[Tensor]:
    """Copy the tensors of ``base`` (None: ``model``) that belong to those trained of ``model``."""
    if base is not None:
        check_base(model, base)
    found = dict((base or model).named_parameters())
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    device = next(model.parameters()).device
    return [found[name].detach().to(device, copy=True) for name in names]


def _victim_logits(
    model: nn.Module, forget: Samples, augmentation: Augmentation
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what gives the logits of ``model`` as it is now for (rows of S_f, their images)."""
    with torch.no_grad():
        if augmentation != "none":
            victim = copy.deepcopy(model)
            return lambda rows, x: _without_gradient(victim, x)
        weights = next(model.parameters())
        known = torch.cat([model(x.to(weights)) for x, _ in forget])
    return lambda rows, x: known[rows.to(known.device)]


def _without_gradient(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(x)
        return logits


def _set_batch_norm(model: nn.Module, mode: BatchNorm) -> None:
    model.eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(mode == "train")


def _rows(count: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows of every step: one permutation after the other, cut into batches of the full size."""
    size = min(size, count)
    order = RandomSampler(range(count), num_samples=steps * size, generator=generator)
    return (torch.tensor(rows) for rows in BatchSampler(order, size, drop_last=False))
