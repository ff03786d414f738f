"""A method that trains, run with one setting of its hyperparameters after another, and the best of them.

What was evaluated is a row of scalars: a search carries on from rows, here or on another machine. Every run
is a row, also one that fails, diverges or wrecks the model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...errors import BadInput, NotFinite
from ...rows import Row
from ...unlearning.inference import Predicted, predict
from ...unlearning.methods import Known, Unlearned, Watch
from ...unlearning.metrics import accuracy
from ...unlearning.training import TrainingDiverged
from ..given import Batches, Check, random_part, unchecked
from ..grid import TPEStart
from ..harm import Harm, compare_on_retain, expected_rate
from ..sampler import Direction, Sampler
from ..threshold import crosses
from .objectives import pareto_front, parts, score, told
from .parameters import defaults, unlearner
from .settings import TuneSettings
from .spaces import Space, distributions
from .start import start_of

Count = Callable[[int], None]

LOST = (TrainingDiverged, NotFinite, MemoryError, torch.OutOfMemoryError)


class RowStore(Protocol):
    """Where the rows of finished runs are kept, by parameters."""

    def find(self, parameters: dict[str, Any]) -> Row | None:
        """Find the row of a run with these parameters; None if there was none."""
        ...

    def put(self, parameters: dict[str, Any], row: Row) -> None:
        """Keep the row of a run, by its parameters."""
        ...


@dataclass(frozen=True, kw_only=True)
class Examined:
    """The victim on S_f and on the part of retain that candidates are compared on.

    Attributes:
        forget_accuracy: Acc_forget(victim).
        expected_rate: the share of S_f that may truly be labelled right; see `expected_rate`.
        targets: the labels that occur in S_f, int64.
        predictions, labels: on retain, int64 [N].
    """

    forget_accuracy: float
    expected_rate: float
    targets: Tensor
    predictions: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    parameters: str
    score: float
    model: nn.Module


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a search found.

    Attributes:
        status: "stopped" (a setting is better than leaving the victim as it is, and did not collapse it),
            "done" (the one setting of a fixed search did not), "collapsed" (only settings that collapse it
            are better), "no_stop" (none is), "failed" (no run ended).
        rows: one dict per setting, with "score" and, of a Pareto search, "pareto".
        winner: number of the best setting; None for "no_stop" and "failed".
        examined: the victim.
    """

    status: str
    rows: tuple[Row, ...]
    winner: int | None
    examined: Examined

    @property
    def chosen(self) -> Row | None:
        """Return the row of the best setting."""
        return None if self.winner is None else self.rows[self.winner]


