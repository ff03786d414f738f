"""How sensitive a model is to each of its parameters, averaged over a set of samples.

With f(x) the logits of a sample, its sensitivity to parameter i is
    fim   (d CE(f(x), y) / d theta_i)^2         Selective Synaptic Dampening: the Fisher diagonal
    lf    |d ||f(x)||_2^2 / d theta_i|          Potion eq. 3
    xlf   |d ||f(x)||_2^w / d theta_i|, w = 1   Potion eq. 4
The model is in eval mode, the arithmetic at least float32 unless asked otherwise, and all named parameters
take part.

Granularity "sample" averages the sensitivities of single samples, as the papers write. Granularity "batch"
averages those of batch means (the gradient of the mean loss of a batch), as the authors' programs do; the
boundaries of the batches are then part of the result, and a short last batch weighs as much as a full one.
They are different methods. Published numbers need "batch" with batches of 512.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from ...errors import BadInput
from ..inference import evaluating
from ..kinds import GRANULARITIES, KINDS, Granularity, Kind, Precision
from ..precision import no_tf32
from .batch import BatchSums
from .identity import DataIdentity, model_identity
from .sample import SampleSums
from .sensitivities import Sensitivity
from .sums import Importance
from .working_model import WorkingModel

__all__ = ["KINDS", "Granularity", "Importance", "Kind", "estimate_importance", "estimate_importances"]


def estimate_importance(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    kind: Kind = "xlf",
    granularity: Granularity = "sample",
    exponent: float | None = None,
    chunk_size: int | None = None,
    precision: Precision = "float32",
    progress: Callable[[int], None] | None = None,
) -> Importance:
    """Estimate the importances of all named parameters over ``batches``; see `estimate_importances`.

    Args:
        model: returns logits [N, classes].
        batches: (x, y) batches.
        kind: "fim", "lf" or "xlf".
        granularity: "sample" or "batch".
        exponent: the power w of the norm for "xlf" (default 1, in (0, 16]); not for the other kinds.
        chunk_size: samples at once.
        precision: "float32", "bfloat16" or "float16".
        progress: called with the number of samples done.

    Example:
        >>> import torch
        >>> model, batch = torch.nn.Linear(4, 3), (torch.ones(8, 4), torch.zeros(8, dtype=torch.int64))
        >>> importance = estimate_importance(model, [batch], kind="fim")
        >>> importance.count, tuple(importance.mean()["weight"].shape)
        (8, (3, 4))
    """
    found = estimate_importances(
        model,
        batches,
        kinds=(kind,),
        granularity=granularity,
        exponent=exponent,
        chunk_size=chunk_size,
        precision=precision,
        progress=progress,
    )
    return found[kind]


def estimate_importances(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    kinds: Sequence[Kind],
    granularity: Granularity = "sample",
    exponent: float | None = None,
    chunk_size: int | None = None,
    precision: Precision = "float32",
    progress: Callable[[int], None] | None = None,
) -> dict[Kind, Importance]:
    """Estimate several kinds of importance over one reading of ``batches``.

    With granularity "sample", lf and xlf (of any exponent) share a forward and a backward pass, and fim takes
    others; with "batch" all share a forward pass, and each takes a backward pass.

    Args:
        model: returns logits [N, classes]; left exactly as it was.
        batches: (x, y) with y int64 [N] (only "fim" looks at the numbers), in a fixed order, not augmented.
            Empty batches are passed over.
        kinds: one or more of "fim", "lf" and "xlf".
        granularity: see the module.
        exponent: the power w of the norm for "xlf" (default 1, in (0, 16]).
        chunk_size: samples that are worked on at once; only rounding depends on it. Default: for "sample"
            what a constant budget allows a model of this size (see `chunks`), at most 512; for "batch" the
            whole batch. Neither depends on the memory that is free. Halved when memory runs out, which is
            warned of and noted in `Importance.reduced_to`.
        precision: "float32" means at least that. "bfloat16" and "float16" run forward and backward passes
            under autocast; weights, losses and sums keep float32. On a trained ResNet-9
            (CIFAR-10, width 0.375, 512 and 64 images) "bfloat16" changed the larger half of the lf and xlf by
            0.3 % (median; 99th percentile 1.3 %), the fim by 1 % (8 %), and of the 0.1 % highest ratios of
            "sample" 96 to 99 % stayed; do not use it with "batch" on few batches, whose highest ratios are
            near-zero sums over signs: only 2 to 14 % of those stayed (with 98 batches of 512 it stopped where
            "float32" did).
        progress: called with the number of samples done.

    Returns:
        Kind -> sums over samples (or batches) with their count, on the model's device. Where the norm is 0,
        its gradient counts as 0.

    Raises:
        BadInput: no samples, unknown kind or granularity, values that are not finite, labels out of range,
            a precision that the device or the weights do not allow, a model that returns no logits, cuts
            their gradient or cannot be put in eval mode, or memory too small for one sample.
    """
    sensitivities = [Sensitivity(kind, _power(kind, exponent)) for kind in _checked(kinds, granularity)]
    if exponent is not None and not any(map(_takes_exponent, kinds)):
        raise BadInput(
            f"exponent {exponent} with {', '.join(map(repr, kinds))}: only "
            f"{' and '.join(filter(_takes_exponent, KINDS))} takes an exponent; leave it out"
        )
    if chunk_size is not None and chunk_size < 1:
        raise BadInput(f"chunk_size {chunk_size}: give a whole number of samples, 1 or more")
    working = WorkingModel(model, precision, granularity=granularity)
    device = working.device
    # whatever is on around us
    with evaluating(model), torch.autocast(device.type, enabled=False), no_tf32(device):
        sums = _Reading(working, sensitivities, granularity, chunk_size)
        done = 0
        for x, y in batches:
            if len(x):
                sums.add(x, y)
            done += len(x)
            if progress:
                progress(done)
    return sums.result(granularity)


def _checked(kinds: Sequence[Kind], granularity: str) -> list[Kind]:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        named = repr(unknown[0]) if unknown else "(none given)"
        raise BadInput(f"unknown importance {named}; choose from {', '.join(KINDS)}")
    if granularity not in GRANULARITIES:
        raise BadInput(f"unknown granularity {granularity!r}; choose from {', '.join(GRANULARITIES)}")
    return list(dict.fromkeys(kinds))


def _takes_exponent(kind: Kind) -> bool:
    return KINDS[kind].loss == "norm"


def _power(kind: Kind, exponent: float | None) -> float | None:
    if exponent is None or not _takes_exponent(kind):
        return None
    if not 0 < exponent <= 16:
        raise BadInput(f"exponent {exponent}: give {kind} a number in (0, 16]")
    return float(exponent)


class _Reading:
    """The running sums of all kinds, whatever the granularity."""

    def __init__(
        self,
        model: WorkingModel,
        sensitivities: list[Sensitivity],
        granularity: Granularity,
        chunk_size: int | None,
    ) -> None:
        self.model, self.sensitivities = model, sensitivities
        self.data = DataIdentity(batches=granularity == "batch")
        kind_of_sums = SampleSums if granularity == "sample" else BatchSums
        self.sums = kind_of_sums(model, sensitivities, chunk_size)

    def add(self, x: Tensor, y: Tensor) -> None:
        labels_count = any(s.labels_count for s in self.sensitivities)
        x, y = self.model.accept(x, y, check_numbers=labels_count)
        self.data.add(x, y)
        self.sums.add(self.model.arranged(x), y)

    def result(self, granularity: Granularity) -> dict[Kind, Importance]:
        totals, count = self.sums.totals, self.sums.count
        if not count:
            raise BadInput("importances of an empty set; give at least one sample")
        model = model_identity({**self.model.parameters, **self.model.buffers})
        return {
            s.kind: Importance(
                total=_finite(total, s.kind, self.model.arithmetic.precision),
                count=count,
                kind=s.kind,
                granularity=granularity,
                exponent=None if s.power == 1.0 else s.power,
                precision=self.model.arithmetic.precision,
                model=model,
                data=self.data.number,
                reduced_to=self.sums.chunk.reduced_to,
            )
            for s, total in zip(self.sensitivities, totals, strict=True)
        }


def _finite(total: dict[str, Tensor], kind: Kind, precision: Precision) -> dict[str, Tensor]:
    for name, value in total.items():
        if not torch.isfinite(value).all():
            remedy = (
                "gradients overflow float16; use precision 'bfloat16' or 'float32'"
                if precision == "float16"
                else "check the weights and the images"
            )
            raise BadInput(f"the {kind} importance of {name!r} is not finite; {remedy}")
    return total
