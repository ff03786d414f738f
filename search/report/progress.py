"""A sweep as its driver sees it, in a file that is always whole, and as `theriac status` reports it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ...errors import BadInput, explain_validation
from ..store import read_small, write_atomically


class Running(BaseModel):
    """What one worker does: ``done`` of ``total`` (None: not known) of ``doing``, such as "training victim".

    ``method`` and ``share`` are None while it prepares a scenario, not a cell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    worker: int
    node: str
    doing: str
    scenario: str
    method: str | None = None
    share: str | None = None
    done: int = 0
    total: int | None = None


class SweepProgress(BaseModel):
    """A sweep as its driver sees it, rewritten every 2 seconds.

    Attributes:
        name: of the sweep.
        sweep: key of the sweep.
        run: key of the row in ``runs``.
        host: where the driver runs.
        pid: of the driver.
        processes: `process_table` of the driver; None where an earlier release wrote this.
        started_at: when this run began.
        updated_at: when this was written.
        state: "finishing" lets running cells end after Ctrl-C; "interrupted" can be resumed.
        workers: how many work.
        cells_total: cells of the sweep.
        cells_present: cells that were in the results before this run.
        cells_done: cells computed in this run.
        cells_failed: cells that failed in this run.
        configurations: search settings evaluated in this run.
        seconds: since ``started_at``.
        left_seconds: estimate of `estimate_left`.
        running: what each worker does.
        lost_workers: workers that died.
        retried: pieces of work that were done again because of that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sweep: str
    run: str
    host: str
    pid: int
    processes: str | None = None
    started_at: AwareDatetime
    updated_at: AwareDatetime
    state: Literal["running", "finishing", "finished", "interrupted"]
    workers: int
    cells_total: int
    cells_present: int = 0
    cells_done: int = 0
    cells_failed: int = 0
    configurations: int = 0
    seconds: float = 0.0
    left_seconds: float | None = None
    running: tuple[Running, ...] = ()
    lost_workers: int = 0
    retried: int = 0

    def write(self, path: Path) -> None:
        """Replace the file at ``path``; who reads it sees the whole old or the whole new one.

        Raises:
            OSError: as the file system says; the old file stays.
        """
        text = self.model_dump_json(indent=2) + "\n"
        write_atomically(path, lambda temporary: _write_text(temporary, text))

    @classmethod
    def read(cls, path: Path) -> SweepProgress:
        """Read what was written last.

        Raises:
            BadInput: there is no such file, or it is not what `write` makes.
        """
        try:
            return cls.model_validate_json(read_small(path).decode())
        except ValidationError as error:
            raise explain_validation(error, f"progress file {path}", cls.model_fields) from None
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"progress file {path} cannot be read ({error}); run the sweep again") from error


def process_table() -> str | None:
    """Name what numbers of processes belong to: a machine since its start, a container.

    None where the system does not tell (it is not Linux).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def is_gone(progress: SweepProgress) -> bool:
    """Tell whether the driver is known to have ended: its number is of our table, and nobody has it."""
    if progress.processes is None or progress.processes != process_table():
        return False
    try:
        fields = Path(f"/proc/{progress.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return fields.rpartition(")")[2].split()[0] in ("Z", "X")  # killed, and not yet buried by its parent


class Failure(BaseModel):
    """Cells that failed alike: how many, and the message of one of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_class: str
    count: int
    message: str


class SweepStatus(BaseModel):
    """A sweep as the results show it; right also when its driver was killed.

    Attributes:
        sweep: key of the sweep: the name of its files.
        name: of the sweep.
        state: of the driver; "lost" if it stopped answering, "unknown" without a readable progress file.
        progress: what the driver wrote last.
        total: cells of the sweep; this and the counts are None if the sweep cannot be read.
        done: cells whose newest row is a result, from whatever run or release.
        running: cells that workers are at, as the driver says, told apart by scenario, method and share.
        failed: cells whose newest row is a failure.
        to_go: all other cells.
        configurations_per_second: evaluated search settings, over the whole run.
        left_seconds: of the driver while it runs, else `estimate_left` with as many workers as it had.
        failures: by error class, most frequent first.
        problem: what could not be read, and why; None if all could.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sweep: str
    name: str
    state: Literal["running", "finishing", "finished", "interrupted", "lost", "unknown"]
    progress: SweepProgress | None = None
    total: int | None = None
    done: int | None = None
    running: int = 0
    failed: int | None = None
    to_go: int | None = None
    configurations_per_second: float | None = None
    left_seconds: float | None = None
    failures: tuple[Failure, ...] = ()
    problem: str | None = None


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
