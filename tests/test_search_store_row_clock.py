"""The newest row is the one that was written last, whatever the clocks said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from theriac.search.store import results
from theriac.search.store.compaction import compact
from theriac.search.store.results import ResultsStore

AHEAD = datetime(2090, 1, 1, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The moments that writers read off their clocks, the next one first."""
    moments: list[datetime] = []
    monkeypatch.setattr(results, "_next_moment", lambda: moments.pop(0))
    return moments


def write(directory: Path, *steps: int) -> None:
    """Each by a process of its own."""
    for step in steps:
        ResultsStore(directory).append("steps", [{"key": "k", "step": step}])


def steps(directory: Path) -> list[int]:
    return list(ResultsStore(directory, create=False).read("steps")["step"].to_pylist())


def test_a_clock_that_was_ahead_hides_no_later_row(tmp_path: Path, clock: list[datetime], caplog) -> None:
    clock += [AHEAD, AHEAD - timedelta(days=20_000), AHEAD - timedelta(days=19_999)]
    write(tmp_path, 1, 2, 3)
    assert steps(tmp_path) == [3]
    assert "dated 2090-01-01, when the clock of a machine was ahead" in caplog.text
    assert compact(ResultsStore(tmp_path), "steps", least=2) == 3
    assert steps(tmp_path) == [3]
    clock += [AHEAD - timedelta(days=10_000)]
    write(tmp_path, 4)
    assert steps(tmp_path) == [4]
    assert compact(ResultsStore(tmp_path), "steps", least=2) == 2
    assert steps(tmp_path) == [4]


def test_of_two_writers_with_different_clocks_the_later_one_counts(tmp_path: Path, clock) -> None:
    right, ahead = ResultsStore(tmp_path), ResultsStore(tmp_path)
    for step in range(6):
        writer = ahead if step % 2 == 0 else right
        clock.append(AHEAD if writer is ahead else datetime(2030, 1, 1, 0, step, tzinfo=UTC))
        writer.append("steps", [{"key": "k", "step": step}, {"key": f"own-{step}"}])
        assert right.read("steps").filter(pa.compute.field("key") == "k")["step"].to_pylist() == [step]
    assert right.read("steps").num_rows == 7


def test_what_the_rows_say_counts_and_not_the_name_of_the_file(tmp_path: Path, clock) -> None:
    clock += [datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)]
    path = ResultsStore(tmp_path).append("steps", [{"key": "k", "step": 1}])
    assert path is not None
    table = pq.read_table(path)
    index = table.schema.get_field_index("written_at")
    pq.write_table(
        table.set_column(index, table.schema.field(index), pa.array([AHEAD], table.schema.types[index])), path
    )
    write(tmp_path, 2)
    assert steps(tmp_path) == [2]


def test_a_right_clock_is_written_as_it_is(tmp_path: Path, clock) -> None:
    clock += [datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)]
    write(tmp_path, 1, 2)
    assert ResultsStore(tmp_path).read("steps")["written_at"].to_pylist() == [
        datetime(2030, 1, 2, tzinfo=UTC)
    ]


def test_the_end_of_time_is_no_error(tmp_path: Path, clock) -> None:
    clock += [datetime.max.replace(tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)]
    write(tmp_path, 1, 2)
    assert len(steps(tmp_path)) == 1
