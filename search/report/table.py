"""The table people read, from the ``searches`` rows: to the terminal, Markdown, LaTeX or CSV.

`searches_table` decides what is shown (rows, columns, order, footnotes); `render` and `TerminalTable` how it
looks. Accuracies, ASR and healing are shown in percent, damage in percentage points; what was not measured is
an en dash.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from ...rows import Row
from ...unlearning.kinds import GRANULARITIES
from ..methods import METHOD_ENTRIES
from ..searches import SEARCH_ENTRIES
from .table_formats import FORMATS, SOFT, Column, ResultTable, Spread, TerminalTable, render

__all__ = ["FORMATS", "ResultTable", "TerminalTable", "describe", "method_name", "render", "searches_table"]

CONTEXT = ("dataset", "model", "attack", "manipulated", "share")
"""What one experiment differs from another in, besides the seed."""
GROUP = (*CONTEXT, "method", "granularity", "search", "uses_oracle")
"""What rows must agree in to be averaged; rows that saw held-out truth never mix with those that did not."""


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _one_digit(value: float) -> str:
    return f"{value:.1f}"


def _signed(value: float) -> str:
    return f"{value:+z.1f}"


def _significant(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.2e}".replace("e+0", "e").replace("e+", "e")


CONTEXT_COLUMNS = (
    Column(header="dataset", fields=("dataset",), right=False, identity=True),
    Column(header="model", fields=("model",), right=False, identity=True),
    Column(header="attack", fields=("attack",), right=False, identity=True),
    Column(header="|S_m|", fields=("manipulated",), show=_whole, identity=True),
    Column(header="share", fields=("share",), identity=True),
    Column(header="seed", fields=("seed",), show=lambda value: f"{value:.0f}", identity=True),
    Column(header="scenario", fields=("scenario_short",), right=False, identity=True),
)
COLUMNS = (
    Column(header="method", fields=("method_name",), right=False, identity=True),
    Column(header=f"granu{SOFT}larity", fields=("granularity",), right=False, identity=True),
    Column(header="n", fields=("n",), show=_whole, only_if_any=True, identity=True),
    Column(header="clean acc. %", fields=("clean_accuracy_before", "clean_accuracy"), show=_percent),
    Column(header=f"dam{SOFT}age", fields=("damage",), show=_signed),
    Column(header="ASR %", fields=("asr_before", "asr"), show=_percent),
    Column(header=f"healed{SOFT}_raw %", fields=("healed_raw",), show=_percent),
    Column(header="healed %", fields=("healed",), show=_one_digit, only_if_any=True),
    Column(header="alpha", fields=("alpha",), show=_significant),
    Column(header="lambda", fields=("dampening_constant",), show=_significant, only_if_not=1.0),
    Column(header="steps", fields=("steps",), show=_whole),
    Column(header=f"damp{SOFT}ened", fields=("dampened",), show=_whole),
    Column(header=f"sec{SOFT}onds", fields=("seconds",), show=_one_digit),
    Column(header="status", fields=("status_note",), right=False),
)
MEASURES = (
    "clean_accuracy_before",
    "clean_accuracy",
    "damage",
    "asr_before",
    "asr",
    "healed_raw_before",
    "healed_raw",
    "healed",
    "alpha",
    "dampening_constant",
    "steps",
    "dampened",
    "seconds",
)
"""The fields that are averaged over seeds."""
TEXTS = ("status", "uses_oracle", "objective", "parameters", "error_class", "error_message")


def searches_table(searches: pa.Table, *, aggregate: bool = False) -> ResultTable:
    """Arrange ``searches``: one line per method and granularity (and scenario, share, seed if several).

    The order is that of `METHOD_ENTRIES`, sample before batch. What all rows share goes into the caption.
    ``seconds`` is the time of the method itself: importances and search, without the training of the victim
    and the evaluation.

    Args:
        searches: as `ResultsStore.read` gives them.
        aggregate: mean ± sample standard deviation over the rows that differ in the seed only. Values a
            row lacks (it failed, say) do not count; "(k)" follows an average of fewer than the ``n`` rows.
    """
    rows = sorted((_prepared(row) for row in searches.to_pylist()), key=_order)
    notes = _oracle_note(rows) + (_repeat_note(rows) if aggregate else [])
    errors = _number_errors(rows)
    shown = sorted(map(_summary, _groups(rows)), key=_order) if aggregate else rows
    varying = _varying(shown)
    return ResultTable(
        caption=_caption(shown, varying),
        columns=_columns(shown, varying),
        rows=tuple(_with_names(row, errors) for row in shown),
        footnotes=tuple(notes + [f"[{number}] {message}" for message, number in errors.items()]),
        fields=_csv_fields(aggregate),
        averaged=MEASURES if aggregate else (),
    )


def _prepared(row: Row) -> Row:
    phases = [row[name] for name in ("seconds_importance", "seconds_search")]
    known = [phase for phase in phases if isinstance(phase, int | float)]
    return {**row, "seconds": math.fsum(known) if known else None, "uses_oracle": bool(row["uses_oracle"])}


def _order(row: Row) -> tuple[object, ...]:
    context = [_sortable(row[name]) for name in (*CONTEXT, "seed", "scenario")]
    method = (
        _position(row["method"], tuple(METHOD_ENTRIES)),
        _sortable(row["method"]),
        _sortable(row["search"]),
    )
    return (*context, *method, _position(row["granularity"], (None, *GRANULARITIES)), row["uses_oracle"])


def _sortable(value: object) -> tuple[int, float, str]:
    """Order missing values first, then numbers (also as text, such as the share "0.2"), then texts."""
    if value is None:
        return (0, 0.0, "")
    try:
        return (1, float(str(value)), "")
    except ValueError:
        return (2, 0.0, str(value))


def _position(value: object, order: Sequence[object]) -> int:
    return order.index(value) if value in order else len(order)


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in GROUP), []).append(row)
    return list(groups.values())


def _summary(group: Sequence[Row]) -> Row:
    statuses = Counter(str(row["status"]) for row in group)
    several = ", ".join(f"{status} {count}" for status, count in statuses.items())
    common = {name: group[0][name] for name in GROUP} | {"seed": None, "scenario": None, "n": len(group)}
    texts = {"status": several if len(statuses) > 1 else group[0]["status"], "members": tuple(group)}
    return {**common, **texts, **{name: _spread([row[name] for row in group]) for name in MEASURES}}


def _spread(values: Sequence[object]) -> Spread | None:
    known = [float(value) for value in values if isinstance(value, int | float) and not math.isnan(value)]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 and all(map(math.isfinite, known)) else None
    return Spread(mean=math.fsum(known) / len(known), sd=sd, n=len(known))


def _number_errors(rows: Sequence[Row]) -> dict[str, int]:
    """Number the errors for footnotes, in the order of the rows; equal errors share one."""
    messages = [_error(row) for row in rows]
    return {message: number for number, message in enumerate(dict.fromkeys(filter(None, messages)), start=1)}


def _error(row: Row) -> str:
    parts = [str(row[name]) for name in ("error_class", "error_message") if row.get(name)]
    if not parts and row["status"] == "failed":
        parts = ["no message was recorded"]
    return " ".join(": ".join(parts).split())


def _oracle_note(rows: Sequence[Row]) -> list[str]:
    return (
        ["* chosen with held-out truth (oracle); not deployable"]
        if any(r["uses_oracle"] for r in rows)
        else []
    )


def _repeat_note(rows: Sequence[Row]) -> list[str]:
    repeated = any(len({row["seed"] for row in group}) < len(group) for group in _groups(rows))
    return (
        ["n counts searches; some lines hold several of one seed, which differ in settings"]
        if repeated
        else []
    )


def _with_names(row: Row, errors: Mapping[str, int]) -> Row:
    members = row.get("members", (row,))
    numbers = sorted({errors[_error(r)] for r in members if _error(r)}) if isinstance(members, tuple) else []
    note = "".join(f" [{number}]" for number in numbers)
    status = None if row["status"] is None else f"{row['status']}{note}"
    short = str(row["scenario"])[:8] if row["scenario"] else None
    return {**row, "method_name": method_name(row), "status_note": status, "scenario_short": short}


def method_name(row: Row) -> str | None:
    """Return the display name of a row's method, such as "PTN-XLF"; an asterisk marks held-out truth."""
    if row["method"] is None:
        return None
    entry = METHOD_ENTRIES.get(str(row["method"]))
    name = entry.title if entry else str(row["method"]).upper()
    search = SEARCH_ENTRIES.get(str(row["search"])) if entry is None or entry.searched else None
    return (f"{search.title}-{name}" if search else name) + ("*" if row["uses_oracle"] else "")


