"""Pages of `theriac report` as a program sees them, and the browser they are tried in."""

from __future__ import annotations

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from theriac.search.store import ResultsStore

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

SOUND: dict[str, Any] = {
    **{"dataset": "digits", "model": "resnet9", "attack": "badnets", "share": "0.2", "manipulated": 100},
    **{"method": "xlf", "search": "ptn", "granularity": "sample", "seed": 0, "status": "stopped"},
    **{"clean_accuracy_before": 0.9, "clean_accuracy": 0.8, "damage": -10.0, "asr_before": 1.0, "asr": 0.1},
    **{"healed_raw_before": 0.1, "healed_raw": 0.7, "healed": 80.0, "uses_oracle": False, "setup": "a"},
}
EVIL = (
    "<script>alert(1)</script>",
    '"></td><img src=x onerror=document.title="owned">',
    "</script><b id=owned>",
    "`${alert(1)}` {{ 7 * 7 }}",
    "a\u202eb\u2066c\u200fd",
    "'><svg onload=alert(1)>",
)


def row(key: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, **SOUND, **fields}


def evil_rows() -> list[dict[str, Any]]:
    """Rows whose every text is an attack: as dataset, attack, method, setting, reason and key."""
    names = ("dataset", "model", "attack", "method", "granularity", "sweep", "share", "settings", "run")
    bad = [row(f"k{k} {text}", **{name: text}) for k, text in enumerate(EVIL) for name in names]
    failed = {"status": "failed", "healed": None, "damage": None}
    texts = enumerate(EVIL)
    bad += [row(f"f{k}", **failed, error_class=text, error_message=text, seed=k) for k, text in texts]
    return [{**one, "key": f"{k} {one['key']}", "setup": f"{k}"} for k, one in enumerate(bad)]


def written(folder: Path, rows: list[dict[str, Any]], runs: list[dict[str, Any]] | None = None) -> Path:
    store = ResultsStore(folder)
    store.append("searches", rows)
    store.append("runs", runs or [])
    return folder


class Page(HTMLParser):
    """The elements of a page: their names, and all attributes with their values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def browsed(page: Path, profile: Path, *more: str) -> str:
    """What a browser makes of a page once its script has run."""
    assert CHROMIUM is not None
    quiet = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    box = ("--no-sandbox",) if os.geteuid() == 0 else ()
    command = [CHROMIUM, *quiet, *box, f"--user-data-dir={profile}", *more, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout
