"""What a page is made of: everything that is read, once."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from ...averages import Rows
from ...store import SCHEMAS, ResultsStore, coded_schema
from ..finished import finished_searches
from ..lines import Lines, arranged
from ..result_table import ResultTable
from ..status import Standing, standings
from ..table import lines_table
from ..table_choice import TableChoice

CHOICE = TableChoice(aggregate=True)
RUN_COLUMNS = ("started_at", "command", "versions", "device", "git_commit")
ALIVE = ("running", "finishing")


@dataclass(frozen=True, kw_only=True)
class ReadResults:
    """Results folders as they were read.

    Attributes:
        folders: as they were given.
        searches: rows of all of them, the newest of each key.
        runs: likewise.
        standings: how their sweeps stand.
    """

    folders: tuple[Path, ...]
    searches: pa.Table
    runs: pa.Table
    standings: tuple[Standing, ...]

    @cached_property
    def rows(self) -> Rows:
        """Return the searches by fields."""
        return Rows(self.searches)

    @cached_property
    def lines(self) -> Lines:
        """Return the searches averaged over seeds."""
        return arranged(self.searches, CHOICE)

    @cached_property
    def table(self) -> ResultTable:
        """Return the averages as a table, lines in its order."""
        return lines_table(self.lines, CHOICE)

    @property
    def alive(self) -> bool:
        """Tell whether a sweep is under way."""
        return any(one.status.state in ALIVE for one in self.standings)

    def command(self, name: str, *options: str) -> str:
        """Write a command of theriac on these folders, for a shell."""
        return shlex.join(["theriac", name, *map(str, self.folders), *options])


def read_results(*folders: Path, empty: bool = False) -> ReadResults:
    """Read results folders.

    Args:
        folders: one at least.
        empty: take folders without a finished search, too.

    Raises:
        BadInput: there is no such folder, or no search in any.
    """
    stores = [ResultsStore(folder, create=False) for folder in folders]
    there = not empty or any(len(store.read("searches", columns=())) for store in stores)
    return ReadResults(
        folders=folders,
        searches=finished_searches(*folders) if there else coded_schema(SCHEMAS["searches"]).empty_table(),
        runs=pa.concat_tables([store.read("runs", columns=RUN_COLUMNS) for store in stores]),
        standings=tuple(one for folder in folders for one in standings(folder)),
    )
