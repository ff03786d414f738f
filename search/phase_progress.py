"""How a healing shows its progress: bars in a terminal or notebook, a line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from ..errors import printable

LINE_SECONDS = 60.0
BAR_WIDTH = 12  # leaves about 50 characters of text on 80 columns

Told = Callable[[str, int, int | None], None]
"""Is called with (phase, done, total or None)."""


class CountColumn(ProgressColumn):
    """What is done, of how many if that is known; nothing where nothing is counted."""

    def render(self, task: Task) -> Text:
        """Write the text: "3/8", "3" or nothing."""
        done = f"{int(task.completed)}"
        if task.total is None:
            return Text(done if task.completed else "")
        return Text(f"{done}/{int(task.total)}")


def bars(console: Console) -> Progress:
    """Make progress bars on ``console`` that vanish at the end."""
    text = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # what is left beside the others
    columns = (
        TextColumn("{task.description}", justify="left", markup=False, table_column=text),
        BarColumn(bar_width=BAR_WIDTH),
        CountColumn(table_column=Column(no_wrap=True, justify="right")),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
    )
    return Progress(*columns, console=console, transient=True, expand=True)


@contextmanager
def phase_progress(console: Console | None = None) -> Iterator[Told]:
    """Show phases of some work on ``console``: bars where people watch, else a line a minute.

    Args:
        console: of stderr unless another is given. In a notebook the bars are part of the cell.
    """
    console = console or Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield PhaseLines(console)
        return
    with bars(console) as progress:
        yield PhaseBars(progress)


class PhaseBars:
    """One bar a phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Bring the bar of a phase up to date."""
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(printable(phase), total=total)
        self._progress.update(self._tasks[phase], completed=done, total=total)


class PhaseLines:
    """A plain line a minute, for logs; work that is over sooner says nothing."""

    def __init__(self, console: Console) -> None:
        self._console, self._start = console, time.monotonic()
        self._last = self._start

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Write a line, if a minute has gone by since the last."""
        now = time.monotonic()
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        counted = f"{done:,}" if total is None else f"{done:,} of {total:,}"
        line = printable(f"{phase}: {counted}, {(now - self._start) / 60:.0f} min")
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
