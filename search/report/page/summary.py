"""The summary in plain words: what was run, how far it is, what heals best, and what to keep in mind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...averages import Rows
from ..status import FAILED, Standing
from ..status_lines import counted
from .provenance import torch_versions
from .results_read import ReadResults
from .winners import best_sentences

MOST_SWEEPS = 10
FEW = 6
"""Victims below which the paired test of two methods cannot reach the 5 % level: 2 / 2^5 > 0.05."""
STATES = {
    "running": "it is running",
    "finishing": "it is finishing what has begun",
    "interrupted": "it was interrupted, and the same command goes on",
    "lost": "its driver does not answer any more, and the same command goes on",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Sentences: what there is, what heals best, and what to keep in mind."""

    sweeps: tuple[str, ...]
    best: tuple[str, ...]
    caveats: tuple[str, ...]


def summary(results: ReadResults) -> Summary:
    """Put results in words."""
    lines = results.table.rows if len(results.searches) else ()
    return Summary(
        sweeps=tuple(_sweeps(results)),
        best=tuple(best_sentences(lines)),
        caveats=tuple(_caveats(results)) if len(results.searches) else (),
    )


def title(results: ReadResults) -> str:
    """Name the page by its sweeps."""
    named = [one.status.name for one in results.standings]
    own = [name for name in results.rows.coded("sweep").values if name] if len(results.searches) else []
    names = list(dict.fromkeys([*named, *map(str, own)]))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more or ", ".join(folder.name for folder in results.folders)


def _sweeps(results: ReadResults) -> Iterator[str]:
    yield _rows_sentence(results.rows)
    yield from map(_standing_sentence, results.standings[:MOST_SWEEPS])
    left = len(results.standings) - MOST_SWEEPS
    if left > 0:
        yield f"{counted(left, 'more sweep')} are in these folders."
    if not results.standings:
        yield "No sweep file lies beside these results, so what is missing of their sweeps is not known."


def _rows_sentence(rows: Rows) -> str:
    if not len(rows):
        return "No cell has finished yet."
    failed = int(rows.coded("status").where(lambda value: value in FAILED).sum())
    methods = len([one for one in rows.coded("method").values if one])
    seeds = len(rows.coded("seed").values)
    victims = len(np.unique(rows.victims()))
    words = [counted(len(rows) - failed, "cell"), "with a result", f"and {failed:,} failed" if failed else ""]
    about = f"{counted(methods, 'method')}, {counted(seeds, 'seed')}, {counted(victims, 'victim')}"
    return f"{' '.join(filter(None, words))}: {about}."


def _standing_sentence(standing: Standing) -> str:
    status = standing.status
    if status.total is None or status.done is None:
        return f"Sweep {status.name}: {status.problem or 'it cannot be read'}."
    parts = [f"{status.done:,} of {status.total:,} cells done"]
    parts += [f"{status.failed:,} failed"] if status.failed else []
    parts += [f"{len(standing.missing):,} missing"] if standing.missing else []
    state = STATES.get(status.state)
    return f"Sweep {status.name}: {', '.join(parts)}{f'; {state}' if state else ''}."


def _caveats(results: ReadResults) -> Iterator[str]:
    rows, lines = results.rows, results.table.rows
    oracle = sum(bool(line["uses_oracle"]) for line in lines)
    if oracle:
        yield (
            f"{counted(oracle, 'line')} with an asterisk chose by held-out truth (oracle): what they reach "
            "cannot be reached in use, so they do not compete above."
        )
    yield from _few(lines)
    yield from _statuses(rows)
    yield from _unlike(results)


def _few(lines: tuple[dict[str, object], ...]) -> Iterator[str]:
    numbers = [int(str(line["n"])) for line in lines if line["n"]]
    if numbers and min(numbers) < FEW:
        few = sum(number < FEW for number in numbers)
        yield (
            f"{few:,} of {len(numbers):,} lines stand on fewer than {FEW} rows (the fewest: {min(numbers)}): "
            "what heals best there is the greatest mean, and may be chance. theriac table --best tests it."
        )


def _statuses(rows: Rows) -> Iterator[str]:
    status = rows.coded("status")
    counts = dict(zip(status.values, np.bincount(status.codes, minlength=len(status.values)), strict=True))
    words = {
        "gate_failed": "rows belong to victims that missed their gate: they are counted, and never averaged.",
        "failed": "rows failed: they are counted, and never averaged.",
        "no_stop": "searches found no stop and left the victim as it was; averages hold them.",
        "collapsed": "searches ended with a collapsed model; averages hold them.",
    }
    for name, sentence in words.items():
        if counts.get(name):
            yield f"{int(counts[name]):,} {sentence}"


def _unlike(results: ReadResults) -> Iterator[str]:
    bare = int(results.rows.coded("setup").where(lambda value: value is None).sum())
    if bare:
        yield (
            f"{bare:,} rows do not say what their victim is, because an older version wrote them: each of "
            "their scenarios is a line of its own."
        )
    versions = torch_versions(results)
    if len(versions) > 1:
        yield f"Rows were computed with several versions of PyTorch: {', '.join(versions)}; see Provenance."
