"""The command line for tests of sweeps: small blocks, nodes seen soon, a summary as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from theriac.cluster import cli, conductor, run_sweep as sweeping
from theriac.search.sweep.schedule import Schedule

BLOCK_SECONDS = 0.05
SUMMARY = "THERIAC_TEST_SUMMARY"


@contextmanager
def prepared(summary: Path) -> Iterator[None]:
    """Inside the block sweeps see nodes soon and take small blocks; the `Summary` goes to a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conductor, "GROW_SECONDS", 1.0)
        patch.setattr(sweeping, "Schedule", partial(Schedule, block_seconds=BLOCK_SECONDS))
        execute = sweeping.SweepRun.execute

        def noted(run: sweeping.SweepRun, *arguments: Any, **options: Any) -> sweeping.Summary:
            found = execute(run, *arguments, **options)
            summary.write_text(json.dumps(asdict(found)))
            return found

        patch.setattr(sweeping.SweepRun, "execute", noted)
        yield


def main() -> None:
    """`theriac`, but for a few numbers; the `Summary` goes to the file $THERIAC_TEST_SUMMARY."""
    with prepared(Path(os.environ[SUMMARY])):
        cli.main()


if __name__ == "__main__":
    main()
