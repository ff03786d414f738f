"""Progress on stderr while people watch; nothing at all when they don't."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .fanout import Reporter, Silent
from .workers import Phase


class LiveReporter:
    """Bars for the group of jobs and for what each worker does."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._group: TaskID | None = None
        self._workers: dict[int, TaskID] = {}

    def begin(self, title: str, total: int) -> None:
        """A group of ``total`` jobs begins."""
        self._group = self._progress.add_task(title, total=total)

    def finished(self, done: int) -> None:
        """``done`` jobs of the group are over."""
        if self._group is not None:
            self._progress.update(self._group, completed=done)

    def working(self, worker: int, phase: Phase | None) -> None:
        """What a worker is doing; None: nothing."""
        if worker not in self._workers:
            self._workers[worker] = self._progress.add_task("", total=None)
        name, done, total = phase or ("waiting", 0, None)
        self._progress.update(
            self._workers[worker], description=f"  worker {worker + 1}: {name}", completed=done, total=total
        )


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
