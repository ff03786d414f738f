"""No changed entry of a store is used: it is named, set aside and made again."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.seals import Damaged, Verified, check_data, read_record, sealed, stamp_of
from theriac.unlearning.importance.estimate import Importance

KINDS = ("models", "importances", "trials")


def put(store: ArtifactStore, kind: str, key: str, value: float) -> None:
    tensors = {"w": torch.full((40,), value)}
    if kind == "models":
        store.put(key, tensors, {"seconds": value, "truth": {"asr": 0.5}})
    elif kind == "importances":
        total = Importance(total=tensors, count=3, kind="lf", granularity="sample")
        store.put_importance(key, total, {"seconds": value})
    else:
        store.put_trial(key, {"score": value, "lfr": [0.0, 0.25]})


def read(store: ArtifactStore, kind: str, key: str) -> object:
    """What a user of the store sees, as something that compares."""
    if kind == "models":
        model = store.find(key)
        return model and (model.info, model.state_dict()["w"].tolist())
    if kind == "importances":
        found = store.find_importance(key)
        return found and (found.info, Importance.load(found.path).total["w"].tolist())
    return store.find_trial(key)


def data_of(folder: Path) -> Path:
    (file,) = (path for path in folder.iterdir() if path.name != "info.json")
    return file


def flip(file: Path, position: float, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    file.write_bytes(content)


def flipped(region: str, position: float, bit: int) -> Callable[[Path, Path], None]:
    def change(folder: Path, other: Path) -> None:
        flip(folder / "info.json" if region == "info" else data_of(folder), position, bit)

    return change


def cut(folder: Path, other: Path) -> None:
    data_of(folder).write_bytes(data_of(folder).read_bytes()[:-1])


def longer(folder: Path, other: Path) -> None:
    data_of(folder).write_bytes(data_of(folder).read_bytes() + b"\0")


def zeroed(folder: Path, other: Path) -> None:
    data_of(folder).write_bytes(bytes(data_of(folder).stat().st_size))


def zeroed_record(folder: Path, other: Path) -> None:
    (folder / "info.json").write_bytes(bytes((folder / "info.json").stat().st_size))


def other_data(folder: Path, other: Path) -> None:
    shutil.copyfile(data_of(other), data_of(folder))


def other_entry(folder: Path, other: Path) -> None:
    other_data(folder, other)
    shutil.copyfile(other / "info.json", folder / "info.json")


def edited(folder: Path, other: Path) -> None:
    record = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps({**record, "seconds": 7}))


def resized(folder: Path, other: Path) -> None:
    record = json.loads((folder / "info.json").read_text())
    data_of(folder).write_bytes(b"{}")
    (folder / "info.json").write_text(json.dumps({**record, "bytes": 2}))


def gone_record(folder: Path, other: Path) -> None:
    (folder / "info.json").unlink()


def deep_record(folder: Path, other: Path) -> None:
    (folder / "info.json").write_text("[" * 100_000)


RANDOM = random.Random(14)
FLIPS = [(region, RANDOM.random(), RANDOM.randrange(8)) for region in ("data", "info") for _ in range(12)]
CHANGES = [
    *(flipped(*one) for one in FLIPS),
    cut,
    longer,
    zeroed,
    zeroed_record,
    other_data,
    other_entry,
    edited,
    resized,
    gone_record,
    deep_record,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_no_change_of_an_entry_goes_unnoticed(tmp_path: Path, caplog, kind: str, change) -> None:
    store = ArtifactStore(tmp_path)
    for key, value in (("a", 1.0), ("b", 2.0)):
        put(store, kind, key, value)
    sound, other = read(store, kind, "a"), read(store, kind, "b")
    change(tmp_path / kind / "a", tmp_path / kind / "b")
    with caplog.at_level(logging.WARNING):
        found = read(ArtifactStore(tmp_path), kind, "a")
    if found == sound:  # a space of info.json became another, say
        return
    assert found is None
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tmp_path / kind / 'a'} is torn or changed (")
    (aside,) = (tmp_path / "damaged").iterdir()
    assert str(aside) in record.getMessage()
    assert read(store, kind, "b") == other
    put(store, kind, "a", 1.0)
    assert read(ArtifactStore(tmp_path), kind, "a") == sound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [*CHANGES[:24:8], *CHANGES[24:32]], ids=lambda change: change.__name__)
def test_no_change_of_a_remote_entry_goes_unnoticed(tmp_path: Path, caplog, kind: str, change) -> None:
    location, shared = (tmp_path / "shared").as_uri(), tmp_path / "shared"
    store = ArtifactStore(location, cache=tmp_path / "here")
    for key, value in (("a", 1.0), ("b", 2.0)):
        put(store, kind, key, value)
    sound = read(store, kind, "a")
    change(shared / kind / "a", shared / kind / "b")
    with caplog.at_level(logging.WARNING):
        found = read(ArtifactStore(location, cache=tmp_path / "there"), kind, "a")
    if found == sound:
        return
    assert found is None
    assert f"{location}/{kind}/a is torn or changed (" in caplog.text
    assert any((shared / "damaged").rglob("info.json"))
    again = ArtifactStore(location, cache=tmp_path / "there")
    put(again, kind, "a", 1.0)
    assert read(ArtifactStore(location, cache=tmp_path / "third"), kind, "a") == sound


def test_a_changed_copy_is_fetched_again(tmp_path: Path, caplog) -> None:
    location = (tmp_path / "shared").as_uri()
    store = ArtifactStore(location, cache=tmp_path / "here")
    put(store, "models", "a", 1.0)
    flip(store.root / "models" / "a" / "model.safetensors", 0.9, 2)
    found = store.find("a")
    assert found is not None
    assert found.state_dict()["w"].tolist() == [1.0] * 40
    assert "it will be fetched again" in caplog.text
    assert not (tmp_path / "shared" / "damaged").exists()


def test_a_record_lies_about_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"content")
    record = sealed({"x": [1, 2.5, None]}, "models/a", data)
    content = json.dumps(record, indent=2).encode()
    assert read_record(content, "models/a") == record
    check_data(data, record)
    with pytest.raises(Damaged, match="it was written as models/a"):
        read_record(content, "models/b")
    with pytest.raises(Damaged, match=r"info\.json has been changed"):
        read_record(content.replace(b"2.5", b"3.5"), "models/a")
    data.write_bytes(b"CONTENT")
    with pytest.raises(Damaged, match="do not match their checksum"):
        check_data(data, record)


def test_what_did_not_change_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, file = [100.0], tmp_path / "file"
    file.write_text("x")
    stamp = stamp_of([file])
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "time_ns", lambda: max(stamp[0][-2:]))
    verified = Verified()
    verified.note("a", stamp)
    assert not verified.knows("a", stamp)  # so young that it may change and keep its date
    clock[0] += 2
    verified.note("a", stamp)
    assert verified.knows("a", stamp)
    assert not verified.knows("b", stamp)
    file.write_text("longer")
    assert not verified.knows("a", stamp_of([file]))


def test_a_pipe_in_place_of_a_record_does_not_hang(tmp_path: Path, caplog) -> None:
    store = ArtifactStore(tmp_path)
    put(store, "models", "a", 1.0)
    (tmp_path / "models" / "a" / "info.json").unlink()
    os.mkfifo(tmp_path / "models" / "a" / "info.json")
    assert store.find("a") is None
    assert "info.json: it is a named pipe, not a regular file" in caplog.text
