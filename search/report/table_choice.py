"""What can be chosen about a table."""

from __future__ import annotations

from dataclasses import dataclass

STATISTICS = ("sd", "interval", "median")
"""What of an average is shown: see `TableChoice`."""


@dataclass(frozen=True, kw_only=True)
class TableChoice:
    """What of the rows a table shows, and how it averages.

    Args:
        aggregate: average over what is pooled; False: a line for each row.
        where: an expression that chooses rows, see `theriac.search.averages.chosen`; "": all.
        pool: fields over which a line averages; rows that differ in anything else are in different lines.
        by: fields that tell lines apart, and nothing else may; (): whatever differs does.
        columns: measures to show; (): all.
        statistic: "sd" (mean ± sample standard deviation), "interval" (mean and its 95 % bootstrap interval
            over victims) or "median".
        pivot: a field whose values stand side by side, as columns; "": none does.
        best: mark the method that is better than all others of its context, beyond chance.
    """

    aggregate: bool = False
    where: str = ""
    pool: tuple[str, ...] = ("seed",)
    by: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    statistic: str = "sd"
    pivot: str = ""
    best: bool = False
