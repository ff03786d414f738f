"""The columns of tables of searches: what they show, and how numbers look."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import BadInput, closest
from .result_table import SOFT, Column


def percent(value: float) -> str:
    """Write a share in percent."""
    return f"{100 * value:.1f}"


def whole(value: float) -> str:
    """Write a count."""
    return f"{value:,.0f}"


def one_digit(value: float) -> str:
    """Write a number with one digit after the point."""
    return f"{value:.1f}"


def signed(value: float) -> str:
    """Write percentage points with their sign."""
    return f"{value:+z.1f}"


def significant(value: float) -> str:
    """Write three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.2e}".replace("e+0", "e").replace("e+", "e")


CONTEXT_COLUMNS = (
    Column(header="dataset", fields=("dataset",), right=False, identity=True),
    Column(header="model", fields=("model",), right=False, identity=True),
    Column(header="attack", fields=("attack",), right=False, identity=True),
    Column(header="|S_m|", fields=("manipulated",), show=whole, identity=True),
    Column(header="share", fields=("share",), identity=True),
    Column(header="seed", fields=("seed",), show=lambda value: f"{value:.0f}", identity=True),
)
METHOD_COLUMNS = (
    Column(header="method", fields=("method_name",), right=False, identity=True),
    Column(
        header=f"granu{SOFT}larity", fields=("granularity",), right=False, identity=True, only_if_any=True
    ),
    Column(header="settings", fields=("settings_note",), right=False, identity=True, only_if_any=True),
    Column(header="n", fields=("n_note",), only_if_any=True, identity=True),
)
MEASURE_COLUMNS = {
    "clean_accuracy": Column(
        header="clean acc. %", fields=("clean_accuracy_before", "clean_accuracy"), show=percent
    ),
    "damage": Column(header=f"dam{SOFT}age", fields=("damage",), show=signed),
    "asr": Column(header="ASR %", fields=("asr_before", "asr"), show=percent, lower_is_better=True),
    "healed_raw": Column(header=f"healed{SOFT}_raw %", fields=("healed_raw",), show=percent),
    "healed": Column(header="healed %", fields=("healed",), show=one_digit, only_if_any=True),
    "alpha": Column(header="alpha", fields=("alpha",), show=significant, judged=False),
    "dampening_constant": Column(
        header="lambda", fields=("dampening_constant",), show=significant, only_if_not=1.0, judged=False
    ),
    "steps": Column(header="steps", fields=("steps",), show=whole, judged=False),
    "dampened": Column(header=f"damp{SOFT}ened", fields=("dampened",), show=whole, judged=False),
    "seconds": Column(header=f"sec{SOFT}onds", fields=("seconds",), show=one_digit, judged=False),
}
"""Measure -> its column, from left to right."""
STATUS_COLUMN = Column(header="status", fields=("status_note",), right=False)


def measure_columns(names: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of some measures, in the order asked for; of all, if none is named.

    Raises:
        BadInput: there is no such measure.
    """
    for name in names:
        if name not in MEASURE_COLUMNS:
            raise BadInput(
                f"there is no measure {name!r}; choose from {', '.join(MEASURE_COLUMNS)}"
                f"{closest(name, MEASURE_COLUMNS)}"
            )
    return tuple(MEASURE_COLUMNS[name] for name in names or MEASURE_COLUMNS)