def _varying(rows: Sequence[Row]) -> set[str]:
    """Find the context that tells lines apart; the scenario's hash only if all the rest does not."""
    names = (*CONTEXT, "seed")
    varying = {name for name in names if len({row[name] for row in rows} - {None}) > 1}
    contexts = {tuple(row[name] for name in names if name != "share") for row in rows if row["scenario"]}
    if len({row["scenario"] for row in rows} - {None}) > len(contexts):
        varying.add("scenario_short")
    return varying


def _caption(rows: Sequence[Row], varying: set[str]) -> str:
    return describe({name: _only(rows, name) for name in (*CONTEXT, "seed") if name not in varying})


def describe(context: Row) -> str:
    """Say what a table or figure is about: "digits, resnet9, badnets, |S_m| = 100, share 0.2, seed 0"."""
    plain = [str(context[name]) for name in ("dataset", "model", "attack") if context.get(name) is not None]
    titles = {"manipulated": "|S_m| = {}", "share": "share {}", "seed": "seed {}"}
    named = [title.format(context[name]) for name, title in titles.items() if context.get(name) is not None]
    return ", ".join(plain + named).replace("share one_shot", "one-shot")


def _only(rows: Sequence[Row], name: str) -> object:
    return next((row[name] for row in rows if row[name] is not None), None)


def _columns(rows: Sequence[Row], varying: set[str]) -> tuple[Column, ...]:
    context = [column for column in CONTEXT_COLUMNS if column.fields[0] in varying]
    return (*context, *(column for column in COLUMNS if column.wanted(rows)))


def _csv_fields(aggregate: bool) -> tuple[str, ...]:
    if aggregate:
        return (*CONTEXT, "method", "granularity", "search", "n", *MEASURES, "status", "uses_oracle")
    context = (*CONTEXT, "discovered", "target", "seed", "scenario")
    return (*context, "method", "granularity", "search", *MEASURES, "s", *TEXTS)
