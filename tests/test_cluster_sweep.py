"""A whole sweep on workers of Ray: the rows of one process, nothing twice, and ends of every kind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from theriac.tests.sweeps import (
    TWO_VICTIMS,
    Command,
    Rows,
    computed_again,
    differences,
    finished,
    finished_cells,
    found_rows,
    half_written,
    reference_rows,
    run_here,
    until,
    written_sweep,
)


@pytest.fixture(scope="module")
def rows() -> Rows:
    """What comes of the sweep in one process."""
    return reference_rows()


@pytest.fixture(scope="module")
def two_victims() -> Rows:
    """What comes of the sweep with two victims in one process."""
    return reference_rows(TWO_VICTIMS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The sweep, undisturbed, and over."""
    folder = tmp_path_factory.mktemp("done")
    with Command(written_sweep(folder, TWO_VICTIMS), folder / "results") as command:
        assert command.end() == 0, command.said
    return command


@pytest.fixture
def again(done: Command, tmp_path: Path) -> tuple[Path, Path]:
    """Sweep file and results, copied: of a sweep that is over."""
    shutil.copytree(done.results, tmp_path / "results")
    return written_sweep(tmp_path, TWO_VICTIMS), tmp_path / "results"


def test_two_workers_give_the_rows_of_one_process(done: Command, two_victims: Rows) -> None:
    assert differences(done.results, two_victims) == []
    assert done.summary["computed"] == len(two_victims["searches"])
    assert half_written(done.results) == []
    assert done.status.state == "finished"
    assert done.status.done == done.status.total == len(two_victims["searches"])


def test_a_second_run_computes_nothing_and_takes_no_ray(again: tuple[Path, Path]) -> None:
    file, results = again
    before = finished(results)
    with Command(file, results) as command:
        assert command.end() == 0
    assert "starting Ray" not in command.said
    assert (command.summary["computed"], command.summary["counts"]) == (0, {})
    assert finished(results) == before


@pytest.mark.usefixtures("ray_here")
def test_a_changed_sweep_adds_what_is_new_and_one_made_fresh_replaces_the_rows(
    again: tuple[Path, Path], two_victims: Rows, tmp_path: Path
) -> None:
    file, results = again
    rows = two_victims
    before, total = finished(results), len(rows["searches"])
    written_sweep(tmp_path, TWO_VICTIMS.replace("[one_shot, 0.5]", "[one_shot, 0.5, 0.8]"))
    ended = run_here(file, results)
    assert (ended.code, ended.summary["computed"]) == (0, 14)
    assert len(found_rows(results)["searches"]) == total + 14
    assert computed_again(before, results) == []
    written_sweep(tmp_path, TWO_VICTIMS)
    ended = run_here(file, results, "--fresh", "--set", "seeds=[0]")
    assert (ended.code, ended.summary["computed"]) == (0, total // 2)
    found = found_rows(results)
    assert {key: found["searches"][key] for key in rows["searches"]} == rows["searches"]
    redone = computed_again(before, results)
    assert len(redone) == total // 2
    assert not [name for name in redone if "/" in name], "models and importances are kept"


@pytest.mark.usefixtures("ray_here")
def test_ctrl_c_finishes_what_has_begun_and_the_same_command_goes_on(rows: Rows, tmp_path: Path) -> None:
    file, results, total = written_sweep(tmp_path), tmp_path / "results", len(rows["searches"])
    with Command(file, results) as command:
        command.wait_for_cells(3)
        command.interrupt()
        assert command.end() == 130
        assert "finishing what has begun" in command.said
        assert "Traceback" not in command.said
        assert command.status.state == "interrupted"
    assert half_written(results) == []
    first, begun = finished(results), finished_cells(results)
    with Command(file, results) as command:
        command.wait_for(lambda: finished_cells(results) > begun, "more cells")
        command.interrupt(signal.SIGTERM)  # `timeout` and others send it to the whole group
        assert command.end() == 130
        assert "finishing what has begun" in command.said
        assert "Ray's" not in command.said
        assert command.status.state == "interrupted"
    assert computed_again(first, results) == []
    second = finished(results)
    with Command(file, results) as command:
        command.wait_for(lambda: "run" in command.status.state and command.processes("ray::Imp"), "actors")
        command.interrupt(signal.SIGHUP)  # the terminal is closed
        command.interrupt()
        assert command.end() == 130
        assert "Traceback" not in command.said
    third, cells = {**second, **finished(results)}, finished_cells(results)
    ended = run_here(file, results)
    assert (ended.code, ended.summary["computed"]) == (0, total - cells)
    assert differences(results, rows) == []
    assert computed_again(third, results) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that `fill` can fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(["mount", *options], capture_output=True, check=False)
    if sys.platform != "linux" or not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path, command: Command) -> bool:
    """Let a file grow until its disk is full, whatever was deleted meanwhile; whether the command is over."""
    with suppress(OSError), file.open("ab", buffering=0) as growing:
        while growing.write(bytes(4096)):
            pass
    command.processes()
    return command.process.poll() is not None


@pytest.mark.usefixtures("ray_here")
def test_a_full_disk_is_one_error_and_the_same_command_goes_on(
    rows: Rows, small_disk: Path, tmp_path: Path
) -> None:
    file, results, filler = written_sweep(tmp_path), small_disk / "results", small_disk / "filler"
    with Command(file, results, log=tmp_path / "full.log", workers=1) as command:
        command.wait_for_cells(2)
        until(lambda: fill(filler, command), "the end on a full disk")
        assert command.end() == 2, command.said
    said = [line for line in command.said.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "space" in said[0]
    assert "Traceback" not in command.said
    before, cells = finished(results), finished_cells(results)
    assert {row["status"] for row in found_rows(results)["searches"].values()} <= {
        row["status"] for row in rows["searches"].values()
    }
    filler.unlink()
    ended = run_here(file, results)
    assert (ended.code, ended.summary["computed"]) == (0, len(rows["searches"]) - cells)
    assert differences(results, rows) == []
    assert computed_again(before, results) == []


@pytest.mark.usefixtures("ray_here")
def test_the_cell_of_a_torn_part_is_computed_again_alone(rows: Rows, tmp_path: Path) -> None:
    file, results = written_sweep(tmp_path), tmp_path / "results"
    with Command(file, results, workers=1) as command:
        command.wait_for_cells(4)
        torn = sorted((results / "searches").glob("*.parquet"))[0]
        os.truncate(torn, torn.stat().st_size // 2)
        assert command.end() == 1, "the cell is missing"
        assert torn.name in command.said
        assert "1 lost" in command.said
    assert torn.exists(), "nobody throws away what cannot be read"
    before = {name: when for name, when in finished(results).items() if "/" in name}
    ended = run_here(file, results)
    assert (ended.code, ended.summary["computed"]) == (0, 1), ended.said
    torn.unlink()
    assert differences(results, rows) == []
    assert computed_again(before, results) == []


@pytest.mark.usefixtures("ray_here")
def test_failed_cells_are_rows_and_are_tried_again(tmp_path: Path) -> None:
    file, results = written_sweep(tmp_path), tmp_path / "results"
    untaught = ["scenario.recipe.iterations=1", "scenario.recipe.learning_rate=1e-9"]
    changes = [*untaught, "scenario.gate.clean_accuracy=1.0", "seeds=[0]"]
    options = [word for change in changes for word in ("--set", change)]
    for _ in range(2):
        ended = run_here(file, results, *options)
        assert ended.code == 1, ended.said
        assert ended.summary["failed"] == 13
        assert ended.summary["counts"]["untreated jobs"] == 13
        assert ended.status.failures[0].error_class == "GateFailed"
