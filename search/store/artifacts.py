"""Trained models, importances and trials on disk or remote storage.

Each is keyed by the hash of all that determines it.
"""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import Tensor

from ...errors import BadInput
from ...unlearning.importance import Importance
from .entries import IMPORTANCES, MODELS, TRIALS, Entries, LocalEntries
from .seals import CHECKSUM
from .storage import checked_location, is_uri, open_storage, shown

log = logging.getLogger(__name__)

Found = TypeVar("Found")
VICTIM = "victim"
"""What the info of importances and trials calls the checksum of the model they are of."""
ANOTHER_VICTIM = "it was made of another victim than the one that is stored now"


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A finished training.

    Attributes:
        weights: path of the safetensors file on this machine.
        info: what was trained, its metrics, and the seconds it took.
        checksum: SHA-256 of the file.
    """

    weights: Path
    info: dict[str, Any]
    checksum: str

    def state_dict(self) -> dict[str, Tensor]:
        """Load the weights, on the CPU."""
        return load_file(self.weights)


@dataclass(frozen=True, kw_only=True)
class StoredImportance:
    """Finished importances.

    Attributes:
        path: of the file that `Importance.save` wrote, on this machine.
        info: the seconds they took.
    """

    path: Path
    info: dict[str, Any]


class ArtifactStore:
    """Models, importances and trials; each entry appears whole or not at all, whoever is killed.

    In a folder an entry is on the disk before it appears. On remote storage each node downloads an entry
    once, into its cache. Every entry is verified once per process (see `seals`): one that is torn, changed,
    another's, or of a version without checksums is named in a warning, moved to ``damaged/`` and counts as
    missing. Whatever reads or writes may raise `BadInput`: a full disk, a folder without permission, a
    storage that cannot be reached.

    Args:
        location: a folder that all users of the store see (local or NFS; made if missing), or a URI; see
            `search.storage`.
        cache: for URIs, the folder on this node for copies; one serves many locations. Default:
            theriac/artifacts under $XDG_CACHE_HOME or ~/.cache. Folders need none.

    Attributes:
        location: what another process passes to open the same store.
        root: the folder, or that of the copies.

    Raises:
        BadInput: the folder cannot be made, or the URI cannot be opened.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stored = ArtifactStore(folder).put("a-key", {"w": torch.ones(2)}, {"seed": 0})
        ...     stored.info, stored.state_dict()["w"].tolist()
        ({'seed': 0}, [1.0, 1.0])
    """

    def __init__(self, location: str | Path, *, cache: Path | None = None) -> None:
        self._entries = _open(checked_location(location), cache)
        self.location: str = self._entries.location
        self.root: Path = self._entries.root

    def find(self, key: str) -> StoredModel | None:
        """Find the model under ``key``; None if there is none."""
        found = self._entries.find(MODELS, key)
        if found is None:
            return None
        return StoredModel(weights=found.path, info=found.info, checksum=found.record[CHECKSUM])

    def put(self, key: str, weights: dict[str, Tensor], info: dict[str, Any]) -> StoredModel:
        """Store a model; if another process was faster, its entry stands.

        Args:
            key: of all that determines the model.
            weights: a state dict.
            info: what to keep with it, as JSON has it.
        """
        tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
        self._entries.put(MODELS, key, info, lambda file: save_file(tensors, file))
        return self._present(self.find(key), key)

    def find_importance(self, key: str) -> StoredImportance | None:
        """Find the importances under ``key``; None if there are none."""
        found = self._entries.find(IMPORTANCES, key)
        return None if found is None else StoredImportance(path=found.path, info=found.info)

    def importance(self, key: str) -> StoredImportance:
        """Return the importances under ``key``.

        Raises:
            BadInput: there are none.
        """
        return self._present(self.find_importance(key), key)

    def put_importance(self, key: str, importance: Importance, info: dict[str, Any]) -> StoredImportance:
        """Store importances; if another process was faster, its entry stands.

        Args:
            key: of all that determines the importances.
            importance: the sums.
            info: what to keep with them, as JSON has it.
        """
        self._entries.put(IMPORTANCES, key, info, importance.save)
        return self.importance(key)

    def refuse(self, kind: str, key: str, reason: str) -> None:
        """Set an entry aside whose content is not what belongs under its key, and name it.

        Args:
            kind: "models", "importances" or "trials".
            key: of the entry.
            reason: for the warning.
        """
        self._entries.set_aside(kind, key, reason)

    def discard_importance(self, key: str) -> None:
        """Remove importances that nobody needs any more."""
        self._entries.discard(IMPORTANCES, key)

    def find_trial(self, key: str, *, victim: str | None = None) -> dict[str, Any] | None:
        """Find the row of the trial under ``key``; None if there is none.

        Args:
            key: of the trial.
            victim: checksum of the victim that it must have been run on; None: of any.
        """
        found = self._entries.find(TRIALS, key)
        if found is None:
            return None
        if victim is not None and found.info.get(VICTIM) != victim:
            self.refuse(TRIALS, key, ANOTHER_VICTIM)
            return None
        return dict(json.loads(found.path.read_text()))

    def put_trial(self, key: str, row: dict[str, Any], *, victim: str | None = None) -> None:
        """Store the row of a trial on a victim: scalars; if another process was faster, its entry stands.

        Args:
            key: of all that determines the trial.
            row: scalars by name.
            victim: checksum of the victim that it was run on; None: not said.
        """
        info = {} if victim is None else {VICTIM: victim}
        self._entries.put(TRIALS, key, info, lambda file: _write_text(file, json.dumps(row)))

    def making(self, key: str) -> AbstractContextManager[None]:
        """Let one process at a time make what belongs under ``key``; a killed one lets the next in.

        On remote storage a maker on another node that was killed is waited for, 90 seconds, and two makers at
        once are rare but possible: the entry of the first stands.

        Raises:
            BadInput: the file system cannot lock files.
        """
        return self._entries.making(key)

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half made, once it is old and nobody's; never fails for it."""
        try:
            self._entries.remove_leftovers()
        except (BadInput, OSError) as error:
            log.info("what killed processes left in %s stays: %s", shown(self.location), error)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Count the "models", "importances" and "trials", and their bytes, as (count, bytes)."""
        return {kind: self._entries.usage(kind) for kind in (MODELS, IMPORTANCES, TRIALS)}

    def _present(self, found: Found | None, key: str) -> Found:
        if found is None:
            raise BadInput(
                f"{key} vanished from {shown(self.location)} while it was written; do not clean the results"
                " during a run"
            )
        return found


def _write_text(file: Path, text: str) -> None:
    file.write_text(text)


def _open(location: str, cache: Path | None) -> Entries:
    if not is_uri(location):
        return LocalEntries(Path(location))
    from .remote_entries import RemoteEntries  # only who has a URI pays for what it imports

    return RemoteEntries(open_storage(location), cache=cache)


__all__ = ["ArtifactStore", "StoredImportance", "StoredModel"]
