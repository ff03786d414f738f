"""A plan as plain text for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import printable
from ..report import counted, duration
from .plan import Scale, SweepPlan

LINE = 110
UNITS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def plan_text(plan: SweepPlan) -> str:
    """Write one block of aligned lines, then the table of workers, then what was assumed."""
    rows = [(name, value) for name, value in _lines(plan) if value]
    width = max(len(name) for name, _ in rows)
    lines = [printable(f"{name:<{width}}  {value}") for name, value in rows]
    return "\n".join([*lines, "", *_table(plan.scaling), "", "assumed:", *_wrapped(plan.assumed)])


def plan_json(plan: SweepPlan) -> str:
    """Write a JSON object: the fields of `SweepPlan`; seconds and bytes."""
    return plan.model_dump_json(indent=2)


def size(count: int) -> str:
    """Write bytes with a unit: "37.9 MB"; a MB is 2^20 bytes."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count < 1000 * unit else f"{count / unit:.0f} {name}"
    return f"{count} B"


def _lines(plan: SweepPlan) -> list[tuple[str, str]]:
    disk = plan.disk
    return [
        ("sweep", plan.name),
        (
            "cells",
            f"{plan.cells - plan.finished} to compute of {plan.cells}, on {counted(plan.victims, 'victim')}",
        ),
        ("to train", _counts(plan.trainings)),
        ("importances", _counts(plan.importances)),
        ("searches", _counts(plan.searches)),
        ("settings", _counts(plan.settings, "about ")),
        (
            "device",
            plan.device if plan.device_memory is None else f"{plan.device}, {size(plan.device_memory)}",
        ),
        ("device time", f"{plan.device_hours:.3g} hours{_phases(plan.device_seconds)}"),
        ("peak memory", f"{size(plan.peak_memory)} a worker{_fitting(plan)}"),
        (
            "disk",
            f"models {size(disk.models)}, importances {size(disk.importances)}, results {size(disk.results)}"
            + (f"; {size(disk.shards)} more of shards for a while" if disk.shards else ""),
        ),
    ]


def _counts(counts: Mapping[str, int], about: str = "") -> str:
    return ", ".join(f"{name} {about}{number:,}" for name, number in counts.items())


def _phases(seconds: Mapping[str, float]) -> str:
    parts = sorted(seconds.items(), key=lambda pair: -pair[1])
    shown = [f"{name} {duration(value)}" for name, value in parts if round(value) > 0]
    return f": {', '.join(shown)}" if shown else ""


def _fitting(plan: SweepPlan) -> str:
    if plan.actors_per_gpu is None:
        return ""
    return f"; {plan.actors_per_gpu} fit on a GPU"


def _table(scaling: Sequence[Scale]) -> list[str]:
    head = ("workers", "wall clock", "first result", "efficiency", "workers busy", "driver busy")
    rows = [head, *(_row(scale) for scale in scaling)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _row(scale: Scale) -> tuple[str, ...]:
    first = "-" if scale.first_result is None else duration(scale.first_result)
    shares = (f"{share:.0%}" for share in (scale.efficiency, scale.busy, scale.driver))
    return (str(scale.workers), duration(scale.seconds), first, *shares)


def _wrapped(sentences: Sequence[str]) -> list[str]:
    lines = []
    for sentence in sentences:
        line = "-"
        for word in sentence.split():
            if len(line) + 1 + len(word) > LINE:
                lines.append(line)
                line = " "
            line = f"{line} {word}"
        lines.append(line)
    return lines
