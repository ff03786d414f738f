"""Storage that machines share: URIs, copies in a cache, leases between makers, probes."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from theriac.errors import BadInput
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.remote_entries import default_cache
from theriac.search.store.remote_storage import RemoteStorage
from theriac.search.store.storage import is_uri, open_storage, read_probe, remove_probes, shown, write_probe
from theriac.unlearning.importance.estimate import Importance

WEIGHTS = {"w": torch.arange(6.0)}


@pytest.fixture
def memory() -> Iterator[str]:
    pytest.importorskip("fsspec")
    location = f"memory://{uuid.uuid4().hex}"
    yield location
    open_storage(location).delete_folder("models")


@pytest.fixture(params=["folder", "file", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return str(request.getfixturevalue("memory"))
    return str(tmp_path / "shared") if request.param == "folder" else (tmp_path / "shared").as_uri()


@pytest.fixture(params=["file", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.getfixturevalue("memory")) if request.param == "memory" else tmp_path.as_uri() + "/s"


def count_downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    download = RemoteStorage.download

    def counted(self: RemoteStorage, name: str, target: Path) -> None:
        names.append(name)
        download(self, name, target)

    monkeypatch.setattr(RemoteStorage, "download", counted)
    return names


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://b/a", True),
        ("file:///a", True),
        ("a+b.c://x", True),
        ("/a/b", False),
        ("a:b", False),
        ("", False),
    ],
)
def test_uris_are_told_from_paths(text: str, uri: bool):
    assert is_uri(text) is uri
    assert not is_uri(Path("/a"))


@pytest.mark.parametrize("bad", [Path("s3://bucket/a"), "s3:/bucket/a", "", " "])
def test_what_is_neither_is_refused(bad: str | Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"two slashes|is empty"):
        ArtifactStore(bad)
    assert not list(tmp_path.iterdir())


def test_passwords_stay_out_of_messages():
    assert shown("s3://me:secret@bucket/a") == "s3://me:***@bucket/a"
    assert shown("abfs://box@account/a") == "abfs://box@account/a"


def test_files_of_a_storage(location: str, tmp_path: Path):
    storage, local = open_storage(location), tmp_path / "local"
    assert (storage.read("a/b"), storage.size("a/b"), storage.modified("a/b")) == (None, None, None)
    assert storage.sizes("a") == {}
    storage.write("a/b", b"first, longer")
    storage.write("a/b", b"second")
    local.write_bytes(bytes(20_000_000))
    storage.upload(local, "a/c/d")
    storage.download("a/c/d", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == local.read_bytes()
    assert storage.read("a/b") == b"second"
    assert storage.sizes("a") == {"b": 6, "c/d": 20_000_000}
    first = storage.modified("a/b")
    storage.write("a/b", b"third")
    second = storage.modified("a/b")
    assert first is not None
    assert second is not None
    assert second >= first > 0
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete_folder("a/c")
    storage.delete_folder("a/c")
    assert storage.sizes("a") == {}


def test_a_storage_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file"), (tmp_path / "file").as_uri()):
        with pytest.raises(BadInput, match=r"cannot use .*file"):
            open_storage(place).write("a/b", b"")


@pytest.mark.parametrize(
    ("place", "hidden", "message"),
    [
        ("az://box/a", ["adlfs"], r"driver that is not here \(.*adlfs"),
        ("memory://a", ["fsspec", "fsspec.core"], r"driver that is not here \(no fsspec\); install it"),
        ("nosuch://a", [], "nosuch.*schemes without further packages: .*s3"),
        ("file://elsewhere/a", [], "cannot open file://elsewhere/a"),
    ],
)
def test_what_cannot_be_opened_is_explained(monkeypatch, place: str, hidden: list[str], message: str):
    pytest.importorskip("fsspec")
    for module in hidden:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInput, match=message):
        ArtifactStore(place)


def test_entries_are_shared_and_downloaded_once(uri: str, tmp_path: Path, monkeypatch):
    downloads = count_downloads(monkeypatch)
    here = ArtifactStore(uri, cache=tmp_path / "here")
    stored = here.put("a", WEIGHTS, {"seconds": 2.5})
    assert not downloads
    for _ in range(2):
        there = ArtifactStore(here.location, cache=tmp_path / "there")
        found = [there.find("a"), there.find("a")][1]
        assert found is not None
        assert found.info == stored.info == {"seconds": 2.5}
        assert found.weights.is_relative_to(there.root)
        assert torch.equal(found.state_dict()["w"], WEIGHTS["w"])
    assert len(downloads) == 1
    assert there.find("b") is None


def test_importances_and_usage(uri: str, tmp_path: Path):
    here, there = (ArtifactStore(uri, cache=tmp_path / name) for name in "ab")
    importance = Importance(total=WEIGHTS, count=3, kind="xlf", granularity="sample")
    here.put_importance("i", importance, {"seconds": 1})
    assert torch.equal(Importance.load(there.importance("i").path).total["w"], WEIGHTS["w"])
    used = there.usage()
    count, size = used["importances"]
    assert (used["models"], used["trials"], count) == ((0, 0), (0, 0), 1)
    assert size > 24


def test_the_first_writer_stands_on_every_node(uri: str, tmp_path: Path):
    here, there = (ArtifactStore(uri, cache=tmp_path / name) for name in "ab")
    here.put("a", WEIGHTS, {"writer": 1})
    assert there.put("a", WEIGHTS, {"writer": 2}).info == {"writer": 1}
    assert len(open_storage(uri).sizes("models")) == 2


def test_who_is_overtaken_while_uploading_gives_way(uri: str, tmp_path: Path, monkeypatch):
    here, there = (ArtifactStore(uri, cache=tmp_path / name) for name in "ab")
    upload = RemoteStorage.upload

    def overtaken(self: RemoteStorage, source: Path, name: str) -> None:
        monkeypatch.setattr(RemoteStorage, "upload", upload)
        there.put("a", WEIGHTS, {"writer": "there"})
        upload(self, source, name)

    monkeypatch.setattr(RemoteStorage, "upload", overtaken)
    assert here.put("a", WEIGHTS, {"writer": "here"}).info == {"writer": "there"}
    assert len(open_storage(uri).sizes("models")) == 2


def test_an_upload_that_fails_leaves_nothing(uri: str, tmp_path: Path, monkeypatch):
    def fill_up(source: BinaryIO, target: BinaryIO, *_: int) -> None:
        target.write(source.read(20))
        raise OSError(errno.ENOSPC, "No space left on device")

    store = ArtifactStore(uri, cache=tmp_path / "cache")
    monkeypatch.setattr("shutil.copyfileobj", fill_up)
    with pytest.raises(BadInput, match=rf"cannot use {uri} .*No space left .*has space"):
        store.put("a", WEIGHTS, {})
    assert open_storage(uri).sizes("models") == {}
    assert list((store.root / "models").iterdir()) == []


def test_copies_of_what_was_removed_do_not_count(uri: str, tmp_path: Path):
    ArtifactStore(uri, cache=tmp_path).put("a", WEIGHTS, {"run": 1})
    open_storage(uri).delete_folder("models")
    again = ArtifactStore(uri, cache=tmp_path)
    assert again.find("a") is None
    assert again.put("a", WEIGHTS, {"run": 2}).info == {"run": 2}
    other = ArtifactStore(uri, cache=tmp_path / "other").find("a")
    assert other is not None
    assert other.info == {"run": 2}


@pytest.mark.parametrize("part", ["info.json", "model.safetensors"])
def test_a_torn_remote_entry_is_missing_and_replaced(uri: str, tmp_path: Path, caplog, part: str):
    here, there = (ArtifactStore(uri, cache=tmp_path / name) for name in "ab")
    here.put("a", WEIGHTS, {"writer": 1})
    storage = open_storage(uri)
    (name,) = (name for name in storage.sizes("models") if name.endswith(part))
    storage.write(f"models/{name}", b"{")
    with caplog.at_level(logging.WARNING):
        assert there.find("a") is None
        assert there.find("a") is None
    assert [record.getMessage().startswith(f"{uri}/models/a is torn") for record in caplog.records] == [True]
    assert there.put("a", WEIGHTS, {"writer": 2}).info == {"writer": 2}


def test_a_torn_copy_is_downloaded_again(uri: str, tmp_path: Path):
    store = ArtifactStore(uri, cache=tmp_path)
    stored = store.put("a", WEIGHTS, {})
    stored.weights.write_bytes(b"")
    found = store.find("a")
    assert found is not None
    assert torch.equal(found.state_dict()["w"], WEIGHTS["w"])


UPLOADER = """
import os, signal, sys, torch
from pathlib import Path
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.remote_storage import RemoteStorage

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(self, source, name):
    self.write(name, Path(source).read_bytes()[:20])
    die()

