"""What all methods that train have in common: hyperparameters at construction, model and data at call."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from ...datasets.samples import Samples
from ...datasets.views import seeded_generator
from ...errors import BadInput
from ...rows import Row
from ..models import seeded

Set = Literal["forget", "retain", "clean"]
Watch = Callable[[nn.Module], Row]
"""Looks at a model between two rounds, in eval mode, and says what it saw; a method never reads it."""
TRAINED_IMAGE = 3.0
"""Forward passes that a forward and a backward pass of an image count as."""
RoundProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What an unlearner may know; a method refuses to start without what it needs.

    Attributes:
        forget: S_f, the found poison, labels as given.
        retain: the rest of the training set, which holds the undiscovered poison.
        clean: images known to be clean, with their true labels.
        base: a clean model of the victim's architecture, such as its pre-trained weights.
    """

    forget: Samples | None = None
    retain: Samples | None = None
    clean: Samples | None = None
    base: nn.Module | None = None

    def need(self, name: Set, method: str) -> Samples:
        """Return the set of this name.

        Args:
            name: "forget", "retain" or "clean".
            method: that needs it, for the message.

        Raises:
            BadInput: it is missing or empty.
        """
        samples = {"forget": self.forget, "retain": self.retain, "clean": self.clean}[name]
        if samples is None or not len(samples):
            raise BadInput(f"{method} needs {_WHAT[name]} and got none; give {name}=...")
        return samples


_WHAT: dict[Set, str] = {
    "forget": "found poison",
    "retain": "the rest of the training set",
    "clean": "images that are known to be clean",
}


class Run:
    """One run of a method: its random streams, its clock, and the trace it leaves.

    Args:
        seed: of everything that is drawn.
        watch: see `Watch`; the clock stands still while it looks.
        progress: called with (rounds done, rounds).
    """

    def __init__(self, seed: int, watch: Watch | None = None, progress: RoundProgress | None = None) -> None:
        self.seed = seed
        self.trace: list[Row] = []
        self.status = "done"
        self._watch, self._progress = watch, progress
        self._start, self._paused = time.perf_counter(), 0.0

    def generator(self, purpose: str) -> torch.Generator:
        """Return a CPU generator whose stream depends on the seed and on ``purpose`` alone."""
        return seeded_generator(self.seed, purpose)

    @property
    def seconds(self) -> float:
        """Return the wall-clock seconds since the beginning, without what the watch took."""
        return time.perf_counter() - self._start - self._paused

    def record(self, model: nn.Module, rounds: int, **columns: Any) -> None:
        """End a round: a row with its number (from 1), seconds, ``columns`` and what the watch sees."""
        row: Row = {"round": len(self.trace) + 1, "seconds": self.seconds, **columns}
        if self._watch:
            row |= self._looked(model, self._watch)
        self.trace.append(row)
        if self._progress:
            self._progress(len(self.trace), rounds)

    def _looked(self, model: nn.Module, watch: Watch) -> Row:
        start = time.perf_counter()
        modes = {module: module.training for module in model.modules()}
        with torch.no_grad():
            seen = watch(model.eval())
        for module, training in modes.items():
            module.training = training
        self._paused += time.perf_counter() - start
        return seen


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """What a method made of a victim.

    Attributes:
        model: a new model in eval mode.
        status: "done", "stopped" where a method's own rule ended it before its last round, or "no_trigger"
            where Neural Cleanse found none.
        seconds: wall-clock, without what the watch took.
        trace: a row a round: "round" from 1, "seconds" since the beginning, and columns of the method.
    """

    model: nn.Module
    status: str
    seconds: float
    trace: list[Row] = field(default_factory=list)


@contextmanager
def thawed(model: nn.Module) -> Iterator[None]:
    """Let all floating-point parameters gather gradients inside the block; afterwards as they were."""
    wanted = [(p, p.requires_grad) for p in model.parameters() if p.is_floating_point()]
    for parameter, _ in wanted:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


class Unlearner(BaseModel, ABC):
    """Hyperparameters, frozen and validated. Calling one trains a copy of a model.

    All its floating-point parameters are trained, also those that ask for no gradient (``requires_grad``):
    as in importances, a parameter takes part because it is one. The new model has the victim's flags.

    Attributes:
        needs: the sets of `Known` it cannot do without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: ClassVar[tuple[Set, ...]]

    def __call__(
        self,
        victim: nn.Module,
        known: Known,
        *,
        seed: int = 0,
        watch: Watch | None = None,
        progress: RoundProgress | None = None,
    ) -> Unlearned:
        """Run the method on a copy of ``victim``, which is not changed.

        Args:
            victim: never changed; its device is where everything is computed.
            known: what the method may use.
            seed: determines all that is drawn; the same seed gives the same model on one machine.
            watch: looks at the model after every round.
            progress: called with (rounds done, rounds).

        Raises:
            BadInput: a set it needs is missing.
            TrainingDiverged: the loss, or the weights, are no longer finite numbers.
        """
        for name in self.needs:
            known.need(name, type(self).__name__)
        model, run = copy.deepcopy(victim), Run(seed, watch, progress)
        with seeded(seed, next(model.parameters()).device), thawed(model):
            self._unlearn(model, known, run)
        return Unlearned(model=model.eval(), status=run.status, seconds=run.seconds, trace=run.trace)

    @abstractmethod
    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Estimate how many images a run passes forward, a backward pass counting two; for plans.

        Args:
            sizes: samples of every set there is.
            classes: of the model.
        """

    @abstractmethod
    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        """Train ``model`` in place, `Run.record` every round, and set `Run.status` where a rule stops it."""
