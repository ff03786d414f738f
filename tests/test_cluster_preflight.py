"""Every node must see the store: nodes of paper, some of which have a disk of their own."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from theriac.cluster import preflight
from theriac.cluster.preflight import DRIVER, check_store
from theriac.errors import BadInput
from theriac.search.store import storage

AA, BB = "aa" * 28, "bb" * 28  # Ray checks how long the ids are
NODES = [(AA, "10.0.0.1"), (BB, "10.0.0.2")]


class Cluster:
    """Runs what a node is asked for at once, with that node's view of the folders."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, own_disk: dict[str, Path] | None = None) -> None:
        self.here, self.own_disk, self.wrote = DRIVER, own_disk or {}, list[str]()
        fake = SimpleNamespace(remote=self._remote, get=lambda answer: answer)
        monkeypatch.setattr(preflight, "ray", fake)
        monkeypatch.setattr(preflight, "read_probe", self._read)
        monkeypatch.setattr(preflight, "write_probe", self._write)
        monkeypatch.setattr(preflight, "PATIENCE_SECONDS", 0.0)

    def _remote(self, function: Any) -> Any:
        def options(*, num_cpus: int, scheduling_strategy: Any) -> Any:
            def call(*arguments: Any) -> Any:
                assert (num_cpus, scheduling_strategy.soft) == (0, False)
                self.here = scheduling_strategy.node_id
                try:
                    return function(*arguments)
                finally:
                    self.here = DRIVER

            return SimpleNamespace(remote=call)

        return SimpleNamespace(options=options)

    def _place(self, location: str) -> str:
        return str(self.own_disk.get(self.here, location))

    def _read(self, location: str, token: str, name: str) -> bool:
        return storage.read_probe(self._place(location), token, name)

    def _write(self, location: str, token: str, name: str) -> None:
        self.wrote.append(self.here)
        storage.write_probe(self._place(location), token, name)


def probes(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_shared_store_is_fine_and_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    check_store(str(tmp_path), NODES)
    assert cluster.wrote == [DRIVER, AA, BB]
    assert probes(tmp_path) == []


def test_a_node_with_a_disk_of_its_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, own = tmp_path / "store", tmp_path / "own"
    cluster = Cluster(monkeypatch, {BB: own})
    with pytest.raises(BadInput, match=r"store is not the same on 10\.0\.0\.2 as where.*--store") as raised:
        check_store(str(store), NODES)
    assert "10.0.0.1" not in str(raised.value)
    assert cluster.wrote == [DRIVER, AA]
    assert not own.exists()
    assert probes(store) == []


def test_a_node_whose_writing_nobody_sees_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    write = cluster._write

    def lose(location: str, token: str, name: str) -> None:
        if cluster.here != AA:
            write(location, token, name)

    monkeypatch.setattr(preflight, "write_probe", lose)
    with pytest.raises(BadInput, match=r"on 10\.0\.0\.1 as where"):
        check_store(str(tmp_path), NODES)
    assert probes(tmp_path) == []


def test_a_slow_network_folder_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, waits = Cluster(monkeypatch), list[float]()
    read, late = cluster._read, [False, False]
    monkeypatch.setattr(preflight, "read_probe", lambda *asked: late.pop() if late else read(*asked))
    monkeypatch.setattr(preflight, "PATIENCE_SECONDS", 1000.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    check_store(str(tmp_path), NODES)
    assert len(waits) == 2


def test_a_store_that_cannot_be_written_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BadInput, match="file"):
        check_store(str(file / "below"), NODES)
    assert cluster.wrote == [DRIVER]


def test_passwords_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch)
    monkeypatch.setattr(preflight, "write_probe", lambda *_: None)
    monkeypatch.setattr(preflight, "read_probe", lambda *_: False)
    monkeypatch.setattr(preflight, "remove_probes", lambda *_: None)
    with pytest.raises(BadInput) as raised:
        check_store("s3://me:secret@bucket/folder", NODES)
    assert "secret" not in str(raised.value)
    assert "10.0.0.1, 10.0.0.2" in str(raised.value)
