"""Looks at this machine and says what theriac finds, and the remedy for what is wrong. Prints nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from ...errors import BadInput
from ..environment import lost_folder, strict_warnings
from ..scratch import short_parent, temporary_parent

GIB = 2**30
LEAST_MEMORY = 2 * GIB
LEAST_DISK = 2 * GIB
# Ray refuses object stores below 75 MiB and puts what does not fit in /dev/shm on disk, which is slow
LEAST_SHARED_MEMORY = 256 * 2**20
CGROUPS = Path("/sys/fs/cgroup")
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Args:
        name: what was looked at.
        ok: whether theriac can work with it. A missing GPU or data set is ok: theriac works without.
        value: what was found, in words.
        remedy: what to do; never None where ``ok`` is false. Where ``ok`` is true: how to have more.

    Raises:
        ValueError: a check that is not ok and has no remedy.
    """

    name: str
    ok: bool
    value: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        if not self.ok and not self.remedy:
            raise ValueError(f"the failing check {self.name!r} ({self.value}) has no remedy; say what to do")


def diagnose(
    data_root: Path | str | None = None, *, results: Path | str = ".", start_ray: bool = False
) -> list[Check]:
    """Check everything theriac needs, in the order in which it should be put right.

    Args:
        data_root: folder of the data sets; None for the default of `theriac.datasets.sources.names`.
        results: folder to which results would be written; it need not exist.
        start_ray: also start and stop a local Ray, which takes some seconds.

    Returns:
        One `Check` for each thing looked at; no check raises for what it finds.
    """
    looks: list[tuple[str, Callable[[], list[Check]]]] = [
        ("python", lambda: [check_python()]),
        ("environment", check_environment),
        ("packages", check_packages),
        ("cpus", lambda: [check_cpus()]),
        ("gpu", check_gpus),
        ("memory", lambda: [check_memory()]),
        ("disk for results", lambda: [check_disk(Path(results))]),
        ("temporary files", lambda: [check_temporary()]),
        ("shared memory", lambda: [check_shared_memory()]),
        ("ray", lambda: check_ray(start=start_ray)),
        ("data", lambda: check_data(data_root)),
    ]
    return [check for name, look in looks for check in _looked(name, look)]


def _looked(name: str, look: Callable[[], list[Check]]) -> list[Check]:
    """Return the checks of ``look``, or a failing one: on an odd machine the others still answer."""
    try:
        return look()
    except Exception as error:
        remedy = (
            "put the faults above right; if there are none, theriac does not know this machine: report it"
        )
        value = f"cannot be looked at: {type(error).__name__}: {first_line(error)}"
        return [Check(name, False, value, remedy)]


def check_python(optimize: int = sys.flags.optimize) -> Check:
    """Check the Python that runs this; the package itself refuses to be installed on one too old."""
    system = f"{platform.system()} {platform.machine()}"
    value = f"{platform.python_version()} ({sys.executable}), {system}"
    if optimize > 1:
        remedy = "leave -OO out, or unset PYTHONOPTIMIZE: Ray needs its docstrings; -O is fine"
        return Check("python", False, f"{value}, run with -OO", remedy)
    return Check("python", True, value)


def check_environment() -> list[Check]:
    """Check home, current folder and variables of Python; report only what is out of the ordinary."""
    checks = []
    home = Path(os.path.expanduser("~"))
    if not os.access(home, os.W_OK):
        value = f"{home} cannot be written to; theriac needs none, other programs keep caches there"
        checks.append(Check("home", True, value, "set HOME to a folder of yours"))
    if lost_folder():
        checks.append(Check("current folder", False, "it has been removed", "cd to a folder that exists"))
        os.chdir(os.sep)  # torch ends the process where there is none
    if strict_warnings():
        value = "PYTHONWARNINGS or -W makes errors of warnings; theriac's commands do not heed it"
        checks.append(Check("warnings", True, value))
    return checks


def check_temporary() -> Check:
    """Check where temporary files go, and the sockets of a local Ray, whose paths must be short."""
    name, given = "temporary files", os.environ.get("TMPDIR")
    try:
        files, sockets = temporary_parent(), short_parent()
    except BadInput as error:
        what, _, remedy = str(error).rpartition("; ")
        return Check(name, False, what, remedy)
    value = f"in {files}" + (f", sockets of Ray in {sockets}" if sockets != files else "")
    if given and Path(given) != files:
        remedy = f"make the folder {given!r}, or set TMPDIR to one in which you may write"
        return Check(name, True, f"{value}; TMPDIR is {given!r}, which cannot be used", remedy)
    return Check(name, True, value)


