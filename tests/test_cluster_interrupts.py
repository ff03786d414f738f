"""Signals during a sweep: the first lets what has begun end, the second stops at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from theriac.cluster import cli
from theriac.cluster.interrupts import FIRST, Interrupts
from theriac.tests.signals import heard


class Conductor(SimpleNamespace):
    """Has cells left, and can be drained."""

    left, drained = 1, False

    def drain(self) -> None:
        self.drained = True


def interrupts(conductor: Conductor, said: list[str]) -> Interrupts:
    return Interrupts(cast(Any, conductor), cast(Any, SimpleNamespace(say=said.append)))


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Whatever started the tests may have had the signal ignored."""
    with heard():
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_drains_and_the_second_stops(number: int) -> None:
    conductor, said = Conductor(), list[str]()
    before = signal.getsignal(number)

    def interrupted_twice() -> None:
        with interrupts(conductor, said):
            os.kill(os.getpid(), number)
            assert (conductor.drained, said) == (True, [FIRST])
            os.kill(os.getpid(), number)
            pytest.fail("the second signal did not stop it")

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert signal.getsignal(number) is before


def test_after_one_signal_cells_that_are_left_make_it_an_interruption() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts(Conductor(), []):
        os.kill(os.getpid(), signal.SIGHUP)


def test_nohup_is_heeded() -> None:
    conductor = Conductor(left=0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts(conductor, []):
        os.kill(os.getpid(), signal.SIGHUP)
        assert not conductor.drained


WAITS = "(print('begun', flush=True), __import__('time').sleep(60))"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("name", "kept"),
    [("heal", ""), ("sweep", "; finished cells are kept: run the same command again to go on")],
)
def test_a_command_that_uses_no_ray_yet_is_interrupted_in_one_line(number: int, name: str, kept: str) -> None:
    program = (
        "from theriac.cluster import cli; from cyclopts import App; "
        "cli.app = App(result_action='return_value', suppress_keyboard_interrupt=False); "
        f"cli.app.command(lambda: {WAITS}, name={name!r}); cli.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "begun\n"
        command.send_signal(number)
        _, said = command.communicate(timeout=60)
    assert command.returncode == cli.INTERRUPTED
    assert said.splitlines() == [f"interrupted{kept}"]
