"""A sweep's run before any Ray: what it writes down of itself, and stores that cannot be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from theriac.cluster import run_sweep as sweeping
from theriac.cluster.run_sweep import SweepRun
from theriac.errors import BadInput
from theriac.search.store.results import ResultsStore
from theriac.search.sweep.files import load_sweep

URI = "s3://me:se/cr@et@bucket/x?token=to/ken"


@pytest.mark.parametrize("words", [["--store", URI], [f"--store={URI}"]])
def test_the_command_is_kept_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["theriac", "sweep", "digits", *words])
    monkeypatch.setattr(sweeping, "_accelerators", dict)
    run = SweepRun(sweep=load_sweep("digits-quick"), directory=tmp_path, store=URI)
    results = ResultsStore(tmp_path)
    run._register(results, run.sweep.tasks(), "cpu")
    (command,) = results.read("runs")["command"].to_pylist()
    assert command.startswith("theriac sweep digits --store")
    assert "s3://me:***@bucket/x" in command
    written = command + "".join(path.read_text() for path in tmp_path.rglob("*.yaml"))
    assert not any(secret in written for secret in ("se/cr", "et@", "to/ken"))


@pytest.mark.parametrize(
    ("store", "reason"),
    [("", "is empty"), ("s3:/bucket", "two slashes"), ("http://host/x", "can only be read")],
)
def test_a_store_that_cannot_be_is_refused_before_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, reason: str
) -> None:
    monkeypatch.setattr(sweeping, "ray_session", lambda *_, **__: pytest.fail("Ray was started"))
    run = SweepRun(sweep=load_sweep("digits-quick"), directory=tmp_path, store=store)
    with pytest.raises(BadInput, match=reason):
        run.execute()