class Tuning:
    """A search for the hyperparameters of a training method.

    Args:
        victim: the model, never changed.
        known: what the method may use.
        forget: S_f in batches, as it is judged on.
        retain: the rest of the training set in batches; a part is drawn from it, see `TuneSettings.compared`.
        settings: method and search.
        given: hyperparameters in place of the method's defaults, weaker than ``parameters`` of the settings.
        seed: of the method.
        measure: further columns of a candidate, such as held-out truth; the search reads those of an oracle.
        watch: looks at the model after every round of a run; its columns end up in the row's "trace".
        kept: rows of runs that were made before.
        compared: gives the victim's predictions and the labels of that part, where somebody has them.
        check: judges the victim's predictions when they are first asked for.
    """

    def __init__(
        self,
        victim: nn.Module,
        known: Known,
        forget: Batches,
        retain: Batches,
        settings: TuneSettings,
        *,
        given: Mapping[str, Any] | None = None,
        seed: int = 0,
        measure: Callable[[nn.Module], Row] = lambda model: {},
        watch: Watch | None = None,
        kept: RowStore | None = None,
        compared: Callable[[], Predicted] | None = None,
        check: Check = unchecked,
    ) -> None:
        self._victim, self._known, self._forget, self.settings = victim, known, forget, settings
        self._retain = retain if settings.compared == "all" else random_part(retain, settings.compared)
        self._seed, self._measure, self._watch, self._kept = seed, measure, watch, kept
        self._compared, self._check = compared, check
        self._given = {**(given or {}), **settings.parameters}
        self._best: _Candidate | None = None

    @property
    def start(self) -> TPEStart:
        """Return what it takes to follow the search; nothing is computed for it."""
        return start_of(self.settings)

    @cached_property
    def examined(self) -> Examined:
        """Examine the victim.

        Raises:
            BadInput: data that the model cannot take.
        """
        predictions, labels = predict(self._victim, self._forget, "forget set")
        before, given = self._compared() if self._compared else self._predicted(self._victim)
        self._check((predictions, labels), (before, given))
        return Examined(
            forget_accuracy=accuracy(predictions, labels),
            expected_rate=expected_rate(before, labels),
            targets=labels.unique(),
            predictions=before,
            labels=given,
        )

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """Evaluate further settings; see `Searching.carry_on`."""
        first, found = len(history) + skip, list[Row]()
        stop = self.start.round_end(first) if skip else self.start.count
        for number in range(first, stop if count is None else min(stop, first + count)):
            known = history if skip else [*history, *found]
            found.append(self._evaluated(self._parameters(known, number)))
            if progress:
                progress(number + 1)
        return found

    def conclude(self, history: Sequence[Row], enough: float | None = None) -> Tuned:
        """Return the best of all settings.

        Args:
            history: their rows.
            enough: a forget accuracy; settings that come down to it go before those that do not.
        """
        judged = [parts(self.settings, row, self.examined.forget_accuracy) for row in history]
        front = pareto_front(judged) if self.settings.pareto else None
        rows = [
            {**row, "score": score(both), "pareto": None if front is None else front[number]}
            for number, (row, both) in enumerate(zip(history, judged, strict=True))
        ]
        status, winner = self._winner(rows, enough)
        return Tuned(status=status, rows=tuple(rows), winner=winner, examined=self.examined)

    def model(self, row: Row) -> nn.Module:
        """Return the model of a row's setting: the best trained here is at hand, others are trained again."""
        if self._best is None or self._best.parameters != row["parameters"]:
            return self._run(json.loads(row["parameters"])).model
        return self._best.model

    def _parameters(self, history: Sequence[Row], number: int) -> dict[str, Any]:
        """Return the hyperparameters of setting ``number`` that are searched, or not the defaults."""
        if not self.settings.searched:
            return self._given
        before = self.examined.forget_accuracy
        values = [told(self.settings, parts(self.settings, row, before)) for row in history]
        return {**self._given, **self._sampler.replay(values, number)}

    @cached_property
    def _sampler(self) -> Sampler:
        settings, space = self.settings, self.settings.searched
        directions: tuple[Direction, ...] = ("maximize", "maximize") if settings.pareto else ("maximize",)
        return Sampler(
            distributions(space),
            directions,
            seed=settings.sampler_seed,
            first=self._first(space),
            together=self.start.together,
        )

    def _first(self, space: Space) -> dict[str, Any]:
        """Return the defaults, as far as they lie where they are looked for."""
        own = defaults(self.settings.method, self._given)
        return {name: own[name] for name, dimension in space.items() if dimension.holds(own[name])}

    def _evaluated(self, parameters: dict[str, Any]) -> Row:
        row = self._kept.find(parameters) if self._kept else None
        if row is None:
            row = self._judged(parameters)
            if self._kept and row["status"] != "failed":  # memory may suffice the next time
                self._kept.put(parameters, row)
        return row

    def _judged(self, parameters: dict[str, Any]) -> Row:
        start = time.perf_counter()
        row: Row = {"parameters": json.dumps(parameters, sort_keys=True)}
        try:
            unlearned = self._run(parameters)
            columns = self._columns(unlearned)
        except LOST as error:
            failure = {"status": "failed", "error_message": f"{type(error).__name__}: {error}"}
            return {**row, **failure, "seconds": time.perf_counter() - start}
        row |= {**columns, "seconds": unlearned.seconds}
        self._keep_best(row, unlearned.model)
        return row

    def _keep_best(self, row: Row, model: nn.Module) -> None:
        """Keep the best model, so that the one that is given out is the very one whose row is reported."""
        value = score(parts(self.settings, row, self.examined.forget_accuracy))
        if row["status"] == "collapsed" or value is None:
            return
        if self._best is None or value > self._best.score:
            self._best = _Candidate(parameters=row["parameters"], score=value, model=model)

    def _run(self, parameters: dict[str, Any]) -> Unlearned:
        method = unlearner(self.settings.method, parameters)
        return method(self._victim, self._known, seed=self._seed, watch=self._watch)

    def _columns(self, unlearned: Unlearned) -> Row:
        predictions, labels = predict(unlearned.model, self._forget, "forget set")
        harm = self._harm(unlearned.model)
        wrecked = harm.collapsed(drop=self.settings.collapse_drop, share=self.settings.collapse_share)
        return {
            "status": "collapsed" if wrecked else unlearned.status,
            "forget_accuracy": accuracy(predictions, labels),
            **asdict(harm),
            **self._measure(unlearned.model),
            "trace": json.dumps(unlearned.trace),
        }

    def _harm(self, model: nn.Module) -> Harm:
        examined = self.examined
        after, _ = self._predicted(model)
        return compare_on_retain(examined.predictions, after, examined.labels, examined.targets)

    def _predicted(self, model: nn.Module) -> Predicted:
        return predict(model, self._retain, "retain set")

    def _winner(self, rows: Sequence[Row], enough: float | None) -> tuple[str, int | None]:
        ended = [number for number, row in enumerate(rows) if row["status"] != "failed"]
        if not ended:
            return "failed", None
        sound = [number for number in ended if rows[number]["status"] != "collapsed"]
        if enough is not None:
            forgetting = [n for n in sound if crosses(rows[n]["forget_accuracy"], enough)]
            sound = forgetting or sound
        fixed = self.settings.search == "fixed"
        for status, numbers in (("done" if fixed else "stopped", sound), ("collapsed", ended)):
            best = max(numbers, key=lambda number: rows[number]["score"], default=None)
            if best is not None and (fixed or rows[best]["score"] > self._left_alone()):
                return status, best
        return "no_stop", None

    def _left_alone(self) -> float:
        """Return the score of the victim as it is."""
        before = self.examined.forget_accuracy
        row = {"status": "done", "forget_accuracy": before, "agreement": 1.0}
        if self.settings.uses_oracle:
            row |= self._measure(self._victim)
        value = score(parts(self.settings, row, before))
        if value is None:
            raise BadInput("the victim itself cannot be scored; give a victim that can")
        return value
