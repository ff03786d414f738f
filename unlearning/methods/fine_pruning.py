"""Fine-Pruning (Liu et al., 2018): prune what is dormant on clean images, then fine-tune."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from ...datasets.samples import Samples, split
from ...errors import BadInput
from ...rows import Row
from ..inference import predict
from ..metrics import accuracy
from .feature_maps import Convolution, last_convolution
from .fine_tuning import CleanFineTuning, fine_tune
from .unlearner import Known, Run, Set


class FinePruning(CleanFineTuning):
    """Prune channels of the last convolution, least active first, and fine-tune on the clean images.

    Channels are pruned in rounds until the accuracy on held clean images has fallen by more than
    ``accuracy_drop``; the round that went too far is taken back. Pruned channels, and their scale and shift
    in the BatchNorm behind them, stay 0 during fine-tuning. A channel's activity is the mean positive part of
    what the rest of the model sees of it (behind BatchNorm and activation where these follow as modules): the
    mean activation of the paper for ReLU, while negative constants, as ELU has them, do not make a dormant
    channel look active.

    `accuracy_drop` and `held` are those of the I-BAU paper (appendix A.4.2: 20 %, and 1000 of 5000 images);
    Liu et al. prune until the accuracy falls by 4 points. The defaults of fine-tuning are ours.

    Attributes:
        accuracy_drop: by how much the held accuracy may fall, as a share (0.2 = 20 points).
        held: share of the clean images that watch the accuracy; the others find the activity and fine-tune.
        pruned_per_round: share of the channels pruned at once; at least one channel.
        layer: name of another convolution to prune.

    Rows of the trace carry "phase" ("pruning", then "fine_tuning"), "channels_pruned", "channels" and
    "held_accuracy"; those of fine-tuning "loss". The last row of pruning is the one that went too far, if any
    did; one channel always stays.
    """

    accuracy_drop: float = Field(default=0.2, ge=0, le=1)
    held: float = Field(default=0.2, gt=0, lt=1)
    pruned_per_round: float = Field(default=1 / 32, gt=0, le=1)
    layer: str | None = None

    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Return the work of a run with all rounds of pruning, some of which may not be needed.

        See `Unlearner.work`.
        """
        pruning = (1 + self.held / self.pruned_per_round) * sizes["clean"]
        return pruning + (1 - self.held) * super().work(sizes, classes)

    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        clean = known.need("clean", type(self).__name__)
        if len(clean) < 2:
            raise BadInput(
                f"clean set of {len(clean)}: Fine-Pruning prunes by one clean image and watches another; "
                f"give two or more"
            )
        held, rest = split(clean, self.held, run.generator("held images"))
        found = last_convolution(model, rest.batch(torch.arange(1))[0], self.layer)
        pruned = self._prune(model, found, held, least_active(model, found, rest), run)
        fine_tune(
            model,
            rest,
            self.recipe(len(rest)),
            run,
            after_step=pruned.clear,
            columns=lambda: _columns(model, pruned, held),
        )

    def _prune(self, model: nn.Module, found: Convolution, held: Samples, order: Tensor, run: Run) -> Pruned:
        size = max(1, round(self.pruned_per_round * len(order)))
        rounds = math.ceil((len(order) - 1) / size) + self.epochs
        lowest = accuracy(*predict(model, held)) - self.accuracy_drop
        kept = Pruned(found, order[:0])
        for count in range(size, len(order) - 1 + size, size):
            tried = Pruned(found, order[: min(count, len(order) - 1)])
            before = tried.values()
            tried.clear()
            row = _columns(model, tried, held)
            run.record(model, rounds, phase="pruning", **row)
            if row["held_accuracy"] < lowest:
                tried.restore(before)
                break
            kept = tried
        return kept


@dataclass(frozen=True)
class Pruned:
    """Channels of a convolution that are to be 0.

    Attributes:
        found: the convolution.
        channels: int64, which of its outputs.
    """

    found: Convolution
    channels: Tensor

    def _tensors(self) -> list[Tensor]:
        convolution, norm = self.found.convolution, self.found.norm
        tensors = [convolution.weight, convolution.bias]
        tensors += [norm.weight, norm.bias] if norm else []
        return [tensor for tensor in tensors if tensor is not None]

    @torch.no_grad()
    def values(self) -> list[Tensor]:
        """Return what the pruned values are now."""
        return [tensor[self.channels].clone() for tensor in self._tensors()]

    @torch.no_grad()
    def clear(self) -> None:
        """Set the channels to 0."""
        for tensor in self._tensors():
            tensor[self.channels] = 0

    @torch.no_grad()
    def restore(self, before: list[Tensor]) -> None:
        """Put back what `values` returned."""
        for tensor, values in zip(self._tensors(), before, strict=True):
            tensor[self.channels] = values


def least_active(model: nn.Module, found: Convolution, data: Samples) -> Tensor:
    """Rank the channels of a convolution by their activity on ``data``, lowest first: int64 [channels]."""
    sums: list[Tensor] = []

    def measure(module: nn.Module, inputs: object, output: Tensor) -> None:
        sums.append(output.double().clamp_min(0).mean((2, 3)).sum(0))

    handle = found.place.register_forward_hook(measure)
    try:
        predict(model, data)
    finally:
        handle.remove()
    return torch.stack(sums).sum(0).argsort(stable=True)


def _columns(model: nn.Module, pruned: Pruned, held: Samples) -> Row:
    return {
        "channels_pruned": len(pruned.channels),
        "channels": pruned.found.convolution.out_channels,
        "held_accuracy": accuracy(*predict(model, held)),
    }
