"""A few of the inputs of `make fuzz`, and that its judge can tell good answers from bad ones."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from theriac.errors import BadInput
from theriac.tests.fuzz import __main__ as program, pool
from theriac.tests.fuzz.cases import Accepted, Case, Printed, judged, misspelt, names, never
from theriac.tests.fuzz.pool import KINDS, judged_jobs

EACH = 12
"""Inputs of each kind here; `make fuzz` tries hundreds."""
PATIENCE = 120.0
"""Seconds an input may take here, where other processes may hold the cores; `make fuzz` is strict."""


def test_odd_inputs_end_in_an_answer_or_in_one_line() -> None:
    command = [sys.executable, "-m", "theriac.tests.fuzz", "--count", str(EACH), "--seconds", str(PATIENCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    counts = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()[1:]}
    assert counts == {**dict.fromkeys(KINDS, str(EACH)), "all": str(EACH * len(KINDS))}


def printed(status: int, out: str = "", err: str = "") -> Case:
    return Case(shown="a command", call=lambda: Printed(status=status, out=out, err=err))


def raising(error: BaseException) -> Case:
    def call() -> None:
        raise error

    return Case(shown="a call", call=call)


@pytest.mark.parametrize(
    ("case", "result"),
    [
        (printed(0, "a table\n"), "right"),
        (printed(1, "a table\n", "warning: a part is torn\n"), "right"),
        (printed(2, err="error: no such file; give another\n"), "refused"),
        (printed(2, err="warning: a part is torn\nerror: no such file; give another\n"), "refused"),
        (printed(2, err="error: one\nline more\n"), "failed"),
        (printed(2, "half a table\n", "error: no such file\n"), "failed"),
        (printed(2), "failed"),
        (printed(0, "a \x1b[31mtable\n"), "failed"),
        (printed(0, err="Traceback (most recent call last):\n"), "failed"),
        (printed(2, err="error: \u202egnp.exe\n"), "failed"),
        (raising(BadInput("no such file; give another")), "refused"),
        (raising(BadInput("")), "failed"),
        (raising(ValueError("not ours")), "failed"),
        (raising(SystemExit(2)), "failed"),
        (raising(Accepted()), "right"),
        (Case(shown="x", call=lambda: 3), "right"),
        (Case(shown="x", call=lambda: 3, right=never), "failed"),
        (Case(shown="x", call=raising(BadInput("lr")).call, refused=names("rl")), "failed"),
        (Case(shown="x", call=raising(BadInput("lr")).call, refused=names("lr")), "refused"),
    ],
)
def test_judge_tells_right_from_wrong(case: Case, result: str) -> None:
    assert judged(case).result == result


def test_slips_are_never_known_names() -> None:
    known = ["forget", "forgets", "foget"]
    slips = {misspelt(random.Random(seed), "forget", known) for seed in range(200)}
    assert len(slips) > 5
    assert not slips & set(known)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def eats() -> int:
    return len(bytearray(os.urandom(1)) * (200 << 20))


def odd(rng: random.Random, folder: Path, run: Any) -> Case:
    """One in four each: dies, hangs, eats memory, answers."""
    return Case(shown="odd", call=rng.choice([dies, signal.pause, eats, lambda: None]))


@pytest.fixture
def odd_kind(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("theriac.tests.fuzz.odd")
    module.case = odd  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(pool.KINDS, "odd", "odd")
    return "odd"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_dies_hangs_or_eats_memory_is_named_and_the_rest_goes_on(odd_kind: str) -> None:
    found = dict(
        judged_jobs([(odd_kind, seed) for seed in range(4)], workers=2, seconds=8.0, memory=64 << 20)
    )
    details = " ".join(verdict.detail for verdict in found.values() if verdict.result == "failed")
    assert len(found) == 4
    assert all(word in details for word in ("died with status -9", "no answer after 8 s", "MiB"))
    assert any(verdict.result == "right" for verdict in found.values())
    report = program.report(list(found.items()))
    assert "distinct failures: 3" in report
    assert report.splitlines()[-1]


def test_same_seed_is_the_same_input() -> None:
    jobs = [("store", seed) for seed in range(6)]
    first, second = ({job: v.shown for job, v in judged_jobs(jobs, seconds=PATIENCE)} for _ in range(2))
    assert first == second
