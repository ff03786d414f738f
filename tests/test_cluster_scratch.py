"""Temporary folders: gone at the end, and those of killed processes at the next start, but nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from theriac.cluster import scratch
from theriac.cluster.scratch import remove_abandoned, remove_also, scratch_folder

OWNER = """
import os, signal, sys, tempfile
from pathlib import Path
tempfile.tempdir = sys.argv[1]
from theriac.cluster.scratch import remove_also, scratch_folder
with scratch_folder("test") as folder:
    remove_also(folder, Path(sys.argv[2]))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", -1.0)
    return folder


def test_it_is_gone_at_the_end_with_what_belongs_to_it(temporary: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with scratch_folder("test") as folder:
        remove_also(folder, other)
        remove_abandoned()
        assert folder.parent == temporary
        assert folder.is_dir()
    assert not folder.exists()
    assert not other.exists()


def test_the_next_start_removes_what_a_killed_process_left(temporary: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    killed = subprocess.run([sys.executable, "-c", OWNER, str(temporary), str(other)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(temporary)) == 1
    with scratch_folder("test") as folder:
        assert list(temporary.iterdir()) == [folder]
    assert not other.exists()


def test_young_folders_and_those_of_others_stay(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = temporary / "theriac-my-results"  # has no lock
    results.mkdir()
    locked = temporary / "theriac-test-old"
    locked.mkdir()
    (locked / scratch.LOCK).touch()
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", 60.0)
    remove_abandoned()
    assert locked.is_dir(), "too young"
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", -1.0)
    monkeypatch.setattr(os, "getuid", lambda: -1)
    remove_abandoned()
    assert locked.is_dir(), "somebody else's"
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", -1.0)
    remove_abandoned()
    assert not locked.exists()
    assert results.is_dir()
