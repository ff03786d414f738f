"""Finished cells in TensorBoard (read back from its files), and in MLflow and W&B (small fakes)."""

from __future__ import annotations

import importlib
import logging
import struct
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pytest

from theriac.cluster import loggers
from theriac.cluster.loggers import Background, cell_logger, run_name
from theriac.errors import BadInput

IDENTITY = {
    "scenario": "abc",
    "dataset": "digits",
    "model": "resnet9",
    "attack": "badnets",
    "manipulated": 100,
    "share": "one_shot",
    "seed": 3,
}
DONE: dict[str, Any] = {
    **IDENTITY,
    "key": "0123456789",
    "method": "xlf",
    "granularity": "sample",
    "search": "ptn",
    "parameters": '{"steps": 5}',
    "status": "stopped",
    "clean_accuracy": 0.9375,
    "damage": -1.5,
    "asr": None,
    "healed_raw": 0.75,
    "alpha": 12.5,
    "steps": 40,
    "seconds_search": 0.5,
    "lfr": [0.1, 0.2],
}
FAILED: dict[str, Any] = {
    **IDENTITY,
    "key": "9876543210",
    "method": "eu",
    "granularity": None,
    "search": None,
    "parameters": None,
    "status": "failed",
    "error_class": "MemoryError",
    "error_message": "too large",
}
METRICS = {
    "clean_accuracy": 0.9375,
    "damage": -1.5,
    "healed_raw": 0.75,
    "alpha": 12.5,
    "steps": 40.0,
    "seconds_search": 0.5,
}
PARAMETERS = {name: DONE[name] for name in loggers.PARAMETERS}
FAILED_PARAMETERS = {name: FAILED[name] for name in loggers.PARAMETERS if FAILED[name] is not None}


def log_all(name: Literal["tensorboard", "mlflow", "wandb"], results: Path, *rows: dict[str, Any]) -> None:
    logger = cell_logger(name, results)
    assert logger is not None
    for row in rows:
        logger.cell(row)
    logger.close()


def summaries(folder: Path) -> list[Any]:
    """All values in the event files of a folder: records of length, checksum, event, checksum."""
    proto: Any = importlib.import_module("tensorboardX.proto.event_pb2")
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found += proto.Event.FromString(data[12 : 12 + length]).summary.value
            data = data[16 + length :]
    return found


def hyperparameters(folder: Path) -> dict[str, Any]:
    proto: Any = importlib.import_module("tensorboardX.proto.plugin_hparams_pb2")
    for value in summaries(folder):
        if value.tag == "_hparams_/session_start_info":
            content = proto.HParamsPluginData.FromString(value.metadata.plugin_data.content)
            entries = content.session_start_info.hparams.items()
            return {name: entry.string_value or entry.number_value for name, entry in entries}
    raise AssertionError(f"no hyperparameters in {folder}")


def test_no_logger_without_a_name(tmp_path: Path) -> None:
    assert cell_logger(None, tmp_path) is None


def test_tensorboard_has_a_run_per_cell(tmp_path: Path) -> None:
    log_all("tensorboard", tmp_path, DONE, FAILED)
    first, second = (tmp_path / "tensorboard" / run_name(row) for row in (DONE, FAILED))
    assert set((tmp_path / "tensorboard").iterdir()) == {first, second}
    scalars = {value.tag: value.simple_value for value in summaries(first) if "_hparams_" not in value.tag}
    assert scalars == METRICS
    assert hyperparameters(first) == {**PARAMETERS, "status": "stopped"}
    assert hyperparameters(second) == {**FAILED_PARAMETERS, "status": "failed"}
    assert all("_hparams_" in value.tag for value in summaries(second))
    assert not [value for value in summaries(first) if value.tag == "_hparams_/experiment"]


def test_names_of_runs_differ_and_are_folders() -> None:
    names = {run_name(row) for row in (DONE, FAILED, {**DONE, "key": "77777777"}, {**DONE, "model": "a/b"})}
    assert len(names) == 4
    assert not any("/" in name for name in names)
    assert "digits-resnet9-badnets-100-one_shot-xlf-sample-ptn-seed3-01234567" in names


