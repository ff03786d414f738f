"""Compaction among processes: writers, readers and other compactors at once, and kill -9 at every step."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from theriac.search.store.compaction import compact
from theriac.search.store.results import ResultsStore
from theriac.tests.results_parts import fill, parts

BESIDE = """
import os, sys
from pathlib import Path
from theriac.search.store import compaction
from theriac.search.store.results import ResultsStore
role, directory, name, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
store = ResultsStore(directory)

def finished():
    return {path.name: int(path.read_text()) for path in (directory / "finished").glob("[!.]*")}

def write():
    for i in range(count):
        rows = [{"key": f"{name}-{i}", "step": i}, {"key": f"{name}-newest", "step": i}]
        store.append("steps", rows)
        (directory / "finished" / f".{name}").write_text(str(i))
        os.replace(directory / "finished" / f".{name}", directory / "finished" / name)

def read():
    rows, reads = {}, 0
    while reads < 2 or not (directory / "stop").exists():
        before = finished()
        now = dict(zip(*(store.read("steps").select(["key", "step"]).to_pydict().values())))
        assert not store.skipped, store.skipped
        for writer, last in before.items():
            missing = [i for i in range(last + 1) if f"{writer}-{i}" not in now]
            assert not missing, (writer, last, missing)
            assert now[f"{writer}-newest"] >= last
        assert not rows.keys() - now.keys()
        assert all(now[key] >= step for key, step in rows.items())
        rows, reads = now, reads + 1
    print(reads)

def compact():
    merged = 0
    while not (directory / "stop").exists():
        merged += compaction.compact(store, "steps", least=2)
    print(merged + compaction.compact(store, "steps", least=2))

print("ready", flush=True)
{"write": write, "read": read, "compact": compact}[role]()
"""

KILLED_AT = """
import os, pathlib, signal, sys
from theriac.search.store import compaction, results
store = results.ResultsStore(sys.argv[1])
owner = {"fsync": os, "replace": os, "unlink": pathlib.Path}[sys.argv[2]]
original, calls = vars(owner)[sys.argv[2]], [0]
def die(*arguments, **options):
    calls[0] += 1
    if calls[0] == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, sys.argv[2], die)
compaction.compact(store, "steps", least=2)
"""


def start(role: str, directory: Path, name: str = "-", count: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BESIDE, role, str(directory), name, str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("function", "call"),
    [("fsync", 1), ("replace", 1), ("fsync", 2), ("replace", 2), ("unlink", 1), ("unlink", 3), ("unlink", 5)],
)
def test_killed_at_any_step_loses_nothing_and_the_next_cleans_up(
    tmp_path: Path, function: str, call: int
) -> None:
    store = ResultsStore(tmp_path)
    fill(store)
    before = store.read("steps")
    command = [sys.executable, "-c", KILLED_AT, str(tmp_path), function, str(call)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert store.read("steps").equals(before)
    assert store.skipped == ()
    assert compact(store, "steps", least=2) > 0
    assert store.read("steps").equals(before)
    assert len(parts(tmp_path)) == 1


def test_writers_readers_and_compactors_at_once(tmp_path: Path) -> None:
    (tmp_path / "finished").mkdir()
    store = ResultsStore(tmp_path)
    others = [start("compact", tmp_path), start("compact", tmp_path), start("read", tmp_path)]
    others.append(start("read", tmp_path))
    writers = [start("write", tmp_path, name, 120) for name in ("left", "right")]
    assert [writer.wait() for writer in writers] == [0, 0], [writer.communicate() for writer in writers]
    (tmp_path / "stop").touch()
    outputs = [process.communicate() for process in others]
    assert [process.returncode for process in others] == [0] * 4, outputs
    counts = [int(output) for output, _ in outputs]
    assert sum(counts[:2]) >= 10
    assert min(counts[2:]) >= 2
    rows = {row["key"]: row["step"] for row in store.read("steps").to_pylist()}
    expected = {f"{name}-{i}": i for name in ("left", "right") for i in range(120)}
    assert rows == {**expected, "left-newest": 119, "right-newest": 119}
    compact(store, "steps", least=2)
    assert len(parts(tmp_path)) == 1


def test_a_compactor_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    for attempt in range(5):
        compactor = start("compact", tmp_path)
        for i in range(6 + attempt):
            store.append("steps", [{"key": f"{attempt}-{i}"}, {"key": "newest", "step": attempt}])
        compactor.kill()
        assert compactor.wait() == -signal.SIGKILL
        rows = {row["key"]: row["step"] for row in store.read("steps").to_pylist()}
        assert len(rows) == 1 + sum(6 + j for j in range(attempt + 1))
        assert rows["newest"] == attempt
        assert store.skipped == ()
