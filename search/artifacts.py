"""Trained models and importances on disk, keyed by the hash of all that determines them."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import BadInput
from ..unlearning.importance import Importance

Entry = TypeVar("Entry")

MODELS, IMPORTANCES = "models", "importances"
WEIGHTS_FILE, IMPORTANCE_FILE, INFO_FILE = "model.safetensors", "importance.safetensors", "info.json"


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A finished training.

    Attributes:
        weights: path of the safetensors file.
        info: what was trained, its metrics, and the seconds it took.
    """

    weights: Path
    info: dict[str, Any]

    def state_dict(self) -> dict[str, Tensor]:
        """The weights on the CPU."""
        return load_file(self.weights)


@dataclass(frozen=True, kw_only=True)
class StoredImportance:
    """Finished importances.

    Attributes:
        path: of the file that `Importance.save` wrote.
        info: the seconds they took.
    """

    path: Path
    info: dict[str, Any]


class ArtifactStore:
    """A folder of models and importances; each entry appears whole or not at all, whoever is killed.

    Args:
        root: made if missing.

    Raises:
        BadInput: the folder cannot be made.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        try:
            for kind in (MODELS, IMPORTANCES):
                (self.root / kind).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot write {self.root} ({error}); choose a folder you may write to") from error

    def find(self, key: str) -> StoredModel | None:
        """The model under ``key``, or None."""
        info = self._info(MODELS, key)
        weights = self.root / MODELS / key / WEIGHTS_FILE
        return None if info is None else StoredModel(weights=weights, info=info)

    def put(self, key: str, weights: dict[str, Tensor], info: dict[str, Any]) -> StoredModel:
        """Store a model; if another process was faster, its entry stands."""
        tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
        self._put(MODELS, key, info, lambda folder: save_file(tensors, folder / WEIGHTS_FILE))
        return self._present(self.find(key), key)

    def find_importance(self, key: str) -> StoredImportance | None:
        """The importances under ``key``, or None."""
        info = self._info(IMPORTANCES, key)
        path = self.root / IMPORTANCES / key / IMPORTANCE_FILE
        return None if info is None else StoredImportance(path=path, info=info)

    def importance(self, key: str) -> StoredImportance:
        """The importances under ``key``.

        Raises:
            BadInput: there are none.
        """
        return self._present(self.find_importance(key), key)

    def put_importance(self, key: str, importance: Importance, info: dict[str, Any]) -> StoredImportance:
        """Store importances; if another process was faster, its entry stands."""
        self._put(IMPORTANCES, key, info, lambda folder: importance.save(folder / IMPORTANCE_FILE))
        return self.importance(key)

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Let one process at a time make what belongs under ``key``; a killed one lets the next in."""
        locks = self.root / "locks"
        locks.mkdir(exist_ok=True)
        with FileLock(locks / key):
            yield

    def _info(self, kind: str, key: str) -> dict[str, Any] | None:
        file = self.root / kind / key / INFO_FILE
        if not file.is_file():
            return None
        info: dict[str, Any] = json.loads(file.read_text())
        return info

    def _put(self, kind: str, key: str, info: dict[str, Any], write: Callable[[Path], None]) -> None:
        folder = self.root / kind / key
        staging = folder.with_name(f".{key}.{uuid.uuid4().hex}")
        staging.mkdir()
        write(staging)
        (staging / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n")
        _publish(staging, folder)

    def _present(self, found: Entry | None, key: str) -> Entry:
        if found is None:
            raise BadInput(
                f"{key} vanished from {self.root} while it was written; do not clean the results during a run"
            )
        return found


def _publish(staging: Path, folder: Path) -> None:
    try:
        os.replace(staging, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(staging)
