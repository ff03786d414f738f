"""Leases: one maker at a time where machines share a storage without locks."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from pathlib import Path

import pytest

from theriac.search.store.leases import LeaseTimes, leased
from theriac.search.store.remote_storage import RemoteStorage
from theriac.search.store.storage import FolderStorage, Storage, open_storage

QUICK = LeaseTimes(renew=0.05, dead=0.5, poll=0.05, settle=0.1)
STUBBORN = LeaseTimes(poll=0.05, settle=0.01)


@pytest.fixture(params=["file", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return tmp_path.as_uri()
    pytest.importorskip("fsspec")
    return f"memory://{uuid.uuid4().hex}"


def hold(storage: Storage, times: LeaseTimes, held: threading.Event) -> None:
    with leased(storage, "making/a.json", times):
        held.set()


def takes(storage: Storage, times: LeaseTimes) -> threading.Event:
    held = threading.Event()
    threading.Thread(target=hold, args=(storage, times, held), daemon=True).start()
    return held


def foreign(storage: Storage, **fields: object) -> None:
    storage.write("making/a.json", json.dumps({"owner": "another", "host": "node7", **fields}).encode())


def test_a_lease_is_renewed_while_held_and_gone_after(uri: str):
    storage = open_storage(uri)
    with leased(storage, "making/a.json", QUICK):
        beats: set[int] = set()
        deadline = time.monotonic() + 30
        while len(beats) < 3 and time.monotonic() < deadline:
            beats.add(json.loads(storage.read("making/a.json") or b'{"beat": 0}')["beat"])
            time.sleep(0.01)
    assert len(beats) >= 3
    assert storage.sizes("making") == {}


def test_a_living_holder_is_waited_for(uri: str):
    storage = open_storage(uri)
    foreign(storage)
    held = takes(storage, STUBBORN)
    assert not held.wait(0.5)
    storage.delete("making/a.json")
    assert held.wait(30)


def test_a_lease_dead_for_long_is_taken_at_once(tmp_path: Path):
    """By the times of the storage: this waiter never saw it stand still."""
    storage = open_storage(tmp_path.as_uri())
    foreign(storage)
    os.utime(tmp_path / "making" / "a.json", (1, 1))
    assert takes(storage, STUBBORN).wait(30)


def test_the_clock_of_the_waiter_does_not_matter(tmp_path: Path, monkeypatch):
    storage = FolderStorage(tmp_path)
    foreign(storage)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert not takes(storage, STUBBORN).wait(0.3)
    storage.delete("making/a.json")


def test_where_no_times_are_kept_a_lease_that_stands_still_is_dead(uri: str, monkeypatch):
    monkeypatch.setattr(RemoteStorage, "modified", lambda *_: None)
    storage = open_storage(uri)
    foreign(storage)
    assert takes(storage, QUICK).wait(30)


def test_who_lost_the_lease_leaves_it_alone(uri: str, caplog):
    storage = open_storage(uri)
    with caplog.at_level(logging.WARNING), leased(storage, "making/a.json", QUICK):
        foreign(storage)
        deadline = time.monotonic() + 30
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "another maker took over" in caplog.text
    assert b"another" in (storage.read("making/a.json") or b"")
