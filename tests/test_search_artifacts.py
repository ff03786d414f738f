"""Models in the store appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

from theriac.errors import BadInput
from theriac.search.artifacts import ArtifactStore

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)}


def test_what_is_put_is_found(tmp_path: Path):
    store = ArtifactStore(tmp_path / "new")
    assert store.find("a") is None
    stored = store.put("a", WEIGHTS, {"seconds": 2.5})
    assert stored == store.find("a")
    assert stored.info == {"seconds": 2.5}
    assert all(torch.equal(stored.state_dict()[name], WEIGHTS[name]) for name in WEIGHTS)
    assert [p.name for p in (tmp_path / "new" / "models").iterdir()] == ["a"]


def test_the_first_of_two_writers_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = ArtifactStore(tmp_path)
    store.put("a", WEIGHTS, {"writer": 1})
    second = store.put("a", WEIGHTS, {"writer": 2})
    assert second.info == {"writer": 1}
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["a"]


def test_a_writer_killed_half_way_leaves_no_entry(tmp_path: Path):
    program = (
        "import os, signal, sys, torch\n"
        "from theriac.search import artifacts\n"
        "artifacts._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "artifacts.ArtifactStore(sys.argv[1]).put('a', {'w': torch.ones(3)}, {})\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    store = ArtifactStore(tmp_path)
    assert store.find("a") is None
    assert store.put("a", WEIGHTS, {}).info == {}


def test_who_is_killed_while_making_something_lets_the_next_in(tmp_path: Path):
    program = (
        "import sys, time\n"
        "from theriac.search.artifacts import ArtifactStore\n"
        "with ArtifactStore(sys.argv[1]).making('a'):\n"
        "    print('inside', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        lock = FileLock(tmp_path / "locks" / "a")
        with pytest.raises(Timeout):
            lock.acquire(timeout=0.1)
        process.kill()
    lock.acquire(timeout=10)
    lock.release()


def test_a_failing_rename_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        ArtifactStore(tmp_path).put("a", WEIGHTS, {})


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="choose a folder you may write to"):
        ArtifactStore(tmp_path / "file")


def test_the_root_does_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ArtifactStore("store")
    os.chdir("/")
    assert store.root == tmp_path / "store"