if sys.argv[3] == "data":
    RemoteStorage.upload = half
else:
    RemoteStorage.write = die
ArtifactStore(sys.argv[1], cache=Path(sys.argv[2])).put("a", {"w": torch.ones(3)}, {"writer": "killed"})
"""


@pytest.mark.parametrize("during", ["data", "info"])
def test_an_uploader_killed_in_the_middle_leaves_no_entry(tmp_path: Path, during: str):
    location, cache = (tmp_path / "s").as_uri(), tmp_path / "a"
    with start(UPLOADER, location, cache, during) as process:
        assert process.wait() == -9
    assert len(open_storage(location).sizes("models")) == 1
    for place in (cache, tmp_path / "b"):
        assert ArtifactStore(location, cache=place).find("a") is None
    assert ArtifactStore(location, cache=cache).usage()["models"] == (0, 0)
    ArtifactStore(location, cache=cache).put("a", WEIGHTS, {"writer": "next"})
    found = ArtifactStore(location, cache=tmp_path / "b").find("a")
    assert found is not None
    assert found.info == {"writer": "next"}


MAKER = """
import sys, time, torch
from pathlib import Path
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.remote_storage import RemoteStorage

download = RemoteStorage.download
def counted(self, name, target):
    print("download", flush=True)
    download(self, name, target)
RemoteStorage.download = counted

store = ArtifactStore(sys.argv[1], cache=Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
store.find("made before")
if store.find("a") is None:
    with store.making("a"):
        if store.find("a") is None:
            print("makes", flush=True)
            time.sleep(1)
            store.put("a", {"w": torch.ones(3)}, {})
print(store.find("a").state_dict()["w"].tolist(), flush=True)
"""


@pytest.mark.parametrize("nodes", [1, 2])
def test_of_two_makers_at_once_one_makes(tmp_path: Path, nodes: int):
    """On one node they share a cache, and one of them downloads what was there before."""
    location = (tmp_path / "s").as_uri()
    ArtifactStore(location, cache=tmp_path / "first").put("made before", WEIGHTS, {})
    with ExitStack() as stack:
        makers = [stack.enter_context(start(MAKER, location, tmp_path / str(i % nodes))) for i in range(2)]
        for maker in makers:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "ready\n"
        for maker in makers:
            assert maker.stdin is not None
            maker.stdin.write("\n")
            maker.stdin.flush()
        lines = [line for maker in makers for line in maker.communicate()[0].splitlines()]
    assert lines.count("makes") == 1
    assert lines.count("[1.0, 1.0, 1.0]") == 2
    assert lines.count("download") == (1 if nodes == 1 else 3)
    assert open_storage(location).sizes("making") == {}


def test_the_default_cache_follows_the_users(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    store = ArtifactStore((tmp_path / "s").as_uri())
    assert store.root.parent == default_cache() == tmp_path / "x" / "theriac" / "artifacts"
    assert ArtifactStore((tmp_path / "s").as_uri() + "/").root == store.root
    assert ArtifactStore((tmp_path / "t").as_uri()).root != store.root


def test_probes_are_read_by_content(location: str):
    assert not read_probe(location, "t", "driver")
    write_probe(location, "t", "driver")
    write_probe(location, "t", "node:10.0.0.1/2")
    assert read_probe(location, "t", "driver")
    assert read_probe(location, "t", "node:10.0.0.1/2")
    assert not read_probe(location, "other", "driver")
    open_storage(location).write("probes/t/driver", b"something else")
    assert not read_probe(location, "t", "driver")
    write_probe(location, "u", "driver")
    remove_probes(location, "t")
    remove_probes(location, "t")
    assert not read_probe(location, "t", "node:10.0.0.1/2")
    assert read_probe(location, "u", "driver")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_probes_stay_in_their_folder(tmp_path: Path, name: str):
    with pytest.raises(BadInput, match="cannot name a probe"):
        remove_probes(tmp_path, name)
