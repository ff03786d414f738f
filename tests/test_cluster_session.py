"""The local Ray: loopback only, with a token; and a cluster that is not there."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import ray
from ray._private import ray_constants, services, utils

from theriac.cluster import session
from theriac.cluster.session import local_ray, ray_session
from theriac.errors import BadInput

NOBODY = 65534
LOOPBACKS = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")


def own_termination(number: int, frame: FrameType | None) -> None:
    """A handler of the process that uses Ray."""


@pytest.fixture(scope="module")
def small_ray() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, own_termination)
    with local_ray(2):
        yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("small_ray")
def test_ray_listens_on_the_loopback_only() -> None:
    nothing: Any = ray.remote(lambda: None)
    ray.get([nothing.remote() for _ in range(2)])  # now there are processes of workers
    mine = sockets_of_session()
    assert len(mine) >= 4
    assert {address for address in mine if address not in LOOPBACKS} == set()


@pytest.mark.usefixtures("small_ray")
def test_workers_give_way_no_more_than_this_process() -> None:
    niceness: Any = ray.remote(lambda: os.nice(0))
    assert ray.get(niceness.remote()) == os.nice(0)


@pytest.mark.usefixtures("small_ray")
def test_what_this_process_does_at_sigterm_is_kept() -> None:
    assert signal.getsignal(signal.SIGTERM) is own_termination


@pytest.mark.usefixtures("small_ray")
@pytest.mark.skipif(not utils.detect_fate_sharing_support(), reason="Ray ends its group with this process")
def test_a_signal_to_the_group_of_this_process_does_not_reach_ray() -> None:
    own: Any = ray.remote(lambda: os.getpgrp())
    groups = {name: os.getpgid(process.pid) for name, process in session._servers().items()}
    assert os.getpgrp() not in (*groups.values(), ray.get(own.remote()))
    assert len(set(groups.values())) == len(session.SERVERS)


@pytest.mark.usefixtures("small_ray")
def test_ray_asks_for_a_token() -> None:
    assert session._has_token()
    if session.TOKEN in os.environ:
        assert len(os.environ[session.TOKEN]) >= 32


@pytest.mark.usefixtures("small_ray")
@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can be another user")
def test_another_user_finds_nothing_of_the_session() -> None:
    """Ray opens its folders to all; whoever could replace a socket of it would be connected to."""
    found = sorted(session_folder().rglob("sockets/*"))
    assert {one.name for one in found} >= {"plasma_store", "raylet"}
    assert [one for one in found if not reached(one, os.getuid())] == []
    assert [one for one in [session_folder(), *found] if reached(one, NOBODY)] == []


@pytest.mark.usefixtures("small_ray")
def test_the_session_lies_in_a_folder_of_its_user() -> None:
    private = session_folder().parent.parent
    assert private.name.startswith("theriac-ray-")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not list(private.parent.glob(f"ray/{session_folder().name}"))


def session_folder() -> Path:
    """Of the Ray of this process."""
    node: Any = ray._private.worker._global_node
    return Path(node.get_session_dir_path())


def reached(path: Path, user: int) -> bool:
    """Whether a user can list a folder, or connect to a socket."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            if path.is_socket():
                socket.socket(socket.AF_UNIX).connect(str(path))
            else:
                os.listdir(path)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.usefixtures("small_ray")
@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:1"])
def test_a_running_ray_is_used_and_left_up(address: str | None) -> None:
    with ray_session(address, 1):
        assert ray.cluster_resources()["CPU"] == 2
    assert ray.is_initialized()


def sockets_of_session() -> list[str]:
    """Hexadecimal addresses on which this process and those that Ray started for it listen."""
    node: Any = ray._private.worker._global_node
    session_name = Path(node.get_session_dir_path()).name
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()) or session_name in command(process):
            inodes = {link.split("[")[1].rstrip("]") for link in sockets(process)}
            found += [address for address, inode in listening() if inode in inodes]
    return found


def command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


def sockets(process: Path) -> list[str]:
    links = []
    for file in (process / "fd").glob("*"):
        try:
            links.append(os.readlink(file))
        except OSError:
            continue
    return [link for link in links if link.startswith("socket:")]


def listening() -> list[tuple[str, str]]:
    rows = [line.split() for name in ("tcp", "tcp6") for line in lines(Path("/proc/net") / name)]
    return [(row[1].split(":")[0], row[9]) for row in rows if row[3] == "0A"]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:] if path.exists() else []


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


def test_groups_are_left_to_ray_where_it_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = services.ConsolePopen
    for able in (True, False):
        monkeypatch.setattr(utils, "detect_fate_sharing_support", lambda able=able: able)
        with session._own_groups():
            assert (services.ConsolePopen is usual) == (not able)
        assert services.ConsolePopen is usual


def test_a_start_that_took_too_long_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def late(*_: Any) -> None:
        calls.append(1)
        if len(calls) < session.ATTEMPTS:
            raise Exception("The current node timed out during startup")

    monkeypatch.setattr(session, "_start", late)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    session._start_patiently(1, Path(), False)
    assert len(calls) == session.ATTEMPTS


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no room\nfor a page")

    monkeypatch.setattr(session, "_start", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(BadInput, match=r"does not start \(no room\); see `theriac doctor"):
        session._start_patiently(1, Path(), False)


@pytest.mark.parametrize("workers", [0, -3])
def test_no_workers(workers: int) -> None:
    with pytest.raises(BadInput, match=rf"{workers} workers"), local_ray(workers):
        pass


@pytest.mark.parametrize("error", [ConnectionError("refused\nlong"), ValueError("odd"), RuntimeError("no")])
def test_a_cluster_that_does_not_answer(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        assert options["address"] == "auto"
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    first = str(error).splitlines()[0]
    with pytest.raises(BadInput, match=rf"answers at 'auto' \({first}\); start one"), ray_session("auto", 1):
        pass


def test_settings_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(session.SETTINGS))
    monkeypatch.setenv(name, "mine")
    session._set_defaults(session.SETTINGS)
    assert os.environ[name] == "mine"
