"""Trained models on disk, keyed by the hash of everything that determines them, so none is trained twice."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import BadInput


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


class ArtifactStore:
    """A folder of models; each entry appears whole or not at all, whoever is killed while writing.

    Args:
        root: made if missing.

    Raises:
        BadInput: the folder cannot be made.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        try:
            (self.root / "models").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"cannot write {self.root} ({error}); choose a folder you may write to") from error

    def find(self, key: str) -> StoredModel | None:
        """The model under ``key``, or None."""
        folder = self.root / "models" / key
        if not folder.is_dir():
            return None
        return StoredModel(
            weights=folder / "model.safetensors", info=json.loads((folder / "info.json").read_text())
        )

    def put(self, key: str, weights: dict[str, Tensor], info: dict[str, Any]) -> StoredModel:
        """Store a model; if another process was faster, its entry stands."""
        folder = self.root / "models" / key
        staging = folder.with_name(f".{key}.{uuid.uuid4().hex}")
        staging.mkdir()
        save_file({n: t.contiguous().cpu() for n, t in weights.items()}, staging / "model.safetensors")
        (staging / "info.json").write_text(json.dumps(info, indent=2) + "\n")
        _publish(staging, folder)
        found = self.find(key)
        if found is None:
            raise BadInput(f"{folder} vanished while it was written; do not clean the results during a run")
        return found


def _publish(staging: Path, folder: Path) -> None:
    try:
        os.replace(staging, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(staging)
