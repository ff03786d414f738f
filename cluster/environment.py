"""What theriac and Ray need of the process they run in, mended where that is possible without a question."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO, cast

from ..errors import BadInput

NO_HOME = "/"
"""As containers do it for a user of whom nothing is known but the number."""
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where Python looks for the name of a user
DOCSTRINGS = (
    "Python runs with -OO (PYTHONOPTIMIZE={level}), which removes the docstrings that Ray and --help are "
    "made of; leave it out, -O is fine"
)
PATHS = ("--weights", "--forget", "--retain", "--clean", "--classes")
NO_MEMORY = ("failed to map segment", "Cannot allocate memory", "cannot allocate memory")
"""What the dynamic linker says of a library for which no memory is left."""
NO_FOLDER = "the current folder no longer exists; cd to one that does"


def settle() -> None:
    """Give the process what every program takes for granted: three open streams, a home and a user's name.

    Ray cannot be imported without a home, nor torch's compiler without a name; and a file that is opened
    while stdout is closed becomes stdout. What is there is left as it is.
    """
    _open_streams()
    if os.path.expanduser("~").startswith("~"):
        os.environ["HOME"] = NO_HOME
    if not any(os.environ.get(name) for name in NAMES) and not _has_entry():
        os.environ["USER"] = str(os.getuid())


def forgive_streams() -> None:
    """Let no letter that the terminal lacks, and no loss of stderr, stop anything."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without "→" shows "?"
    sys.stderr = cast(TextIO, Forgiving(sys.stderr))


def explain_output(error: OSError) -> str | None:
    """Say what is wrong with a file, or with stdout; None if nobody reads stdout any more.

    That is so where the reader has enough (``theriac table x | head``), or the terminal is closed.

    Raises:
        OSError: ``error``, if it is about something else.
    """
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}; give a file or folder that theriac may use"
    if error.errno not in (errno.EPIPE, errno.EIO, errno.ENOSPC):
        raise error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to fail at exit
    return f"cannot write: {error.strerror}; free some space" if error.errno == errno.ENOSPC else None


def no_memory(error: ImportError | MemoryError) -> str:
    """Say that memory is short: for a library that cannot be loaded, or for what was asked for.

    Raises:
        ImportError: ``error``, if it is about something else.
    """
    if isinstance(error, ImportError) and not any(words in str(error) for words in NO_MEMORY):
        raise error
    told = (str(error).splitlines() or ["out of memory"])[0]
    return f"not enough memory ({told}); raise the limit (ulimit -v unlimited), or free some"


def allow_warnings() -> None:
    """Let warnings be warnings, here and in processes to come: -W error stops other programs' imports.

    One is left out: Pillow's about a large image, of which theriac says in a line that it is not read.
    """
    if strict_warnings():
        warnings.simplefilter("default")
    warnings.filterwarnings("ignore", message=".*could be decompression bomb")
    if os.environ.get("PYTHONWARNINGS", "").startswith("e"):
        del os.environ["PYTHONWARNINGS"]


class Forgiving:
    """A stream for messages: what cannot be written, to a closed terminal or a full disk, is dropped.

    A sweep must not end because nobody reads how it goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written; the length of ``text`` in any case."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush; what is left over is dropped, so that nothing fails at exit."""
        try:
            self._stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def expand_home(arguments: Sequence[str]) -> list[str]:
    """Expand ``--out=~/x`` to a path below the home, as shells do it in ``--out ~/x`` only.

    Raises:
        BadInput: a file or folder is named "", which would be the current folder.
    """
    _refuse_empty(arguments)
    pairs = ((word, *word.partition("=")) for word in arguments)
    return [
        f"{name}={os.path.expanduser(value)}" if name.startswith("--") and value.startswith("~") else word
        for word, name, _, value in pairs
    ]


def _refuse_empty(words: Sequence[str]) -> None:
    for before, word in pairwise(["", *words]):
        name, equals, value = word.partition("=")
        if (before in PATHS and not word.strip()) or (name in PATHS and equals and not value.strip()):
            raise BadInput(f"{name.strip() or before} is empty; give a file or folder")


def unusable() -> str | None:
    """Say why no command but `doctor` can do its work here; None if nothing is in the way."""
    if sys.flags.optimize > 1:
        return DOCSTRINGS.format(level=sys.flags.optimize)
    return NO_FOLDER if lost_folder() else None


def strict_warnings() -> bool:
    """Tell whether Python was started so that warnings are errors."""
    return any(option.startswith("e") for option in sys.warnoptions)


def lost_folder() -> bool:
    """Tell whether the current folder has been removed."""
    try:
        return not Path.cwd().is_dir()
    except OSError:
        return True


def _open_streams() -> None:
    """Open /dev/null for stdin, stdout and stderr where they are closed, as `cron` and `>&-` leave them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number, inheritable=True)
                os.close(opened)
            else:
                os.set_inheritable(number, True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process)


def _has_entry() -> bool:
    try:
        import pwd

        return bool(pwd.getpwuid(os.getuid()).pw_name)
    except (ImportError, KeyError):
        return False
