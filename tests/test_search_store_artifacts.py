"""Models in the store appear whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

from theriac.errors import BadInput
from theriac.search.store import entries
from theriac.search.store.artifacts import ArtifactStore
from theriac.unlearning.importance.estimate import Importance

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)}


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_put_is_found(tmp_path: Path):
    store = ArtifactStore(tmp_path / "new")
    assert store.find("a") is None
    stored = store.put("a", WEIGHTS, {"seconds": 2.5})
    assert stored == store.find("a")
    assert stored.info == {"seconds": 2.5}
    assert all(torch.equal(stored.state_dict()[name], WEIGHTS[name]) for name in WEIGHTS)
    assert names(tmp_path / "new" / "models") == ["a"]


def test_the_first_of_two_writers_stands(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    store.put("a", WEIGHTS, {"writer": 1})
    second = store.put("a", WEIGHTS, {"writer": 2})
    assert second.info == {"writer": 1}
    assert names(tmp_path / "models") == ["a"]


def test_a_writer_killed_half_way_leaves_no_entry(tmp_path: Path):
    program = (
        "import os, signal, sys, torch\n"
        "from theriac.search.store import artifacts, entries\n"
        "entries._renamed = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "artifacts.ArtifactStore(sys.argv[1]).put('a', {'w': torch.ones(3)}, {})\n"
    )
    assert run(program, tmp_path).returncode == -9
    store = ArtifactStore(tmp_path)
    assert store.find("a") is None
    assert store.usage()["models"] == (0, 0)
    assert store.put("a", WEIGHTS, {}).info == {}


def test_who_is_killed_while_making_something_lets_the_next_in(tmp_path: Path):
    program = (
        "import sys, time\n"
        "from theriac.search.store.artifacts import ArtifactStore\n"
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
    store = ArtifactStore(tmp_path)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(BadInput, match="no space left"):
        store.put("a", WEIGHTS, {})
    assert names(tmp_path / "models") == []


@pytest.mark.parametrize("kind", ["models", "importances"])
def test_a_disk_that_fills_up_is_named_and_no_half_entry_stays(tmp_path: Path, kind: str):
    """A limit on the size of files stops the writer like a full disk does, in the middle of the data."""
    program = (
        "import resource, sys, torch\n"
        "from theriac.errors import BadInput\n"
        "from theriac.search.store.artifacts import ArtifactStore\n"
        "from theriac.unlearning.importance import Importance\n"
        "store, tensors = ArtifactStore(sys.argv[1]), {'w': torch.ones(100_000)}\n"
        "importance = Importance(total=tensors, count=1, kind='lf', granularity='sample')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    if sys.argv[2] == 'models':\n"
        "        store.put('a', tensors, {})\n"
        "    else:\n"
        "        store.put_importance('a', importance, {})\n"
        "except BadInput as error:\n"
        "    print(error)\n"
    )
    done = run(program, tmp_path, kind)
    assert done.stdout.startswith(f"cannot write {tmp_path}"), done.stderr
    assert "free space" in done.stdout
    assert names(tmp_path / kind) == []


def cut_data(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(30)


def empty_info(folder: Path) -> None:
    (folder / "info.json").write_bytes(b"")


def no_data(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def other_json(folder: Path) -> None:
    (folder / "info.json").write_text("[1]")


@pytest.mark.parametrize("tear", [cut_data, empty_info, no_data, other_json])
def test_a_torn_entry_is_missing_said_once_and_replaced(tmp_path: Path, caplog, tear):
    store = ArtifactStore(tmp_path)
    store.put("a", WEIGHTS, {"writer": 1})
    tear(tmp_path / "models" / "a")
    with caplog.at_level(logging.WARNING):
        assert store.find("a") is None
        assert ArtifactStore(tmp_path).find("a") is None
    assert [record.getMessage().startswith(str(tmp_path)) for record in caplog.records] == [True]
    stored = store.put("a", WEIGHTS, {"writer": 2})
    assert stored.info == {"writer": 2}
    assert torch.equal(stored.state_dict()["w"], WEIGHTS["w"])
    assert names(tmp_path / "models") == ["a"]


def test_entries_of_before_there_were_checksums_are_named_kept_and_made_again(tmp_path: Path, caplog):
    store = ArtifactStore(tmp_path)
    file = store.put("a", WEIGHTS, {"writer": 1}).weights.with_name("info.json")
    file.write_text(json.dumps({"writer": 1}))
    assert store.find("a") is None
    assert "has no checksum, as an earlier version of theriac wrote it" in caplog.text
    (aside,) = (tmp_path / "damaged").iterdir()
    assert names(aside) == ["info.json", "model.safetensors"]
    assert store.put("a", WEIGHTS, {"writer": 2}).info == {"writer": 2}


def test_all_is_on_the_disk_before_the_entry_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    replace = os.replace

    def renamed(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(entries, "flush", lambda path: events.append(path.name))
    monkeypatch.setattr("os.replace", renamed)
    ArtifactStore(tmp_path).put("a", WEIGHTS, {})
    data, info, staging, rename, parent = events
    assert (data, info, rename, parent) == ("model.safetensors", "info.json", "rename", "models")
    assert staging.startswith(".a.")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_lock_is_named(tmp_path: Path, monkeypatch, code: int):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(BadInput, match=r"cannot lock files .* NFS"), ArtifactStore(tmp_path).making("a"):
        pytest.fail("went on without a lock")


def test_errors_of_the_maker_pass_through(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    with pytest.raises(OSError, match=r"^mine$"), store.making("a"):
        raise OSError("mine")
    with store.making("a"):
        pass


def test_usage_counts_entries_and_bytes(tmp_path: Path):
    store = ArtifactStore(tmp_path)
    assert store.usage() == {"models": (0, 0), "importances": (0, 0), "trials": (0, 0)}
    total = {"w": torch.ones(1000)}
    paths = [store.put(key, total, {}).weights for key in "ab"]
    stored = store.put_importance(
        "a", Importance(total=total, count=1, kind="lf", granularity="sample"), {"seconds": 1}
    )
    count, size = store.usage()["models"]
    assert count == 2
    assert size == sum(file.stat().st_size for path in paths for file in path.parent.iterdir()) > 8000
    assert store.usage()["importances"][0] == 1
    assert stored.info == {"seconds": 1}


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="choose a folder you may write to"):
        ArtifactStore(tmp_path / "file")


def test_the_root_does_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = ArtifactStore("store")
    os.chdir("/")
    assert store.root == tmp_path / "store"
    assert store.location == str(tmp_path / "store")


def test_a_folder_needs_no_file_systems_of_others(tmp_path: Path):
    program = (
        "import sys\n"
        "sys.modules['fsspec'] = sys.modules['pyarrow.fs'] = None\n"
        "from theriac.search.store.artifacts import ArtifactStore\n"
        "from theriac.search.store.storage import read_probe, write_probe\n"
        "store = ArtifactStore(sys.argv[1])\n"
        "with store.making('a'):\n"
        "    print(store.find('a'), store.usage()['models'])\n"
        "write_probe(sys.argv[1], 't', 'n')\n"
        "print(read_probe(sys.argv[1], 't', 'n'))\n"
    )
    done = run(program, tmp_path)
    assert done.stdout == "None (0, 0)\nTrue\n", done.stderr
