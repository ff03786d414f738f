"""Odd environments: the command works, or says in one line what is wrong; `doctor` answers in all of them."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from theriac.cluster import cli, environment
from theriac.cluster.environment import Forgiving, explain_output

THERIAC = [sys.executable, "-m", "theriac"]
ROOTLESS = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
NAMELESS = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")


def theriac(
    *arguments: str, python: tuple[str, ...] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """The command, as a process."""
    launch = [sys.executable, *python, "-m", "theriac", *arguments]
    return subprocess.run(launch, capture_output=True, text=True, check=False, **options)


def without(*names: str, **more: str) -> dict[str, str]:
    """The environment of this process, changed."""
    return {**{name: value for name, value in os.environ.items() if name not in names}, **more}


def test_a_user_of_whom_only_the_number_is_known_gets_a_home_and_a_name() -> None:
    if subprocess.run([*ROOTLESS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    look = "import theriac.cluster, ray.tune, getpass, pathlib; print(getpass.getuser(), pathlib.Path.home())"
    launch = [*ROOTLESS, sys.executable, "-c", look]
    done = subprocess.run(launch, env=without(*NAMELESS), capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("12345 /\n", 0), done.stderr


def test_home_and_name_that_are_there_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USER", "somebody")
    environment.settle()
    assert (os.environ["HOME"], os.environ["USER"]) == (str(tmp_path), "somebody")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """A file that is opened meanwhile must not become stdout."""
    look = "import theriac.cluster, sys; sys.stderr.write('e'); print('o'); open('file', 'w').write('f')"
    script = f'{sys.executable} -c "{look}" {closed}'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "f"
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "o\n")
    assert done.stderr == ("" if "2>&-" in closed else "e")


def test_without_docstrings_doctor_answers_and_all_else_is_one_line() -> None:
    done = theriac("list", "presets", python=("-OO",))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Python runs with -OO (PYTHONOPTIMIZE=2)")
    assert len(done.stderr.splitlines()) == 1
    done = theriac("doctor", python=("-OO",))
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAULT python" in done.stdout
    assert "leave -OO out" in done.stdout


def test_in_a_folder_that_is_gone_doctor_answers_and_all_else_is_one_line(tmp_path: Path) -> None:
    paths = os.pathsep.join(os.path.abspath(one) for one in sys.path if one)
    for command, expected in (("list", "error: the current folder no longer exists"), ("doctor", "")):
        folder = tmp_path / command
        folder.mkdir()
        script = f"cd {folder}; rmdir {folder}; exec {sys.executable} -m theriac {command}"
        done = subprocess.run(
            ["sh", "-c", script],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr.startswith(expected), done.stderr
        assert len(done.stderr.splitlines()) == bool(expected)
        assert done.returncode == (2 if expected else 1)
        assert ("FAULT current folder" in done.stdout) == (command == "doctor")


def test_odd_variables_together() -> None:
    odd = {
        **{"PYTHONWARNINGS": "error", "LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        **{"COLUMNS": "20", "NO_COLOR": "1", "HOME": "/nonexistent/home", "TMPDIR": "/nonexistent/temporary"},
        **{"RAY_ADDRESS": "192.0.2.1:6379", "RAY_TMPDIR": "/nonexistent", "http_proxy": "http://192.0.2.1:1"},
    }
    done = theriac("doctor", env={**os.environ, **odd})
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    assert "cannot be looked at" not in done.stdout
    for said in ("home: /nonexistent/home", "'/nonexistent/temporary'", "192.0.2.1:6379", "warnings: P"):
        assert said in done.stdout


def test_a_home_behind_an_equals_sign_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = ["heal", "--out=~/x", "--results=~", "--set=seeds=~", "--out", "~/y", "~/z", "--to=a~b", "-v"]
    expected = ["heal", "--out=/home/me/x", "--results=/home/me", "--set=seeds=~", *given[4:]]
    assert environment.expand_home(given) == expected
    assert environment.expand_home(["--out=~nobody-of-this-name/x"]) == ["--out=~nobody-of-this-name/x"]


class Lost(io.StringIO):
    """A stream whose other end is gone."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_messages_that_nobody_can_read_are_dropped() -> None:
    lost = Forgiving(Lost())
    assert lost.write("text") == 4
    lost.flush()
    kept = io.StringIO()
    Forgiving(kept).write("text")
    assert kept.getvalue() == "text"
    assert Forgiving(kept).isatty() is False


def test_a_sweep_goes_on_when_its_stderr_is_full() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*THERIAC, "nonsense"], stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_other_failures_of_the_system_are_not_hidden() -> None:
    with pytest.raises(OSError, match="no more handles"):
        explain_output(OSError(errno.EMFILE, "no more handles"))
    assert "a/file: gone" in str(explain_output(OSError(errno.ENOENT, "gone", "a/file")))


@pytest.mark.parametrize("python", [(), ("-W", "error")])
def test_an_image_that_is_too_large_is_said_once(python: tuple[str, ...], tmp_path: Path) -> None:
    looks = (
        "from theriac.cluster import cli; from theriac.datasets.sources.decoding import opened;"
        "cli.app.default(lambda: opened(open('large.png', 'rb').read())); cli.main()"
    )
    Image.new("L", (10_000, 9_500)).save(tmp_path / "large.png")
    launch = [sys.executable, *python, "-c", looks]
    said = subprocess.run(launch, capture_output=True, text=True, check=False, cwd=tmp_path).stderr
    assert "10000 x 9500 pixels" in said
    assert "decompression bomb" not in said


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ImportError("lib.so: failed to map segment from shared object"), "lib.so: failed to map segment"),
        (ImportError("lib.so: cannot allocate memory in static TLS block"), "cannot allocate memory"),
        (MemoryError(), "(out of memory)"),
    ],
)
def test_a_library_that_finds_no_memory_is_one_line(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert cli.run(["heal"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: not enough memory (")
    assert told in said
    assert "ulimit -v unlimited" in said
    assert len(said.splitlines()) == 1


def test_a_library_that_is_not_there_is_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ModuleNotFoundError):
        cli.run(["heal"])
