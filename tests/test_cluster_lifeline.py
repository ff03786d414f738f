"""Ray's servers die: whoever waits for an answer of theirs is interrupted, in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, cast

import pytest

from theriac.cluster import lifeline
from theriac.cluster.lifeline import Lifeline, RayDied
from theriac.tests.signals import heard

LONG = 300.0
STUCK = """
import os, sys, subprocess, time
from theriac.cluster import lifeline
lifeline.HARD_SECONDS = 0.1
lifeline.AGAIN_SECONDS = 0.1
lifeline.by_force.append(os._exit)
server = subprocess.Popen(["sleep", "300"])
with lifeline.Lifeline({"raylet": server}, hush=lambda: None):
    server.kill()
    while True:
        try:
            time.sleep(300)
        except lifeline.RayDied:
            pass
"""


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    with heard():
        process = subprocess.Popen(["sleep", str(LONG)])
    yield process
    process.kill()
    process.wait()


def test_the_end_of_a_server_interrupts_what_waits(server: subprocess.Popen[bytes]) -> None:
    hushed, before = threading.Event(), signal.getsignal(signal.SIGUSR2)

    def work() -> None:
        with Lifeline({"raylet": server}, hush=hushed.set):
            server.kill()
            threading.Event().wait(LONG)

    with pytest.raises(
        RayDied, match=r"^Ray's raylet on this machine has died .*; finished cells are kept: "
    ):
        work()
    assert hushed.is_set()
    assert signal.getsignal(signal.SIGUSR2) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_was_asked_to_end_was_not_killed(
    server: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    def work() -> None:
        with Lifeline({"raylet": server}, hush=lambda: None):
            server.send_signal(number)
            threading.Event().wait(LONG)

    with pytest.raises(RayDied, match=r"^Ray's raylet on this machine was asked to end, .* cells are kept: "):
        work()


def test_what_is_raised_by_ray_meanwhile_is_replaced(server: subprocess.Popen[bytes]) -> None:

    def work() -> None:
        with Lifeline({"raylet": server}, hush=lambda: None):
            server.kill()
            try:
                threading.Event().wait(LONG)
            except RayDied:
                raise RuntimeError("a page of Ray's") from None

    with pytest.raises(RayDied, match="Ray's raylet"):
        work()


def test_work_that_ends_and_errors_of_its_own_are_left_alone(server: subprocess.Popen[bytes]) -> None:
    with Lifeline({"raylet": server}, hush=lambda: None) as line:
        os.kill(os.getpid(), signal.SIGUSR2)  # of somebody else
    assert line.gone is None
    with pytest.raises(ZeroDivisionError), Lifeline({"raylet": server}, hush=lambda: None):
        raise ZeroDivisionError
    server.kill()
    server.wait()
    assert line.gone is None


class Sent:
    """A lock on which somebody waits when the interruption comes."""

    def __enter__(self) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("failed", [False, True])
def test_an_interruption_on_the_way_out_leaves_nothing_behind(failed: bool) -> None:
    before = signal.getsignal(signal.SIGUSR2)

    def work(line: Lifeline) -> None:
        with line:
            line.gone, line._lock = "Ray is gone", cast(Any, Sent())
            if failed:
                raise RuntimeError("a page of Ray's")

    with pytest.raises(RayDied) if failed else nullcontext():
        work(line := Lifeline({}, hush=lambda: None))
    assert line._over.is_set()
    assert signal.getsignal(signal.SIGUSR2) is before


def test_an_interruption_on_the_way_in_is_none() -> None:
    line = Lifeline({}, hush=lambda: None)
    line.gone = "Ray is gone"
    line._raise(signal.SIGUSR2, None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(False, "this machine has left the Ray cluster"), (None, "the head .* has not answered")],
)
def test_a_cluster_is_asked(answer: bool | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(lifeline, "SILENT_SECONDS", 0.1)

    def ask() -> bool:
        if answer is None:
            raise ConnectionError
        return answer

    with pytest.raises(RayDied, match=said), Lifeline({}, ask, hush=lambda: None):
        threading.Event().wait(LONG)


def test_a_call_that_cannot_be_interrupted_is_left_by_force() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, check=False, timeout=LONG
    )
    assert done.returncode == 130
    assert done.stderr.startswith("Ray's raylet on this machine has died")


def test_in_another_thread_nothing_is_interrupted(server: subprocess.Popen[bytes]) -> None:
    seen = []

    def work() -> None:
        with Lifeline({"raylet": server}, hush=lambda: None) as line:
            server.kill()
            server.wait()
            seen.append(line)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(LONG)
    assert len(seen) == 1
