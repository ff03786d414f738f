"""Worker processes of a DataLoader that die: one line that names the set, whoever is told of it first."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from theriac.errors import BadInput
from theriac.search.given import workers
from theriac.search.given.batches import as_batches
from theriac.search.given.loaders import Loaded
from theriac.search.given.workers import WorkerDied, death_behind, death_in, telling_of_dead_workers
from theriac.search.heal import heal
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()
DEATH = "DataLoader worker (pid(s) 12) exited unexpectedly"


class Deadly(Dataset[tuple[Tensor, Tensor]]):
    """Ends the worker process that reads sample ``last``, and that process alone."""

    def __init__(self, last: int) -> None:
        self.last = last

    def __len__(self) -> int:
        return 200

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        if row == self.last:
            assert get_worker_info() is not None, "what kills a worker must not be read in the main process"
            os._exit(1)
        return POISONED.rest[0][row], POISONED.rest[1][row]


def real_death(method: str) -> None:
    """Heal with a worker that dies; in a process of its own, whose signals are nobody else's."""
    search: dict[str, Any] = {"search": "fixed"} if method == "ga" else {}
    loader = DataLoader(Deadly(101), batch_size=20, num_workers=1)
    try:
        heal(POISONED.model, POISONED.found, loader, method, **search)
    except BadInput as error:
        sys.stdout.write(f"{error}\n")


@pytest.mark.parametrize("method", ["xlf", "ga"])
def test_heal_names_the_set_whose_worker_died(method: str):
    run = f"from {__name__} import real_death; real_death({method!r})"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("retain set: a worker process of its DataLoader has died (")
    assert "num_workers=0" in line


@pytest.mark.parametrize("error", [RuntimeError(DEATH), ConnectionResetError("reset by peer"), EOFError()])
def test_a_lost_worker_is_told_by_any_of_its_errors(error: Exception, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "MOMENT", 0.0)
    assert death_behind(error, 1) is error


@pytest.mark.parametrize(
    ("error", "count"),
    [
        (ConnectionResetError("a dataset on a server"), 0),
        (ConnectionResetError("Caught ConnectionResetError in DataLoader worker process 0."), 1),
        (FileNotFoundError("no such image"), 1),
        (ValueError("odd"), 1),
    ],
)
def test_errors_of_the_data_are_no_deaths(error: Exception, count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "MOMENT", 0.0)
    assert death_behind(error, count) is None


def test_a_dead_worker_is_told_before_its_samples_are_read_here():
    data = as_batches(DataLoader(Deadly(150), batch_size=20), name="retain set", device=torch.device("cpu"))
    assert isinstance(data, Loaded)
    said = data._failed([[150]], 0, RuntimeError(DEATH))
    assert isinstance(said, WorkerDied)


def raised(text: str, *, by: type[Exception] | None = None) -> Any:
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        if by is None:
            raise
        raise by("the model cannot take images") from error


@pytest.mark.parametrize("by", [None, BadInput])
def test_a_death_told_in_the_midst_of_other_work_is_named(by: type[Exception] | None):
    sets = {"forget set": POISONED.found, "retain set": DataLoader(Deadly(0), num_workers=1)}
    with pytest.raises(WorkerDied, match=r"^retain set: a worker"), telling_of_dead_workers(sets):
        raised(DEATH, by=by)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), telling_of_dead_workers({}):
        raised("shapes differ")
    assert death_in(None) is None


def test_what_names_the_set_already_is_not_told_again():
    with pytest.raises(WorkerDied, match=r"^forget set$"), telling_of_dead_workers({}):
        raise WorkerDied("forget set")