class FakeClient:
    """What is used of `mlflow.MlflowClient`."""

    made: list[FakeClient]
    known: dict[str, str]

    def __init__(self, *, tracking_uri: str) -> None:
        self.uri, self.runs, self.artifacts = tracking_uri, dict[str, dict[str, Any]](), dict[str, Any]()
        self.made.append(self)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.known[name]) if name in self.known else None

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        self.known[name] = "17"
        self.artifacts[name] = artifact_location
        return "17"

    def create_run(self, experiment_id: str, *, tags: dict[str, str], run_name: str) -> Any:
        run = {"experiment": experiment_id, "tags": tags, "name": run_name, "params": {}, "metrics": {}}
        self.runs[f"run{len(self.runs)}"] = run
        return SimpleNamespace(info=SimpleNamespace(run_id=f"run{len(self.runs) - 1}"))

    def log_param(self, run: str, name: str, value: Any) -> None:
        self.runs[run]["params"][name] = value

    def log_metric(self, run: str, name: str, value: float) -> None:
        self.runs[run]["metrics"][name] = value

    def set_terminated(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    module: Any = ModuleType("mlflow")
    module.MlflowClient = FakeClient
    FakeClient.made, FakeClient.known = [], {}
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return FakeClient


def test_mlflow_has_a_run_per_cell(mlflow: type[FakeClient], tmp_path: Path) -> None:
    log_all("mlflow", tmp_path, DONE, FAILED)
    (client,) = mlflow.made
    assert client.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert client.artifacts == {"theriac": (tmp_path / "mlruns").as_uri()}
    first, second = client.runs.values()
    assert first["experiment"] == second["experiment"] == "17"
    assert (first["params"], first["metrics"], first["status"]) == (PARAMETERS, METRICS, "FINISHED")
    assert first["tags"] == {"status": "stopped", "key": DONE["key"], "scenario": "abc"}
    assert first["name"] == run_name(DONE)
    assert (second["params"], second["metrics"], second["status"]) == (FAILED_PARAMETERS, {}, "FAILED")
    assert second["tags"]["error_message"] == "too large"


def test_mlflow_follows_the_environment(
    mlflow: type[FakeClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    mlflow.known["theriac"] = "4"
    log_all("mlflow", tmp_path, DONE)
    (client,) = mlflow.made
    assert client.uri == "http://tracking:5000"
    assert client.runs["run0"]["experiment"] == "4"
    assert client.artifacts == {}


class FakeRun:
    """What is used of a run of `wandb`."""

    def __init__(self, **options: Any) -> None:
        self.options, self.summary = options, dict[str, Any]()
        self.exit_code: int | None = None

    def finish(self, exit_code: int | None = None) -> None:
        self.exit_code = exit_code


def test_wandb_has_a_run_per_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("wandb")
    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        runs.append(FakeRun(**options))
        return runs[-1]

    module.init = init
    module.Settings = lambda **options: options
    monkeypatch.setitem(sys.modules, "wandb", module)
    log_all("wandb", tmp_path / "results", DONE, FAILED)
    first, second = runs
    assert (tmp_path / "results").is_dir()
    assert first.options["project"] == "theriac"
    assert first.options["config"] == PARAMETERS
    assert first.options["tags"] == ["stopped"]
    assert first.options["reinit"] == "create_new"
    assert first.options["settings"]["silent"] is True
    assert first.summary == {**METRICS, "key": DONE["key"]}
    assert (first.exit_code, second.exit_code) == (0, 1)
    assert second.options["config"] == FAILED_PARAMETERS
    assert second.summary["error_class"] == "MemoryError"


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboardX"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_missing_package_is_named(
    name: Literal["tensorboard", "mlflow", "wandb"],
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInput, match=f"--log {name} needs .*; pip install {module}, or leave --log out"):
        cell_logger(name, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_nothing_is_written_before_the_first_cell(mlflow: type[FakeClient], tmp_path: Path) -> None:
    log_all("tensorboard", tmp_path / "results")
    log_all("mlflow", tmp_path / "results")
    assert mlflow.made == []
    assert not (tmp_path / "results").exists()


class Sink:
    """Raises when it is told to."""

    def __init__(self, *fails: bool) -> None:
        self.fails, self.seen = list(fails), list[int]()

    def log(self, row: dict[str, Any]) -> None:
        self.seen.append(row["n"])
        if self.fails.pop(0):
            raise ConnectionError("no\nserver")


def test_failures_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(False, True, True, False, True)
    logger = Background("mlflow", sink)
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            logger.cell({"n": number})
        logger.close()
    (record,) = caplog.records
    assert "mlflow (ConnectionError: no server)" in record.getMessage()
    assert sink.seen == [0, 1, 2, 3, 4]


def test_a_dead_server_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(*[True] * 10)
    logger = Background("wandb", sink)
    for number in range(10):
        logger.cell({"n": number})
    logger.close()
    assert sink.seen == list(range(loggers.MOST_FAILURES))
    assert len(caplog.records) == 1


def test_a_slow_server_does_not_hold_the_sweep_up() -> None:
    answers, seen = threading.Event(), list[int]()

    class Slow:
        def log(self, row: dict[str, Any]) -> None:
            assert answers.wait(60)
            seen.append(row["n"])

    logger, row = Background("slow", Slow()), {"n": 1}
    logger.cell(row)
    row["n"] = 2  # the row is taken as it is now
    assert seen == []
    answers.set()
    logger.close()
    assert seen == [1]
