"""The command line in a process of its own, for tests: small blocks, nodes seen soon, a summary as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from theriac.cluster import cli, conductor, run_sweep as sweeping
from theriac.search.sweep.schedule import Schedule

BLOCK_SECONDS = 0.05
SUMMARY = "THERIAC_TEST_SUMMARY"


def main() -> None:
    """`theriac`, but for a few numbers; the `Summary` goes to the file $THERIAC_TEST_SUMMARY."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conductor, "GROW_SECONDS", 1.0)
        patch.setattr(sweeping, "Schedule", partial(Schedule, block_seconds=BLOCK_SECONDS))
        execute = sweeping.SweepRun.execute

        def noted(run: sweeping.SweepRun, *arguments: Any, **options: Any) -> sweeping.Summary:
            summary = execute(run, *arguments, **options)
            Path(os.environ[SUMMARY]).write_text(json.dumps(asdict(summary)))
            return summary

        patch.setattr(sweeping.SweepRun, "execute", noted)
        cli.main()


if __name__ == "__main__":
    main()
