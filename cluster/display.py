"""Progress on stderr: bars while people watch, a plain line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ..search.status import Running, SweepProgress
from ..search.status_text import duration
from .watch import Reporter

LINE_SECONDS = 60.0


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """Progress bars on ``console`` that vanish at the end; shown on terminals only."""
    columns = (
        TextColumn("{task.description}", justify="left", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def live_reporter(console: Console, say: Callable[[str], None]) -> Iterator[Reporter]:
    """A reporter for ``console``: bars on a terminal, lines elsewhere.

    Args:
        console: of stderr.
        say: writes a line to it.
    """
    with bars(console) as progress:
        yield LiveReporter(progress, say) if console.is_terminal else LineReporter(say)


class LiveReporter:
    """One bar for the cells of the sweep, and below it one for what each worker does."""

    def __init__(self, progress: Progress, say: Callable[[str], None]) -> None:
        self._progress, self._say = progress, say
        self._cells = progress.add_task("starting", total=None)
        self._workers: dict[int, tuple[TaskID, str]] = {}

    def say(self, line: str) -> None:
        """A line above the bars."""
        self._say(line)

    def show(self, progress: SweepProgress) -> None:
        """Bring the bars up to date."""
        done = progress.cells_present + progress.cells_done
        _set(self._progress, self._cells, summary(progress), done, progress.cells_total)
        for number in self._workers.keys() - {running.worker for running in progress.running}:
            self._progress.remove_task(self._workers.pop(number)[0])
        for running in progress.running:
            self._show_worker(running)

    def _show_worker(self, running: Running) -> None:
        text = f"  {doing(running)}"
        bar, before = self._workers.get(running.worker) or (self._progress.add_task(text, total=None), text)
        if before != text:  # its clock starts again
            self._progress.reset(bar)
        self._workers[running.worker] = (bar, text)
        _set(self._progress, bar, text, running.done, running.total)


class LineReporter:
    """A plain line a minute, for logs."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = time.monotonic()

    def say(self, line: str) -> None:
        """A line."""
        self._say(line)

    def show(self, progress: SweepProgress) -> None:
        """A line, if a minute has gone by since the last, or it is over."""
        now, over = time.monotonic(), progress.state in ("finished", "interrupted")
        if over or now - self._last >= LINE_SECONDS:
            self._last = now
            done = progress.cells_present + progress.cells_done
            self._say(f"{progress.state}: {done} of {progress.cells_total} cells, {summary(progress)}")


def summary(progress: SweepProgress) -> str:
    """Failures, speed and time left, where there is anything to say."""
    rate = progress.configurations / progress.seconds if progress.seconds else 0.0
    parts = [progress.name]
    parts += [f"{progress.cells_failed} failed"] if progress.cells_failed else []
    parts += [f"{progress.lost_workers} workers lost"] if progress.lost_workers else []
    parts += [f"{progress.configurations:,} settings, {rate:.1f}/s"] if progress.configurations else []
    left = progress.left_seconds if progress.state == "running" else None
    parts += [f"about {duration(left)} left"] if left else []
    return ", ".join(parts)


def doing(running: Running) -> str:
    """What a worker does, in a line."""
    cell = f" {running.method} at {running.share}" if running.method else ""
    return f"worker {running.worker + 1} ({running.node}): {running.doing}{cell}, {running.scenario}"


def _set(progress: Progress, bar: TaskID, text: str, done: int, total: int | None) -> None:
    """`Progress.update` takes None for "as before", not for "unknown"."""
    next(task for task in progress.tasks if task.id == bar).total = total
    progress.update(bar, description=text, completed=done)


class PhaseBars:
    """The progress callback of `heal`: one bar a phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(phase, total=total)
        self._progress.update(self._tasks[phase], completed=done, total=total)