def check_packages(distribution: str = "theriac") -> list[Check]:
    """Check installed versions against the metadata of ``distribution``, one check a package."""
    try:
        requirements = importlib.metadata.requires(distribution) or []
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        remedy = "install it with `python -m pip install -e .` in its folder, or run `make quickstart` there"
        return [Check(distribution, False, "imported from a folder, not installed: ranges unknown", remedy)]
    return [Check(distribution, True, version), *compare_versions(requirements)]


def compare_versions(requirements: Iterable[str]) -> list[Check]:
    """Check each requirement (PEP 508) that applies here without extras against what is installed."""
    parsed = (Requirement(text) for text in requirements)
    return [check_package(one) for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def check_package(requirement: Requirement) -> Check:
    """Check whether one requirement is met. Its own extras are not followed."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    value = f"{version or 'not installed'} (needs {str(requirement.specifier) or 'any version'})"
    if version is not None and requirement.specifier.contains(version, prereleases=True):
        return Check(requirement.name, True, value)
    remedy = f"install it with `{sys.executable} -m pip install '{requirement}'`"
    return Check(requirement.name, False, value, remedy)


def check_cpus() -> Check:
    """Check the CPU cores that this process may use."""
    return Check("cpus", True, f"{usable_cpus():g} usable of {os.cpu_count()}")


def usable_cpus(cgroups: Path = CGROUPS) -> float:
    """Count the CPU cores that this process may use: affinity and container limits; may be fractional."""
    cores = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    for folder in cgroup_folders(cgroups):
        quota, _, period = read_text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, int(quota) / int(period))
    return cores


def cgroup_folders(cgroups: Path = CGROUPS) -> list[Path]:
    """Find this process's control group (version 2) and all that enclose it: each may set a limit."""
    lines = read_text(Path("/proc/self/cgroup")).splitlines()
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folder = cgroups / own
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(cgroups))]


