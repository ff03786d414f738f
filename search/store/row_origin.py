"""Where a row comes from: its key, and the versions, commit and device behind it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DISTRIBUTIONS = (
    "theriac",
    "torch",
    "torchvision",
    "timm",
    "ray",
    "optuna",
    "numpy",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scikit-learn",
)
"""The packages whose versions `provenance` records."""


def row_key(*parts: object) -> str:
    """Make a key for what ``parts`` determine: 20 hex digits of the SHA-256 of their canonical JSON.

    Equal parts give equal keys in every process and release; the order of dict entries does not matter.

    Raises:
        TypeError: a part that JSON cannot write (tensors, paths, models: dump them first).
        ValueError: a number that is not finite.

    Example:
        >>> row_key("digits", {"seed": 0, "share": 0.2}) == row_key("digits", {"share": 0.2, "seed": 0})
        True
    """
    text = json.dumps(_without_minus_zero(parts), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _without_minus_zero(part: object) -> object:
    """Replace -0.0 by 0.0, which it equals; JSON tells them apart."""
    if isinstance(part, float):
        return part + 0.0
    if isinstance(part, Mapping):
        return {key: _without_minus_zero(value) for key, value in part.items()}
    return [_without_minus_zero(value) for value in part] if isinstance(part, list | tuple) else part


def provenance(device: torch.device | str | None = None) -> dict[str, str | None]:
    """Return what a row of ``runs`` says about where it came from; never raises.

    Args:
        device: the device the run uses; by default the first GPU, or the CPU if there is none.

    Returns:
        ``versions`` (JSON object: package -> version, null if not installed; "cuda" only where the device is
        a GPU), ``git_commit`` (of the checkout
        that theriac is imported from, with ``-dirty`` if tracked files differ; None if it is not a checkout)
        and ``device``.
    """
    versions = {"python": platform.python_version()} | {name: _version(name) for name in DISTRIBUTIONS}
    versions |= _cuda(device)
    root = Path(__file__).resolve().parents[2]
    return {"versions": json.dumps(versions), "git_commit": _git_commit(root), "device": _device_name(device)}


def _cuda(device: torch.device | str | None) -> dict[str, str | None]:
    if not str(device).startswith("cuda"):
        return {}
    import torch

    return {"cuda": torch.version.cuda or "not that of this machine"}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git_commit(root: Path) -> str | None:
    if not (root / ".git").exists():
        return None
    # inside a hook git exports GIT_DIR and the like, which would point at another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _device_name(device: torch.device | str | None) -> str:
    import torch  # here, because reading results needs no torch and should start at once

    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else _processor()
    except (RuntimeError, AssertionError, ValueError):
        return str(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
