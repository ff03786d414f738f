"""What a sweep asks of its datasets, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...datasets.poisoning import check_poisoning
from ...datasets.sources import labels_of
from ...errors import BadInput
from .files import Sweep, load_sweep
from .scenario import Scenario


def checked_sweep(name_or_path: str | Path, overrides: Sequence[str], root: Path | None) -> Sweep:
    """Read a sweep as `load_sweep` does, and check it against its datasets.

    Raises:
        BadInput: as `load_sweep` and `check_data`.
    """
    sweep = load_sweep(name_or_path, overrides)
    check_data(sweep, root)
    return sweep


def check_data(sweep: Sweep, root: Path | None) -> None:
    """Refuse targets that are no classes, and more poison or held back images than a dataset has.

    A dataset that is not on this machine is taken to be as large as it was published.

    Args:
        sweep: any.
        root: the folder of the datasets, see `load_dataset`.

    Raises:
        BadInput: names the scenario's value and what the dataset has.
    """
    for scenario in {_asked(task.scenario): task.scenario for task in sweep.tasks()}.values():
        found = labels_of(scenario.dataset, root=root)
        try:
            check_poisoning(found, scenario.attack, scenario.manipulated, scenario.held_back)
        except BadInput as error:
            raise BadInput(f"{scenario.dataset}: {error}") from error


def _asked(scenario: Scenario) -> tuple[object, ...]:
    return scenario.dataset, scenario.attack, scenario.manipulated, scenario.held_back
