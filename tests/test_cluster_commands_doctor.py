from __future__ import annotations

import builtins
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
import torch
from packaging.requirements import Requirement

from theriac.cluster import scratch
from theriac.cluster.commands import doctor
from theriac.cluster.commands.doctor import Check, diagnose
from theriac.datasets.sources.names import DATASETS
from theriac.errors import BadInput

GIB = 2**30


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make every disk have so many free bytes of 100 GiB."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GIB, 100 * GIB - free, free))

    return set_free


@pytest.fixture
def unimportable(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make importing one package fail."""
    real = builtins.__import__

    def forbid(package: str) -> None:
        def fake(name: str, *rest: Any, **more: Any) -> Any:
            if name.split(".")[0] == package:
                raise ImportError(f"libnothing.so is missing\nfor {package}")
            return real(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", fake)

    return forbid


def cgroup(root: Path, **limits: str) -> Path:
    """Files of one control group that this process is in."""
    root.mkdir(exist_ok=True)
    for name, text in limits.items():
        (root / name.replace("_", ".")).write_text(text + "\n")
    return root


def test_diagnose_looks_at_everything_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checks = diagnose(tmp_path, results=tmp_path / "not" / "yet")
    names = [check.name for check in checks]
    expected = {"python", "theriac", "cpus", "memory", "disk for results", "shared memory", "ray cluster"}
    assert expected <= set(names)
    assert {f"data: {name}" for name in DATASETS} <= set(names)
    assert any(name.startswith("gpu") for name in names)
    assert len(names) == len(set(names))
    assert all(check.value for check in checks)
    assert capfd.readouterr() == ("", "")


def test_failing_check_needs_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"'disk'.*full.*no remedy"):
        Check("disk", False, "full")


def test_versions_against_ranges() -> None:
    good, old, missing = doctor.compare_versions(
        ["numpy>=1", "torch>=999", "no-such-package~=1.0", "ruff>=999; extra == 'dev'"]
    )
    assert (good.name, good.ok, good.remedy) == ("numpy", True, None)
    assert not old.ok
    assert torch.__version__.split("+")[0] in old.value
    assert ">=999" in old.value
    assert old.remedy is not None
    assert "pip install 'torch>=999'" in old.remedy
    assert not missing.ok
    assert missing.value.startswith("not installed")


def test_requirement_for_other_systems_is_left_out() -> None:
    assert doctor.compare_versions(["no-such-package; python_version < '3'"]) == []


def test_version_without_a_range_is_accepted() -> None:
    assert doctor.check_package(Requirement("numpy")).ok


def test_package_that_is_not_installed_says_how() -> None:
    (check,) = doctor.check_packages("theriac-of-another-name")
    assert not check.ok
    assert check.remedy is not None
    assert "pip install -e ." in check.remedy


def test_cpus_respect_a_container_quota(tmp_path: Path) -> None:
    assert doctor.usable_cpus(cgroup(tmp_path, cpu_max="50000 100000")) == 0.5
    assert doctor.usable_cpus(cgroup(tmp_path, cpu_max="max 100000")) >= 1


def test_memory_respects_a_container_limit(tmp_path: Path) -> None:
    folder = cgroup(
        tmp_path, memory_max=str(2**29), memory_current=str(2**28), memory_stat="anon 5\ninactive_file 1000"
    )
    total, available = doctor.memory(folder)
    assert total == 2**29
    assert available == min(doctor.available_memory() or 0, 2**28 + 1000)


def test_memory_without_limits(tmp_path: Path) -> None:
    total, available = doctor.memory(cgroup(tmp_path, memory_max="max"))
    assert total == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available is None or 0 < available <= total


def test_available_memory_is_read_in_bytes(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       24000 kB\nMemAvailable:   1000 kB\n")
    assert doctor.available_memory(file) == 1_024_000
    assert doctor.available_memory(tmp_path / "none") is None


def test_little_memory_fails() -> None:
    check = doctor.check_memory(least=2**60)
    assert not check.ok
    assert doctor.check_memory(least=1).ok


def test_unknown_available_memory_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "memory", lambda: (8 * GIB, None))
    assert doctor.check_memory() == Check("memory", True, "8.0 GiB")


def test_disk_of_a_folder_that_is_yet_to_be_made(tmp_path: Path) -> None:
    check = doctor.check_disk(tmp_path / "a" / "b", least=0)
    assert check.ok
    assert check.value.endswith(f"free in {tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_fails(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(2**20)
    check = doctor.check_disk(tmp_path)
    assert (check.ok, check.value) == (False, f"1 MiB free in {tmp_path}")


def test_results_below_a_file_fail(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    check = doctor.check_disk(file / "results")
    assert not check.ok
    assert str(file / "results") in check.value
    assert "Not a directory" in check.value


def test_little_shared_memory_fails(tmp_path: Path, disk: Callable[[int], None]) -> None:
    disk(2**26)
    check = doctor.check_shared_memory(tmp_path)
    assert not check.ok
    assert check.remedy is not None
    assert "--shm-size" in check.remedy
    assert doctor.check_shared_memory(tmp_path / "none").ok


def test_a_look_that_fails_is_a_fault_and_the_others_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("a machine of another kind")

    monkeypatch.setattr(doctor, "check_memory", fail)
    checks = {check.name: check for check in diagnose()}
    assert "KeyError: 'a machine of another kind'" in checks["memory"].value
    assert not checks["memory"].ok
    assert checks["cpus"].ok


def test_python_without_docstrings_is_a_fault() -> None:
    check = doctor.check_python(2)
    assert not check.ok
    assert "-OO" in check.value
    assert doctor.check_python(1).ok


def test_temporary_files_and_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = tmp_path / "a folder"
    used.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(used))
    monkeypatch.setenv("TMPDIR", str(used))
    check = doctor.check_temporary()
    assert (check.ok, check.remedy) == (True, None)
    assert check.value == f"in {used}, sockets of Ray in {scratch.short_parent()}"
    monkeypatch.setenv("TMPDIR", "/no/such")
    check = doctor.check_temporary()
    assert check.ok
    assert "'/no/such', which cannot be used" in check.value
    monkeypatch.setattr(scratch, "_private", lambda parent: False)
    check = doctor.check_temporary()
    assert not check.ok
    assert check.value.startswith("no folder for Ray's sockets")
    assert check.remedy is not None
    assert check.remedy.startswith("set TMPDIR")


def test_environment_out_of_the_ordinary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "warnoptions", [])
    assert doctor.check_environment() == []
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert [(check.name, check.ok) for check in doctor.check_environment()] == [
        ("home", True),
        ("current folder", False),
        ("warnings", True),
    ]


def test_no_gpu_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (check,) = doctor.check_gpus()
    assert check.ok
    assert check.remedy is not None


def test_driver_without_a_usable_gpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (check,) = doctor.check_gpus()
    assert not check.ok
    assert "built without CUDA" in doctor.unused_gpu(None).value


def test_gpus_are_named_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: ((1 + index) * GIB, 8 * GIB))
    first, second = doctor.check_gpus()
    assert first == Check("gpu 0", True, "Card 0, 1.0 GiB free of 8.0 GiB")
    assert second == Check("gpu 1", True, "Card 1, 2.0 GiB free of 8.0 GiB")


def test_gpu_that_refuses_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(index: int) -> None:
        raise RuntimeError("CUDA error: all devices are busy\nsecond line")

    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse)
    check = doctor.check_gpu(0)
    assert (check.ok, check.value) == (False, "cannot be used: CUDA error: all devices are busy")


def test_torch_that_cannot_be_imported(unimportable: Callable[[str], None]) -> None:
    unimportable("torch")
    (check,) = doctor.check_gpus()
    assert (check.ok, check.value) == (False, "PyTorch cannot be imported: libnothing.so is missing")


def test_ray_that_cannot_be_imported(unimportable: Callable[[str], None]) -> None:
    unimportable("ray")
    (check,) = doctor.check_ray(start=True)
    assert not check.ok
    assert check.remedy is not None
    assert "ray[tune]" in check.remedy


def test_ray_address_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    (check,) = doctor.check_ray()
    assert "192.0.2.1:6379" in check.value
    monkeypatch.delenv("RAY_ADDRESS")
    assert "not set" in doctor.check_ray()[0].value


def test_ray_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no room\nin /tmp")

    monkeypatch.setattr(ray, "init", refuse)
    check = doctor.start_local_ray()
    assert (check.ok, check.value) == (False, "does not start: no room")


def test_local_ray_starts_and_stops() -> None:
    if ray.is_initialized():
        pytest.skip("another test's Ray runs in this process")
    assert doctor.start_local_ray().ok
    assert not ray.is_initialized()


def test_data_found_and_missing(tmp_path: Path) -> None:
    checks = {check.name: check for check in doctor.check_data(tmp_path)}
    assert all(check.ok for check in checks.values())
    assert checks["data: digits"].remedy is None
    missing = checks["data: cifar10"]
    assert missing.value == "not found"
    assert missing.remedy is not None
    assert str(tmp_path) in missing.remedy


def test_unreadable_data_folder_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: object) -> None:
        raise BadInput("no folder\nat all")

    monkeypatch.setattr("theriac.datasets.sources.available", refuse)
    (check,) = doctor.check_data(None)
    assert (check.ok, check.value) == (False, r"no folder\nat all")


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 B"), (1023, "1023 B"), (2**10, "1 KiB"), (2**29, "512 MiB"), (3 * 2**29, "1.5 GiB")],
)
def test_size_in_words(number: int, words: str) -> None:
    assert doctor.size(number) == words
