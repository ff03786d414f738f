"""The pool of actors on a real local Ray: order, errors, killed actors; and the Ray itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import ray
from ray._private import ray_constants
from rich.console import Console

from theriac.cluster import session
from theriac.cluster.display import LiveReporter, bars, live_reporter
from theriac.cluster.fanout import Pool, Silent, WorkerDied, _died
from theriac.cluster.session import local_ray
from theriac.cluster.workers import Phase
from theriac.errors import BadInput

NEVER = 120


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    with local_ray(2):
        yield


def actor_class() -> type:
    """A class that Ray sends by value and that needs none of our modules: its actors start at once."""

    class Actor:
        """Does what the tests ask for; leaves a file for each of its lives."""

        def __init__(self, folder: str) -> None:
            import os
            from pathlib import Path

            self.folder, self.process = Path(folder), os.getpid()
            (self.folder / f"life-{self.process}").touch()

        def phase(self) -> tuple[str, int, int]:
            return ("working", 1, 2)

        def answer(self, value: int) -> int:
            return value

        def wait_for(self, name: str) -> str:
            """Says under which process it waits, until a file appears."""
            import time

            (self.folder / f"{name}.{self.process}.waits").touch()
            while not (self.folder / name).exists():
                time.sleep(0.02)
            return name

        def fail(self) -> None:
            raise LookupError("nothing there")

        def die(self) -> None:
            import os
            import signal

            os.kill(self.process, signal.SIGKILL)

    return Actor


class Recording:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.done: list[int] = []
        self.phases: list[tuple[int, Phase | None]] = []

    def begin(self, title: str, total: int) -> None:
        self.begun.append((title, total))

    def finished(self, done: int) -> None:
        self.done.append(done)

    def working(self, worker: int, phase: Phase | None) -> None:
        self.phases.append((worker, phase))


def _wait_until(happened: Callable[[], Any]) -> Any:
    for _ in range(NEVER * 20):
        found = happened()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {NEVER} s in vain")


def pool(folder: Path, size: int = 2, **options: Any) -> Pool:
    chosen = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2, **options}
    return Pool(lambda: ray.remote(actor_class()).options(**chosen).remote(str(folder)), size)


def call(name: str, *arguments: object) -> Callable[[Any], Any]:
    return lambda actor: getattr(actor, name).remote(*arguments)


def lives(folder: Path) -> int:
    return len(list(folder.glob("life-*")))


def waiting(folder: Path, name: str) -> int | None:
    """The process that waits for a file, if one does."""
    return next((int(file.name.split(".")[1]) for file in folder.glob(f"{name}.*.waits")), None)


def test_results_come_in_the_order_of_completion(tmp_path: Path) -> None:
    jobs = [call("wait_for", "go"), *(call("answer", number) for number in range(4))]
    seen = []
    for number, result in pool(tmp_path).run(jobs, "jobs", Silent()):
        seen.append((number, result))
        if len(seen) == 4:
            (tmp_path / "go").touch()
    assert seen == [(1, 0), (2, 1), (3, 2), (4, 3), (0, "go")]


def test_no_jobs(tmp_path: Path) -> None:
    assert list(pool(tmp_path, 1).run([], "jobs", Silent())) == []


def test_a_pool_serves_several_groups(tmp_path: Path) -> None:
    actors = pool(tmp_path, 1)
    assert list(actors.run([call("answer", 1)], "first", Silent())) == [(0, 1)]
    assert list(actors.run([call("answer", 2)], "second", Silent())) == [(0, 2)]
    assert lives(tmp_path) == 1


def test_a_job_that_raises_yields_its_own_exception(tmp_path: Path) -> None:
    results = dict(pool(tmp_path, 1).run([call("fail"), call("answer", 5)], "jobs", Silent()))
    assert isinstance(results[0], LookupError)
    assert str(results[0]) == "nothing there"
    assert results[1] == 5


def test_killed_actor_is_restarted_and_its_job_done(tmp_path: Path) -> None:
    actors = pool(tmp_path, 1, max_restarts=1, max_task_retries=1)
    run = actors.run([call("answer", 1), call("wait_for", "go")], "jobs", Silent())
    assert next(run) == (0, 1)
    killer = _in_thread(partial(_kill_waiting, tmp_path))
    assert list(run) == [(1, "go")]
    killer()
    assert lives(tmp_path) == 2


def _kill_waiting(folder: Path) -> None:
    os.kill(_wait_until(lambda: waiting(folder, "go")), signal.SIGKILL)
    _wait_until(lambda: lives(folder) == 2)
    (folder / "go").touch()


def _in_thread(work: Callable[[], None]) -> Callable[[], None]:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return partial(thread.join, NEVER)


def test_a_job_that_kills_its_actor_costs_only_itself(tmp_path: Path) -> None:
    jobs = [call("die"), call("answer", 1), call("die"), call("answer", 2), call("answer", 3)]
    results = dict(pool(tmp_path, 1).run(jobs, "jobs", Silent()))
    assert [type(results[number]) for number in (0, 2)] == [WorkerDied, WorkerDied]
    assert [results[number] for number in (1, 3, 4)] == [1, 2, 3]
    assert lives(tmp_path) == 3


def test_restarts_run_out(tmp_path: Path) -> None:
    actors = pool(tmp_path, 1, max_restarts=1, max_task_retries=3)
    results = dict(actors.run([call("die"), call("answer", 1)], "jobs", Silent()))
    assert isinstance(results[0], WorkerDied)
    assert results[1] == 1
    assert lives(tmp_path) == 3


def test_actor_that_cannot_start_says_why() -> None:
    class Refused(ray.exceptions.RayActorError):
        def __str__(self) -> str:
            return (
                "The actor died because of an error raised in its creation task\n  File x\nOSError: no room\n"
            )

    died = _died(Refused())
    assert "could not start: OSError: no room;" in str(died)
    assert isinstance(died.__cause__, Refused)


def test_reporter_hears_of_groups_jobs_and_phases(tmp_path: Path) -> None:
    reporter = Recording()
    run = pool(tmp_path, 1).run([call("answer", 1), call("wait_for", "go")], "jobs", reporter)
    next(run)
    _in_thread(lambda: _release_when(lambda: (0, ("working", 1, 2)) in reporter.phases, tmp_path / "go"))
    list(run)
    assert reporter.begun == [("jobs", 2)]
    assert reporter.done == [1, 2]
    assert (0, ("working", 1, 2)) in reporter.phases
    assert reporter.phases[-1] == (0, None)


def _release_when(happened: Callable[[], bool], file: Path) -> None:
    _wait_until(happened)
    file.touch()


def test_ray_listens_on_the_loopback_only(tmp_path: Path) -> None:
    list(pool(tmp_path, 2).run([call("answer", 1), call("answer", 2)], "jobs", Silent()))
    mine = _sockets_of_session()
    assert len(mine) >= 4
    assert {address for address in mine if not _is_loopback(address)} == set()


def _node() -> Any:
    return ray._private.worker._global_node


def _sockets_of_session() -> list[str]:
    """Hexadecimal addresses on which this process and those that Ray started for it listen."""
    session_name = Path(_node().get_session_dir_path()).name
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()) or session_name in _command(process):
            inodes = {link.split("[")[1].rstrip("]") for link in _sockets(process)}
            found += [address for address, inode in _listening() if inode in inodes]
    return found


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def _sockets(process: Path) -> list[str]:
    links = []
    for file in (process / "fd").glob("*"):
        try:
            links.append(os.readlink(file))
        except OSError:
            continue
    return [link for link in links if link.startswith("socket:")]


def _listening() -> list[tuple[str, str]]:
    rows = [line.split() for name in ("tcp", "tcp6") for line in _lines(Path("/proc/net") / name)]
    return [(row[1].split(":")[0], row[9]) for row in rows if row[3] == "0A"]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:] if path.exists() else []


def _is_loopback(address: str) -> bool:
    mapped = "0000000000000000FFFF00000100007F"
    return address in ("0100007F", mapped, "00000000000000000000000001000000")


def test_token_is_made_only_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in session.TOKEN_SOURCES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not session._has_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("mine")
    assert session._has_token()
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert session._has_token()


def test_single_machine_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    monkeypatch.delenv(name, raising=False)
    usual = ray_constants.ENABLE_RAY_CLUSTER
    with session._single_machine():
        assert (os.environ[name], ray_constants.ENABLE_RAY_CLUSTER) == ("0", False)
    assert name not in os.environ
    assert ray_constants.ENABLE_RAY_CLUSTER is usual


def test_a_running_ray_is_used_and_left_up() -> None:
    with local_ray(1):
        assert ray.is_initialized()
    assert ray.is_initialized()


@pytest.mark.parametrize("workers", [0, -3])
def test_no_workers(workers: int) -> None:
    with pytest.raises(BadInput, match=rf"{workers} workers"), local_ray(workers):
        pass


def screen(width: int = 90) -> Console:
    return Console(
        force_terminal=True, width=width, color_system=None, record=True, file=open(os.devnull, "w")
    )


def test_live_lines_show_what_is_true_now() -> None:
    console = screen()
    with bars(console) as progress:
        reporter = LiveReporter(progress)
        reporter.begin("training", 2)
        reporter.working(1, ("training clean", 5, 200))
        reporter.working(0, ("training victim", 7, 200))
        reporter.finished(1)
        assert shown(progress) == [
            ("training", 1, 2),
            ("  worker 1: training victim", 7, 200),
            ("  worker 2: training clean", 5, 200),
        ]
        reporter.begin("cells", 8)
        reporter.working(0, ("search", 3, None))
        reporter.working(1, None)
        assert shown(progress) == [
            ("cells", 0, 8),
            ("  worker 1: search", 3, None),
            ("  worker 2: waiting", 0, None),
        ]


def shown(progress: Any) -> list[tuple[str, float, float | None]]:
    return [(task.description, task.completed, task.total) for task in progress.tasks]


def test_nothing_is_shown_where_nobody_watches() -> None:
    with live_reporter(Console(force_terminal=False)) as reporter:
        assert isinstance(reporter, Silent)
    with live_reporter(screen()) as reporter:
        assert not isinstance(reporter, Silent)
