"""Keys and provenance of result rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from theriac.search.store import row_origin as provenance_module
from theriac.search.store.results import ResultsStore
from theriac.search.store.row_origin import provenance, row_key


def test_provenance_fills_the_columns_of_runs(tmp_path: Path) -> None:
    origin = provenance("cpu")
    versions = json.loads(origin["versions"] or "")
    assert versions["python"] == sys.version.split()[0]
    assert versions["pyarrow"] == pa.__version__
    assert {"theriac", "torch", "torchvision", "timm", "ray", "numpy"} <= set(versions)
    assert origin["device"]
    store = ResultsStore(tmp_path)
    store.append("runs", [{"key": "a", "started_at": datetime.now(UTC), **origin}])
    assert store.read("runs")["versions"].to_pylist() == [origin["versions"]]


def test_provenance_survives_a_machine_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(provenance_module, "_version", lambda name: None)
    assert provenance("no such device")["git_commit"] is None


def test_the_commit_is_that_of_the_checkout_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout.strip()

    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    git("init", "--quiet")
    assert provenance_module._git_commit(tmp_path) is None
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    git("tag", "-a", "v1", "-m", "v1")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert provenance_module._git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("two")
    assert provenance_module._git_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"
    (tmp_path / "below").mkdir()
    assert provenance_module._git_commit(tmp_path / "below") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_keys_ignore_the_order_of_entries(entries: dict[str, object]) -> None:
    backwards = dict(reversed(entries.items()))
    assert row_key("x", entries) == row_key("x", backwards)
    assert row_key("x", entries) != row_key("y", entries) != row_key(entries)


def test_keys_are_fixed_for_good() -> None:
    assert row_key("digits", 7, 0.2, None, {"b": [True], "a": "ä"}) == "f01583d3faf1fa94e493"
    assert row_key("ab", "c") != row_key("a", "bc")
    with pytest.raises(ValueError, match="Out of range float"):
        row_key(float("nan"))
    with pytest.raises(TypeError):
        row_key(Path("x"))


def test_minus_zero_is_zero_and_no_other_number_is_changed() -> None:
    assert row_key({"rho": [-0.0, 1]}) == row_key({"rho": (0.0, 1)})
    assert row_key(0) != row_key(0.0) != row_key(-1.0)
