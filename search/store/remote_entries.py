"""Entries of an artifact store on remote storage, with copies in a cache of this node."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import BadInput
from .entries import DAMAGED, DATA_FILES, INFO_FILE, Entry, LocalEntries, report
from .leases import DEFAULT_TIMES, LeaseTimes, leased
from .leftovers import remove_unnamed
from .seals import STORED_AS, Damaged, Record, check_data, check_size, read_record, sealed
from .storage import PROBES, Storage, shown

MAKING = "making"


class RemoteEntries:
    """Entries that callers see as local files.

    An entry is a data file under a name of its own, and an info.json, uploaded last, that names it: without
    info.json there is no entry, and who uploads at the same time does not touch the data of another. A writer
    that is killed before its info.json leaves its data file behind; nothing reads it.

    Args:
        storage: holds the entries of all nodes.
        cache: folder of this node for copies of many storages; default `default_cache`.
        times: of the leases.

    Raises:
        BadInput: the cache cannot be made.
    """

    def __init__(
        self, storage: Storage, *, cache: Path | None = None, times: LeaseTimes = DEFAULT_TIMES
    ) -> None:
        self.location = storage.location
        self._storage, self._times = storage, times
        name = hashlib.sha256(self.location.encode()).hexdigest()[:16]
        self._cache = LocalEntries((cache or default_cache()) / name, copies=True)
        self.root = self._cache.root
        self._checked: set[tuple[str, str]] = set()

    def find(self, kind: str, key: str) -> Entry | None:
        """Find the entry, downloaded if this node has no copy; a copy of something else is replaced."""
        cached = self._cache.find(kind, key)
        if cached is not None and (kind, key) in self._checked:
            return cached
        record = self._record(kind, key)
        if record is None:
            return None
        with self._cache.making(f"fetch.{key}"):
            cached = self._cache.find(kind, key)
            if cached is None or cached.record.get(STORED_AS) != record.get(STORED_AS):
                try:
                    self._fetch(kind, key, record)
                except Damaged as damage:
                    if self._record(kind, key) == record:  # else another node was faster
                        self.set_aside(kind, key, str(damage))
                    return None
        self._checked.add((kind, key))
        return self._cache.find(kind, key)

    def put(self, kind: str, key: str, info: Record, write: Callable[[Path], None]) -> None:
        with self._cache.staged(kind, key, write) as staging:
            data = staging / DATA_FILES[kind]
            if self._record(kind, key) is not None:
                return
            stored = {**info, STORED_AS: f"{uuid.uuid4().hex}-{data.name}"}
            record = sealed(stored, f"{kind}/{key}", data)
            if self._uploaded(kind, key, data, record):
                self._cache.discard(kind, key)  # of an entry that is gone
                self._cache.publish(kind, key, staging, record)

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry and this node's copy; other nodes find their copies without it."""
        self._storage.delete(f"{kind}/{key}/{INFO_FILE}")
        self._storage.delete_folder(f"{kind}/{key}")
        self._checked.discard((kind, key))
        self._cache.discard(kind, key)

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Let in one maker on this node, by a lock; one on all nodes, by a lease that in rare cases fails."""
        with self._cache.making(key), leased(self._storage, f"{MAKING}/{key}.json", self._times):
            yield

    def usage(self, kind: str) -> tuple[int, int]:
        sizes = self._storage.sizes(kind)
        folders = {name.partition("/")[0] for name in sizes if name.endswith(f"/{INFO_FILE}")}
        return len(folders), sum(size for name, size in sizes.items() if name.partition("/")[0] in folders)

    def set_aside(self, kind: str, key: str, reason: str) -> None:
        """Move the record, and the data that it names; data that nothing names are removed in time."""
        place, aside = f"{kind}/{key}", f"{DAMAGED}/{kind}-{key}-{uuid.uuid4().hex[:8]}"
        stored_as = _data_name(self._storage.read(f"{place}/{INFO_FILE}") or b"", kind)
        self._storage.move(f"{place}/{INFO_FILE}", f"{aside}/{INFO_FILE}")
        self._storage.move(f"{place}/{stored_as}", f"{aside}/{stored_as}")
        self._checked.discard((kind, key))
        self._cache.discard(kind, key)
        location = shown(self.location)
        report(f"{location}/{place}", reason, f"{location}/{aside}")

    def remove_leftovers(self) -> None:
        self._cache.remove_leftovers()
        remove_unnamed(self._storage, tuple(DATA_FILES), (MAKING, PROBES), INFO_FILE)

    def _record(self, kind: str, key: str) -> Record | None:
        """Return what the storage says about an entry; None if it has none that is whole."""
        folder = f"{kind}/{key}"
        content = self._storage.read(f"{folder}/{INFO_FILE}")
        if content is None:
            return None
        try:
            record = read_record(content, folder)
            check_size(self._storage.size(f"{folder}/{record.get(STORED_AS, DATA_FILES[kind])}"), record)
        except Damaged as damage:
            if self._storage.read(f"{folder}/{INFO_FILE}") == content:  # else another node was faster
                self.set_aside(kind, key, str(damage))
            return None
        return record

    def _uploaded(self, kind: str, key: str, data: Path, record: Record) -> bool:
        """Upload the data first, info.json last; return False if another was faster."""
        name = f"{kind}/{key}/{record[STORED_AS]}"
        try:
            self._storage.upload(data, name)
        except BaseException:
            with suppress(BadInput):  # the storage may be out of reach; the first error tells more
                self._storage.delete(name)
            raise
        if self._record(kind, key) is not None:
            self._storage.delete(name)
            return False
        self._storage.write(f"{kind}/{key}/{INFO_FILE}", (json.dumps(record, indent=2) + "\n").encode())
        return True

    def _fetch(self, kind: str, key: str, record: Record) -> None:
        """Download an entry; a second time, if what arrived is not what was stored. Raises `Damaged`."""
        try:
            self._download(kind, key, record)
        except Damaged:
            self._download(kind, key, record)

    def _download(self, kind: str, key: str, record: Record) -> None:
        name = f"{kind}/{key}/{record.get(STORED_AS, DATA_FILES[kind])}"
        with self._cache.staged(kind, key, lambda path: self._storage.download(name, path)) as staging:
            check_data(staging / DATA_FILES[kind], record)
            self._cache.discard(kind, key)
            self._cache.publish(kind, key, staging, record)


def _data_name(content: bytes, kind: str) -> str:
    """Return the data file that a damaged record names, if that is a plain name."""
    try:
        name = json.loads(content)[STORED_AS]
    except (ValueError, RecursionError, KeyError, TypeError):
        return DATA_FILES[kind]
    return name if isinstance(name, str) and name == Path(name).name else DATA_FILES[kind]


def default_cache() -> Path:
    """Return $XDG_CACHE_HOME/theriac/artifacts, by default under ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "theriac" / "artifacts"
