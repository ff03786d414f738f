"""What became of a model, in ten lines of text, or as a table with a curve for notebooks."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

CURVES = {
    "forget_accuracy": "found poison still believed",
    "suspected_healed": "suspected samples healed",
    "held_out_accuracy": "accuracy on held-out retain",
}
"""Column of a trace -> what the curve of it shows."""


def healing_text(summary: Mapping[str, Any]) -> str:
    """Write ten lines at most.

    Args:
        summary: as `Healing.summary` gives it.
    """
    return "\n".join(f"{name:<9} {text}" for name, text in _lines(summary))


def healing_html(summary: Mapping[str, Any]) -> str:
    """Write a table, and draw below it what each evaluated setting did, if there are several."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in _lines(summary)
    )
    return f"<table>{rows}</table>{_curve(summary['trace'], summary['alpha'])}"


def _lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings, metrics = summary["settings"], summary["metrics"]
    how = f"{settings['method']}, {settings['search']} search"
    how += f", {settings['granularity']}" if "granularity" in settings else ""
    lines = [("status", _status(summary)), ("method", how), ("found", _accuracies(metrics))]
    if summary["alpha"] is not None:
        at = f"alpha {summary['alpha']:.4g}, lambda {summary['dampening_constant']:.4g}"
        lines.append(("dampened", f"{metrics['dampened']:,} weights at {at}"))
    if metrics.get("harm") is not None:
        lines.append(("harm", f"{100 * metrics['harm']:.1f} points of accuracy, estimated"))
    lines.append(("settings", f"{len(summary['trace'])} evaluated, see trace"))
    said = [*summary["warnings"], *summary["notes"]]
    lines += [("doubt" if text in summary["warnings"] else "note", text) for text in said[:3]]
    return lines


def _status(summary: Mapping[str, Any]) -> str:
    weights = "a healed model" if summary["healed"] else "the weights that came in"
    return f"{summary['status']}: model has {weights}"


def _accuracies(metrics: Mapping[str, Any]) -> str:
    before, after = (metrics.get(f"forget_accuracy{name}") for name in ("_before", ""))
    if before is None or after is None:
        return "not measured"
    changed = f"; {100 * (1 - metrics['agreement']):.1f} % of other predictions changed"
    return (
        f"{100 * before:.1f} -> {100 * after:.1f} % still read as labelled, {metrics['forget_count']} "
        f"samples{changed if 'agreement' in metrics else ''}"
    )


def _curve(trace: Sequence[Mapping[str, Any]], alpha: float | None) -> str:
    """Draw the columns of a trace against the number of dampened weights, as SVG."""
    rows = sorted((row for row in trace if row.get("dampened")), key=lambda row: row["dampened"])
    shown = {name: text for name, text in CURVES.items() if any(row.get(name) is not None for row in rows)}
    if len(rows) < 2 or not shown:
        return ""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for name, text in shown.items():
        known = [(row["dampened"], row[name]) for row in rows if row.get(name) is not None]
        axes.plot(*zip(*known, strict=True), marker=".", label=text)
    for row in rows:
        if alpha is not None and row.get("alpha") == alpha:
            axes.axvline(row["dampened"], color="#333333", linestyle=":", label="the setting taken")
            break
    axes.set(xscale="log", xlabel="weights dampened", ylim=(-0.03, 1.03))
    axes.legend(fontsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    return drawn.getvalue().partition("<svg")[1] + drawn.getvalue().partition("<svg")[2]
