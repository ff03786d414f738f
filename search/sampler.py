"""Settings sampled by Optuna's TPE so that neither the number of workers nor a restart changes them.

Settings are drawn in rounds. Those of a round depend on what all settings of earlier rounds were worth, and
count as running for each other (constant liar), so that they differ; not on when their values arrive. A
sampler is thus a function of its seed and of the values before: a search that goes on elsewhere draws the
same settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import optuna

Direction = Literal["minimize", "maximize"]
Values = Sequence[float] | None
"""What a setting is worth, one number an objective; None: it failed."""


class Sampler:
    """Asks for settings, and is told what each is worth.

    Args:
        space: name -> distribution.
        directions: of the objectives.
        seed: of the sampler.
        first: a setting to begin with; names that are not in the space are passed over.
        together: settings of a round, at least 1.
    """

    def __init__(
        self,
        space: Mapping[str, optuna.distributions.BaseDistribution],
        directions: Sequence[Direction] = ("maximize",),
        *,
        seed: int = 0,
        first: Mapping[str, Any] | None = None,
        together: int = 1,
    ) -> None:
        import optuna  # takes as long to import as all of search/, and few need it

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._together = dict(space), together
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=together > 1)
        self._study = optuna.create_study(directions=list(directions), sampler=sampler)
        if first:
            self._study.enqueue_trial({name: first[name] for name in self._space if name in first})
        self._asked: list[optuna.Trial] = []
        self._drawn: list[dict[str, Any]] = []

    def ask(self) -> dict[str, Any]:
        """Draw the next setting."""
        self._asked.append(self._study.ask(self._space))
        return dict(self._asked[-1].params)

    def tell(self, values: Values) -> None:
        """Tell the sampler what the first setting asked for and not told yet is worth.

        Raises:
            ValueError: none was asked for.
        """
        import optuna

        if not self._asked:
            raise ValueError("ask for a setting first")
        state = optuna.trial.TrialState.FAIL if values is None else None
        self._study.tell(self._asked.pop(0), None if values is None else list(values), state=state)

    def replay(self, values: Sequence[Values], number: int) -> dict[str, Any]:
        """Return setting ``number``, from 0, where those before its round were worth ``values`` in order.

        ``values`` hold all of those rounds, and begin as those of earlier calls did. A sampler that is asked
        this way is not asked or told in another.

        Raises:
            ValueError: values of an earlier round are missing.
        """
        begun = number // self._together * self._together
        if len(values) < begun:
            raise ValueError(f"setting {number} depends on {begun} values, and there are {len(values)}")
        while len(self._drawn) <= number:
            if len(self._asked) == self._together:
                for value in values[len(self._drawn) - self._together : len(self._drawn)]:
                    self.tell(value)
            self._drawn.append(self.ask())
        return self._drawn[number]