def read_text(path: Path) -> str:
    """Read a small system file, stripped; empty where this system has no such file."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def check_gpus() -> list[Check]:
    """Check CUDA GPUs and Apple's MPS; none is ok, unless a GPU is there that PyTorch cannot use."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library it loads is missing
        value = f"PyTorch cannot be imported: {first_line(error)}"
        return [Check("gpu", False, value, "install torch again")]
    if torch.cuda.is_available():
        return [check_gpu(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return [Check("gpu", True, "Apple MPS")]
    if shutil.which("nvidia-smi") is not None:
        return [unused_gpu(torch.version.cuda)]
    remedy = "for large models, use a machine with a CUDA GPU"
    return [Check("gpu", True, "none: everything runs on the CPU", remedy)]


def unused_gpu(cuda: str | None) -> Check:
    """Return the check of a machine whose NVIDIA driver is there, but no GPU for PyTorch.

    PyTorch was built for ``cuda``; None: without CUDA.
    """
    build = f"built for CUDA {cuda}" if cuda else "built without CUDA"
    remedy = (
        "run `nvidia-smi`: if it fails, repair the driver; if its CUDA version is lower than PyTorch's, "
        "update the driver; else look at CUDA_VISIBLE_DEVICES, or install a PyTorch with CUDA"
    )
    return Check("gpu", False, f"an NVIDIA driver, but PyTorch ({build}) finds no GPU", remedy)


def check_gpu(index: int) -> Check:
    """Check one CUDA GPU: its name and memory, and whether it can be used now."""
    import torch

    name = f"gpu {index}"
    try:
        free, total = torch.cuda.mem_get_info(index)
        return Check(name, True, f"{torch.cuda.get_device_name(index)}, {size(free)} free of {size(total)}")
    except RuntimeError as error:
        remedy = "see with `nvidia-smi` who holds it, or hide it with CUDA_VISIBLE_DEVICES"
        return Check(name, False, f"cannot be used: {first_line(error)}", remedy)


def check_memory(least: int = LEAST_MEMORY) -> Check:
    """Check main memory, container limits counted."""
    total, available = memory()
    if available is None:
        return Check("memory", True, f"{size(total)}")
    shortage = None if available >= least else f"close other programs: about {size(least)} are needed"
    return Check("memory", shortage is None, f"{size(available)} available of {size(total)}", shortage)


def memory(cgroups: Path = CGROUPS) -> tuple[int, int | None]:
    """Return total and available bytes of main memory under all limits; available may be unknown: None."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = available_memory()
    for folder in cgroup_folders(cgroups):
        limit = read_text(folder / "memory.max")
        if limit.isdigit():
            total = min(total, int(limit))
            if available is not None:
                available = min(available, max(0, int(limit) - cgroup_usage(folder)))
    return total, available


def cgroup_usage(folder: Path) -> int:
    """Count the bytes of a control group without the file cache that the kernel gives up when asked."""
    statistics = dict(line.split(" ", 1) for line in read_text(folder / "memory.stat").splitlines())
    return int(read_text(folder / "memory.current") or 0) - int(statistics.get("inactive_file", 0))


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Read ``MemAvailable`` in bytes; None where there is no such file (not Linux)."""
    for line in read_text(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def check_disk(results: Path, least: int = LEAST_DISK) -> Check:
    """Check whether results can be written to ``results`` (or made there), and the free space."""
    name = "disk for results"
    try:
        folder = existing_parent(results)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "choose a results folder in which you may write, or free some space"
        return Check(name, False, f"{results} cannot be written to: {first_line(error)}", remedy)
    shortage = None if free >= least else f"free some space or use another disk: {size(least)} are needed"
    return Check(name, shortage is None, f"{size(free)} free in {folder}", shortage)


def existing_parent(path: Path) -> Path:
    """Return ``path`` itself, or the nearest enclosing thing that exists."""
    absolute = path.expanduser().absolute()
    return next(one for one in (absolute, *absolute.parents) if one.exists())


def check_shared_memory(folder: Path = SHARED_MEMORY, least: int = LEAST_SHARED_MEMORY) -> Check:
    """Check shared memory, where Ray keeps the objects that workers share."""
    if not folder.is_dir():
        return Check("shared memory", True, f"this system has no {folder}; Ray uses temporary files")
    usage = shutil.disk_usage(folder)
    value = f"{size(usage.free)} free of {size(usage.total)} in {folder}"
    if usage.free >= least:
        return Check("shared memory", True, value)
    ways = f"`docker run --shm-size=2g`, or `mount -o remount,size=2g {folder}`"
    return Check("shared memory", False, value, f"give it at least {size(least)}: {ways}")


def check_ray(*, start: bool = False) -> list[Check]:
    """Check Ray's version, the cluster the environment names, and on request if a local Ray starts."""
    try:
        import ray
        import ray.tune
    except Exception as error:  # ImportError, and whatever Ray raises where it cannot live
        remedy = f"install it with `{sys.executable} -m pip install 'ray[tune]'`"
        remedy = f"mend the faults above, or {remedy}" if sys.flags.optimize > 1 else remedy
        return [Check("ray cluster", False, f"cannot be imported: {first_line(error)}", remedy)]
    address = os.environ.get("RAY_ADDRESS")
    used = f"RAY_ADDRESS is {address}" if address else "RAY_ADDRESS is not set: Ray runs on this machine"
    found = Check("ray cluster", True, f"{ray.__version__}; {used}")
    return [found, start_local_ray()] if start else [found]


def start_local_ray() -> Check:
    """Start a Ray with one CPU on this machine, run a task in it, and stop it. A running Ray stays."""
    import ray

    from ..lifeline import RayDied
    from ..session import local_ray

    if ray.is_initialized():
        return Check("local ray", True, "one is running in this process")
    try:
        with local_ray(1):
            version = ray.get(ray.remote(platform.python_version).remote(), timeout=120)
        return Check("local ray", True, f"starts; its worker runs Python {version}")
    except (Exception, RayDied) as error:  # Ray raises all kinds, plain `Exception` among them
        remedy = (
            "common causes are a full disk, little shared memory, a firewall on the loopback, and an old Ray "
            "that `ray stop` ends; `theriac quickstart -v` keeps Ray's logs and says where"
        )
        return Check("local ray", False, f"does not start: {first_line(error.__cause__ or error)}", remedy)


def check_data(root: Path | str | None) -> list[Check]:
    """Check which data sets are there. A missing one is ok; its remedy says how to have it."""
    try:
        from ...datasets.sources import available

        items = available(root)
    except (BadInput, OSError) as error:
        return [Check("data", False, first_line(error), "give another data folder, one you may read")]
    except ImportError as error:
        return [
            Check("data", False, f"cannot look: {first_line(error)}", "install the packages that fail above")
        ]
    return [data_check(item.name, item.found, item.detail) for item in items]


def data_check(name: str, found: bool, detail: str) -> Check:
    """Return the check of a data set that is at ``detail``, or that ``detail`` says how to get."""
    return (
        Check(f"data: {name}", True, detail) if found else Check(f"data: {name}", True, "not found", detail)
    )


def first_line(error: BaseException) -> str:
    """Return an error in one line, never empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def size(number: float) -> str:
    """Write bytes in words: ``3 * 2**29`` -> ``1.5 GiB``, ``2**29`` -> ``512 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
