"""Results of earlier versions of theriac, written anew with the present columns.

Other programs take the columns of a folder from its first file: where parts differ, some of them leave out
what only newer parts have. So a sweep that goes on in an old folder first gives all parts one schema.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from filelock import Timeout

from ...errors import BadInput
from .compaction import LoadedPart, compaction_lock, replace_parts
from .parts import UnusablePart, is_outdated, read_part
from .results import PartsChanged, ResultsStore, list_parts
from .schemas import SCHEMAS

log = logging.getLogger(__name__)

OLD_MARK = ".generation"
"""Version 1 kept the mark of compactions among the parts, where it is in the way of other programs."""


def upgrade(results: ResultsStore, describe: Callable[[pa.Table], pa.Table]) -> int:
    """Write parts of earlier versions anew, each whole before the old one goes; rows keep their moments.

    What cannot be read stays as it is, and so do parts with columns that this version does not know.
    Whatever stands in the way is logged: reading does not need this.

    Args:
        results: whose parts.
        describe: fills the columns of rows of ``searches`` that earlier versions did not write.

    Returns:
        How many parts were written anew.
    """
    return sum(_upgrade_table(results.directory, table, describe) for table in SCHEMAS)


def _upgrade_table(directory: Path, table: str, describe: Callable[[pa.Table], pa.Table]) -> int:
    folder, schema = directory / table, SCHEMAS[table]
    try:
        old = [path for path in list_parts(folder) if is_outdated(path, table, schema)]
        if not old and not (folder / OLD_MARK).is_file():
            return 0
        with compaction_lock(directory, table):
            (folder / OLD_MARK).unlink(missing_ok=True)
            return sum(_rewrite(path, table, schema, describe) for path in old)
    except (Timeout, PartsChanged) as change:
        log.debug("%s of %s is being changed by another process: %s", table, directory, change)
    except (OSError, NotImplementedError, UnusablePart, pa.ArrowException) as error:
        log.warning("%s in %s keeps parts of an earlier version; all is read: %s", table, directory, error)
    return 0


def _rewrite(path: Path, table: str, schema: pa.Schema, describe: Callable[[pa.Table], pa.Table]) -> int:
    try:
        rows = read_part(path, table, schema)
    except (UnusablePart, BadInput) as error:
        log.debug("not written anew: %s: %s", path, error)
        return 0
    rows = describe(rows) if table == "searches" else rows
    return replace_parts([LoadedPart(path=path, size=0, rows=rows)], table, schema)
