"""The status of sweeps as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from ...errors import printable
from .progress import Running, SweepProgress, SweepStatus

BAR = 40


def status_text(status: Sequence[SweepStatus]) -> str:
    """Write one block of lines for each sweep, about 110 wide at most where messages are not long."""
    if not status:
        return "no sweep has been run into this directory"
    return "\n\n".join("\n".join(_block(one)) for one in status)


def _block(status: SweepStatus) -> list[str]:
    lines = [f"{status.name} ({status.sweep[:8]}): {_state(status)}"]
    lines += [f"  {line}" for line in (_bar(status), _counts(status), _pace(status), _losses(status)) if line]
    if status.progress and status.state in ("running", "finishing"):
        lines += [f"  {line}" for line in _workers(status.progress.running)]
    width = max((len(failure.error_class) for failure in status.failures), default=0)
    lines += [
        f"  failed {failure.count:>4} x {failure.error_class:<{width}}  {_cut(failure.message)}".rstrip()
        for failure in status.failures
    ]
    lines += [f"  {status.problem}"] if status.problem else []
    return list(map(printable, lines))


def _state(status: SweepStatus) -> str:
    progress = status.progress
    if progress is None:
        return "its driver has left no readable progress file"
    where = f"on {progress.host}, process {progress.pid}"
    workers = counted(progress.workers, "worker")
    return {
        "running": f"running {where}, {workers}, for {duration(progress.seconds)}",
        "finishing": f"finishing the cells that run, {where}",
        "finished": f"finished at {_moment(progress)} after {duration(progress.seconds)}",
        "interrupted": f"interrupted at {_moment(progress)}; run the same command again to go on",
        "lost": f"lost: the driver ({where}) does not answer since {_moment(progress)}; "
        "run the same command again to go on",
        "unknown": "unknown",
    }[status.state]


def _moment(progress: SweepProgress) -> str:
    return f"{progress.updated_at:%Y-%m-%d %H:%M:%S %Z}"


def _bar(status: SweepStatus) -> str:
    """Draw done ``#``, failed ``x``, running ``>``, to go ``.``; what there is of has a place at least."""
    if not status.total:
        return ""
    counts = {"#": status.done or 0, "x": status.failed or 0, ">": status.running, ".": status.to_go or 0}
    spare = BAR - sum(count > 0 for count in counts.values())
    ends = [round(spare * end / status.total) for end in accumulate(counts.values(), initial=0)]
    widths = (end - begin for begin, end in pairwise(ends))
    signs = (sign * (width + (counts[sign] > 0)) for sign, width in zip(counts, widths, strict=True))
    return f"[{''.join(signs)}]"


def _counts(status: SweepStatus) -> str:
    if status.total is None:
        progress = status.progress
        return f"cells: {progress.cells_total}, how many are done is not known" if progress else ""
    return (
        f"done {status.done} / running {status.running} / failed {status.failed} / "
        f"to go {status.to_go} of {status.total}"
    )


def _pace(status: SweepStatus) -> str:
    progress, parts = status.progress, []
    if progress and progress.configurations and status.configurations_per_second is not None:
        rate = f"{status.configurations_per_second:.1f} per second"
        parts.append(f"{progress.configurations:,} configurations in this run, {rate}")
    if status.left_seconds is not None and (status.to_go or status.running):
        again = "" if status.state in ("running", "finishing") else " once it goes on"
        parts.append(f"about {duration(status.left_seconds)} left{again}")
    return "; ".join(parts)


def _losses(status: SweepStatus) -> str:
    progress = status.progress
    if not progress or not (progress.lost_workers or progress.retried):
        return ""
    return f"{counted(progress.lost_workers, 'worker')} lost, {progress.retried} retried"


def _workers(running: Sequence[Running]) -> list[str]:
    """Write what each worker does, one below the other in columns."""
    cells = [
        (f"worker {one.worker + 1}", one.node, one.scenario, _cell(one), f"{one.doing} {_done(one)}")
        for one in sorted(running, key=lambda one: one.worker)
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def _cell(running: Running) -> str:
    if running.method is None:
        return ""
    return running.method if running.share is None else f"{running.method} at {running.share}"


def _done(running: Running) -> str:
    if running.total is None:
        return f"{running.done}" if running.done else ""
    return f"{running.done}/{running.total}"


def duration(seconds: float) -> str:
    """Write seconds in two units at most: "42 s", "3 min 20 s", "5 h 10 min", "2 d 4 h"."""
    whole = round(seconds)
    for size, unit, smaller, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, such as "1 cell" or "12 cells".

    Args:
        number: how many.
        noun: in the singular.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cut(message: str, width: int = 160) -> str:
    return message if len(message) <= width else message[: width - 1] + "…"
