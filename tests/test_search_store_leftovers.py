"""What killed processes leave is removed once it is old and nobody's, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.leftovers import STALE_SECONDS, owned, remove_stale
from theriac.search.store.remote_storage import RemoteStorage

WEIGHTS = {"w": torch.ones(3)}
KILLED = """
import os, signal, sys, torch
from theriac.search.store import artifacts, entries
entries._renamed = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
artifacts.ArtifactStore(sys.argv[1]).put('a', {'w': torch.ones(3)}, {})
"""


def age(path: Path, seconds: float = STALE_SECONDS + 60) -> None:
    for one in (*path.rglob("*"), path):
        os.utime(one, (time.time() - seconds,) * 2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_staging_folder_of_a_killed_writer(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    store = ArtifactStore(tmp_path)
    (staging,) = (tmp_path / "models").iterdir()
    store.remove_leftovers()
    assert staging.exists()  # young: somebody may just have begun
    age(staging)
    store.remove_leftovers()
    assert not staging.exists()


def test_an_old_staging_folder_that_is_held_stays(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    staging = tmp_path / "models" / f".a.{'0' * 32}"
    staging.mkdir()
    age(staging)
    with owned(staging):
        store.remove_leftovers()
        assert staging.exists()
    store.remove_leftovers()
    assert not staging.exists()


def test_entries_and_what_others_put_there_stay(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.put("a", WEIGHTS, {})
    for name in (".hidden", ".a.not-hexadecimal"):
        (tmp_path / "models" / name).mkdir()
    age(tmp_path / "models")
    store.remove_leftovers()
    assert names(tmp_path / "models") == {"a", ".hidden", ".a.not-hexadecimal"}
    assert store.find("a") is not None


def test_lock_files_that_nobody_holds(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for key in ("free", "held", "young"):
        with store.making(key):
            pass
    locks = tmp_path / "locks"
    with FileLock(locks / "held"):
        age(locks / "free")
        age(locks / "held")
        store.remove_leftovers()
        assert {"held", "young"} <= names(locks)
        assert "free" not in names(locks)
    with store.making("free"), store.making("held"):
        pass


def test_temporary_files_of_results(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    files = [tmp_path / ".probe.1.tmp", tmp_path / "steps" / ".part-1.parquet.2.tmp"]
    kept = [tmp_path / "steps" / ".new.tmp", tmp_path / "steps" / "part-1.parquet", tmp_path / "note.tmp"]
    for file in (*files, *kept):
        file.touch()
    for file in (*files, *kept[1:]):
        age(file)
    remove_stale(tmp_path)
    assert not any(file.exists() for file in files)
    assert all(file.exists() for file in kept)


def test_uploads_that_nothing_names(tmp_path: Path) -> None:
    store = ArtifactStore((tmp_path / "s").as_uri(), cache=tmp_path / "cache")
    store.put("a", WEIGHTS, {})
    models = tmp_path / "s" / "models"
    (named,) = (path for path in (models / "a").iterdir() if path.name != "info.json")
    (models / "b").mkdir()
    (tmp_path / "s" / "making").mkdir(exist_ok=True)
    lost = [models / "a" / "1-model.safetensors", models / "b" / "2-model.safetensors"]
    lost.append(tmp_path / "s" / "making" / "gone.json")
    young = models / "b" / "3-model.safetensors"
    for file in (*lost, young):
        file.touch()
    for file in (*lost, named):
        age(file)
    store.remove_leftovers()
    assert not any(file.exists() for file in lost)
    assert young.exists()
    assert ArtifactStore(store.location, cache=tmp_path / "other").find("a") is not None


def test_a_storage_out_of_reach_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore((tmp_path / "s").as_uri(), cache=tmp_path / "cache")

    def gone(*_: object) -> None:
        raise OSError("connection reset")

    monkeypatch.setattr(RemoteStorage, "sizes", gone)
    store.remove_leftovers()
