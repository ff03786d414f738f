"""Where an export goes: checked before any work, and written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import BadInput
from ..store import SCHEMAS, write_atomically


def check_file(out: Path, results: Sequence[Path], force: bool, *, example: str) -> None:
    """Check that a file may be written.

    Args:
        out: the file.
        results: folders that are exported, whose tables must stay what they are.
        force: it may be there already.
        example: a name of such a file, for the message.

    Raises:
        BadInput: it may not; the message names it.
    """
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder; give the name of a file, such as {out / example}")
    check_place(out, results)
    refuse_existing(out, force)


def check_place(out: Path, results: Sequence[Path]) -> None:
    """Check that the folder of ``out`` is there, and is no table of the results; raises as `check_file`."""
    if not out.absolute().parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {out.parent}; make it first, or name another")
    place = out.resolve()
    for folder in results:
        for table in SCHEMAS:
            if (folder / table).resolve() in (place, *place.parents):
                raise BadInput(
                    f"--out {out} is in {folder / table}, where only results may be; name another place"
                )


def refuse_existing(out: Path, force: bool) -> None:
    """Refuse a file that is there, unless it may be overwritten; raises as `check_file`."""
    if not os.path.lexists(out):
        return
    if not force:
        raise BadInput(f"{out} is there already; name another as --out, or give --force to overwrite it")
    if not out.is_file() and not out.is_symlink():
        raise BadInput(f"--out {out} is no ordinary file; name another")


def whole_file(out: Path, write: Callable[[Path], None], leftovers: Sequence[str] = ()) -> None:
    """Let ``write`` fill a temporary file, which takes the place of ``out``.

    Args:
        out: the file that appears.
        write: is called with the path of the temporary file.
        leftovers: what libraries append to its name for files of their own, which are removed.

    Raises:
        BadInput: it cannot be written.
    """

    def tidy(temporary: Path) -> None:
        try:
            write(temporary)
        finally:
            for ending in leftovers:
                temporary.with_name(temporary.name + ending).unlink(missing_ok=True)

    try:
        write_atomically(out, tidy)
    except OSError as error:
        raise not_written(out, error) from error


def not_written(out: Path, error: OSError) -> BadInput:
    """Return what to tell a user whose file could not be written."""
    return BadInput(
        f"cannot write {out} ({error.strerror or error}); free some space, or name a place that you may "
        f"write to"
    )


def counted(number: int, noun: str, nouns: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun if number == 1 else nouns}"
