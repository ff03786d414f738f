"""Temporary folders: gone at the end, and those of killed processes at the next start, but nobody else's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from theriac.cluster import scratch
from theriac.cluster.scratch import remove_abandoned, scratch_folder, short_parent
from theriac.errors import BadInput

OWNER = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from theriac.cluster.scratch import scratch_folder
with scratch_folder("test") as folder:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(scratch, "OTHERS", ())
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", -1.0)
    return folder


def test_it_is_gone_at_the_end(temporary: Path) -> None:
    with scratch_folder("test") as folder:
        (folder / "file").touch()
        remove_abandoned()
        assert folder.parent == temporary
        assert folder.is_dir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_one_that_is_kept_is_nobodys_to_remove(temporary: Path) -> None:
    with scratch_folder("test", keep=True) as folder:
        pass
    remove_abandoned()
    assert list(temporary.iterdir()) == [folder]


def test_the_next_start_removes_what_a_killed_process_left(temporary: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", OWNER, str(temporary)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(temporary)) == 1
    with scratch_folder("test") as folder:
        assert list(temporary.iterdir()) == [folder]


@pytest.fixture
def parents(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make these the folders in which scratch folders may lie, the first as TMPDIR; paths may be so long."""

    def choose(first: Path, *others: Path, short: int = 1000) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(first))
        monkeypatch.setattr(scratch, "OTHERS", tuple(map(str, others)))
        monkeypatch.setattr(scratch, "SHORT", short)

    return choose


@pytest.mark.parametrize("name", ["with space", "ümlaut", "no-such-folder", "semi;colon", "a" * 60])
def test_sockets_lie_where_ray_can_use_them(name: str, tmp_path: Path, parents: Callable[..., None]) -> None:
    odd, plain = tmp_path / name, tmp_path / "plain"
    plain.mkdir()
    if name != "no-such-folder":
        odd.mkdir()
    parents(odd, plain, short=len(str(plain)))
    assert short_parent() == plain
    with scratch_folder("ray", short=True) as folder:
        assert folder.parent == plain


def test_sockets_lie_in_tmpdir_where_it_will_do(tmp_path: Path, parents: Callable[..., None]) -> None:
    parents(tmp_path, Path("/tmp"))
    assert short_parent() == tmp_path


def test_sockets_do_not_lie_where_others_could_replace_their_folder(
    tmp_path: Path, parents: Callable[..., None]
) -> None:
    parents(tmp_path)
    tmp_path.chmod(0o777)
    with pytest.raises(BadInput, match=r"no folder for Ray's sockets \(TMPDIR is .*; set TMPDIR to a folder"):
        short_parent()
    tmp_path.chmod(0o1777)
    assert short_parent() == tmp_path


def test_the_longest_folder_has_room_for_the_sockets() -> None:
    longest = "/" + "x" * (scratch.SHORT - 1) + scratch.LONGEST
    assert len(longest) == scratch.SOCKET_PATH
    assert Path("/tmp") in scratch._parents()


def test_no_temporary_folder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with (
        pytest.raises(BadInput, match="no folder for temporary files can be written"),
        scratch_folder("test"),
    ):
        pass
    assert scratch._parents() == [Path(one) for one in scratch.OTHERS]


def test_young_folders_and_those_of_others_stay(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = temporary / "theriac-my-results"  # has no lock
    results.mkdir()
    locked = temporary / "theriac-test-old"
    locked.mkdir()
    (locked / scratch.LOCK).touch()
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", 60.0)
    remove_abandoned()
    assert locked.is_dir(), "too young"
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", -1.0)
    monkeypatch.setattr(os, "getuid", lambda: -1)
    remove_abandoned()
    assert locked.is_dir(), "somebody else's"
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(scratch, "OTHERS", ())
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", -1.0)
    remove_abandoned()
    assert not locked.exists()
    assert results.is_dir()
