"""Progress on stderr while people watch; nothing at all when they don't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .fanout import Reporter, Silent
from .workers import Phase


class LiveReporter:
    """One bar for the group of jobs, and below it one for what each worker does."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._group = progress.add_task("", total=None)
        self._workers: dict[int, TaskID] = {}
        self._doing: dict[int, str] = {}

    def begin(self, title: str, total: int) -> None:
        """A group of ``total`` jobs begins."""
        self._progress.reset(self._group, description=title, total=total)

    def finished(self, done: int) -> None:
        """``done`` jobs of the group are over."""
        self._progress.update(self._group, completed=done)

    def working(self, worker: int, phase: Phase | None) -> None:
        """What a worker is doing; None: nothing."""
        name, done, total = phase or ("waiting", 0, None)
        bar = self._bar(worker)
        if self._doing.get(worker) != name:
            self._doing[worker] = name
            self._progress.reset(bar, description=f"  worker {worker + 1}: {name}")
        _set_total(self._progress, bar, total)
        self._progress.update(bar, completed=done)

    def _bar(self, worker: int) -> TaskID:
        """Bars are made in the order of the workers, whichever reports first."""
        for number in range(len(self._workers), worker + 1):
            self._workers[number] = self._progress.add_task(f"  worker {number + 1}: waiting", total=None)
        return self._workers[worker]


def _set_total(progress: Progress, bar: TaskID, total: int | None) -> None:
    """`Progress.update` takes None for "as before", not for "unknown"."""
    next(task for task in progress.tasks if task.id == bar).total = total


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """Progress bars on ``console`` that vanish at the end; shown on terminals only."""
    columns = (
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def live_reporter(console: Console) -> Iterator[Reporter]:
    """A `LiveReporter` on terminals, else a silent one."""
    with bars(console) as progress:
        yield LiveReporter(progress) if console.is_terminal else Silent()


class PhaseBars:
    """The progress callback of `heal`: one bar a phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total)
        self._progress.update(self._tasks[phase], completed=done, total=total)
