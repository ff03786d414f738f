"""Progress on stderr: bars while people watch, a plain line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID

from ...errors import printable
from ...search.phase_progress import LINE_SECONDS, bars
from ...search.report import Running, SweepProgress, duration
from ..watch import Reporter


@contextmanager
def live_reporter(console: Console, say: Callable[[str], None]) -> Iterator[Reporter]:
    """Yield a reporter for ``console``: bars on a terminal, lines elsewhere.

    Args:
        console: of stderr.
        say: writes a line to it.
    """
    if not console.is_terminal:
        yield LineReporter(say)
        return
    with bars(console) as progress:
        yield LiveReporter(progress, say)


class LiveReporter:
    """One bar for the cells of the sweep, and below it one for what each worker does."""

    def __init__(self, progress: Progress, say: Callable[[str], None]) -> None:
        self._progress, self._say = progress, say
        self._cells = progress.add_task("starting", total=None)
        self._workers: dict[int, tuple[TaskID, str]] = {}

    def say(self, line: str) -> None:
        """Say a line above the bars."""
        self._say(line)

    def show(self, progress: SweepProgress) -> None:
        """Bring the bars up to date."""
        done = progress.cells_present + progress.cells_done
        state = "finishing, " if progress.state == "finishing" else ""
        text = f"{progress.name}: {state}{summary(progress)}"
        _set(self._progress, self._cells, text, done, progress.cells_total)
        for number in self._workers.keys() - {running.worker for running in progress.running}:
            bar, _ = self._workers[number]  # keeps its place for when it has work again
            self._workers[number] = (bar, "")
            self._progress.update(bar, visible=False)
        several = len({running.node for running in progress.running}) > 1
        for running in progress.running:
            self._show_worker(running, several)

    def _show_worker(self, running: Running, several_nodes: bool) -> None:
        text, now = f"  {doing(running, node=several_nodes)}", doing(running, node=True)
        bar, before = self._workers.get(running.worker) or (
            self._progress.add_task(printable(text), total=None),
            now,
        )
        if before != now:  # its clock starts again
            self._progress.reset(bar)
        self._workers[running.worker] = (bar, now)
        self._progress.update(bar, visible=True)
        _set(self._progress, bar, text, running.done, running.total)


class LineReporter:
    """A plain line a minute, for logs."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = time.monotonic()

    def say(self, line: str) -> None:
        """Say a line."""
        self._say(line)

    def show(self, progress: SweepProgress) -> None:
        """Show a line, if a minute has gone by since the last, or it is over."""
        now, over = time.monotonic(), progress.state in ("finished", "interrupted")
        if over or now - self._last >= LINE_SECONDS:
            self._last = now
            done = progress.cells_present + progress.cells_done
            cells = f"{done:,} of {progress.cells_total:,} cells"
            self._say(printable(f"{progress.name}: {progress.state}, {cells}, {summary(progress)}"))


def summary(progress: SweepProgress) -> str:
    """Sum up what matters first: failures, losses, time left; then settings and their rate.

    In the beginning, how many workers there are: it is never empty.
    """
    parts = [f"{progress.cells_failed:,} failed"] if progress.cells_failed else []
    parts += [f"{_count(progress.lost_workers, 'worker')} lost"] if progress.lost_workers else []
    left = progress.left_seconds if progress.state == "running" else None
    parts += [f"{duration(left)} left"] if left else []
    if progress.configurations and progress.seconds:
        rate = progress.configurations / progress.seconds
        parts += [f"{_count(progress.configurations, 'setting')}, {rate:.1f}/s"]
    return ", ".join(parts or [_count(progress.workers, "worker")])


def doing(running: Running, *, node: bool) -> str:
    """Say in a line what a worker does, with the name of its node if that is asked for."""
    cell = f" {running.method} at {running.share}" if running.method else ""
    place = f" ({running.node})" if node else ""
    return f"worker {running.worker + 1}{place}: {running.doing}{cell}, {running.scenario}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _set(progress: Progress, bar: TaskID, text: str, done: int, total: int | None) -> None:
    """Set a bar; `Progress.update` takes None for "as before", not for "unknown"."""
    next(task for task in progress.tasks if task.id == bar).total = total
    progress.update(bar, description=printable(text), completed=done)
