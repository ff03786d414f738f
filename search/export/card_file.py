"""Model cards on the disk: written beside a healed model, and never over what somebody else wrote."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ...errors import BadInput
from ..store import read_small, write_atomically
from .card_text import Report, model_card
from .destination import check_file, whole_file

CARD, REPORT, WEIGHTS = "README.md", "healing.json", "model.safetensors"
MARK = re.compile(rb"\n<!-- written by theriac: ([0-9a-f]{16}) -->\n\Z")


class Stored(BaseModel):
    """What a card needs of ``healing.json``.

    Attributes:
        status, healed, alpha, dampening_constant, metrics, settings, warnings, notes: see `Healing`.
        provenance: versions, commit and class of the model, where they were recorded.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    status: str
    healed: bool
    alpha: float | None = None
    dampening_constant: float | None = None
    metrics: dict[str, Any]
    settings: dict[str, Any]
    warnings: list[str] = []
    notes: list[str] = []
    provenance: Provenance | None = None


class Provenance(BaseModel):
    """Where a healed model comes from.

    Attributes:
        versions: package -> version.
        git_commit: of theriac.
        model_class: name of the module's class.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    versions: dict[str, str | None] = {}
    git_commit: str | None = None
    model_class: str | None = None


def export_card(results: Sequence[Path], out: Path, force: bool) -> str:
    """Write the card of a model that `Healing.save` has stored.

    Args:
        results: the one folder of the model.
        out: the file, whose name ends in ``.md``.
        force: overwrite a file of this name.

    Returns:
        A line that says what was written.

    Raises:
        BadInput: the folder holds no healed model, or the file cannot be written or exists.
    """
    if len(results) > 1:
        raise BadInput(f"a card is of one model, and {len(results)} folders were given; give one of them")
    folder = results[0]
    report = _stored(folder)
    if out.suffix.lower() != ".md" and not out.is_dir():
        raise BadInput(f"--out {out}: the name of a model card ends in .md; call it {CARD}")
    check_file(out, (), force, example=CARD)
    whole_file(out, lambda path: _write(path, report, folder.resolve().name))
    return f"{out}: model card; the licence is yours to fill in"


def keep_card(folder: Path, report: Report) -> bool:
    """Write ``README.md`` beside a healed model, unless it holds anything that theriac did not write.

    Args:
        folder: of the model.
        report: as ``healing.json`` has it.

    Returns:
        Whether it was written; False where a README was left as it is.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / CARD
    if os.path.lexists(path) and not _is_ours(path):
        return False
    write_atomically(path, lambda temporary: _write(temporary, report, folder.resolve().name))
    return True


def _write(path: Path, report: Report, name: str) -> None:
    text = model_card(report, name).encode()
    path.write_bytes(text + f"\n<!-- written by theriac: {_digest(text)} -->\n".encode())


def _is_ours(path: Path) -> bool:
    """Tell whether a card is as theriac wrote it."""
    try:
        content = read_small(path)
    except OSError:
        return False
    found = MARK.search(content)
    return found is not None and found[1].decode() == _digest(content[: found.start()])


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def _stored(folder: Path) -> Report:
    """Read the report of a healing."""
    for name in (REPORT, WEIGHTS):
        if not (folder / name).is_file():
            raise BadInput(f"{folder} holds no {name}; name the folder that `theriac heal` wrote")
    try:
        content = json.loads(read_small(folder / REPORT))
        return Stored.model_validate(content).model_dump(exclude_none=True)
    except (OSError, ValueError, RecursionError) as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else ""
        reason = f"{place}: {error.errors()[0]['msg']}" if isinstance(error, ValidationError) else str(error)
        raise BadInput(
            f"{folder / REPORT} is no report of a healing ({reason:.200}); name the folder that "
            f"`theriac heal` wrote"
        ) from error
