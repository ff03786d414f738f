"""Image files in the folders of classes: each real file once, and nothing that is no file."""

from __future__ import annotations

import logging
import os
import stat
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from ...errors import BadInput
from ..file_checks import MOST_IMAGE_BYTES, check_file, read_head
from .decoding import READABLE, looks_like_image

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".dib"}
    | {".pgm", ".ppm", ".pbm", ".pnm", ".tif", ".tiff", ".avif"}
)
"""Of files that are read as images; a file without a suffix is one if it begins as one."""
_UNREADABLE_SUFFIXES = frozenset({".heic", ".heif", ".jp2", ".j2k", ".jxl", ".psd", ".svg"})
_NOT_OURS = frozenset({"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"})
"""Folders that systems and archivers leave; like hidden ones, they hold no images of the user."""
MOST_DEPTH = 32
"""Most folders inside one another below a class folder."""
_TRIES = 16


def image_files(folder: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Find the images below each of the folders ``names`` of ``folder``: sorted paths relative to ``folder``.

    Links are followed. Hidden files, and files that are no images, are left out.

    Raises:
        BadInput: a folder or file that is there twice by links, a link to nothing, an image that is no
            regular file, a format that cannot be read, a folder that cannot be listed or lies too deep.
    """
    walk = _Walk(folder)
    found = {name: sorted(walk.below(name)) for name in names}
    walk.finish()
    return found


def listed(folder: str | Path) -> list[os.DirEntry[str]]:
    """List what a folder holds, without hidden entries, sorted by name.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise BadInput(f"folder {folder}: {error.strerror}; make it readable or remove it") from error
    return sorted((one for one in shown if one.name not in _NOT_OURS), key=lambda entry: entry.name)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one.

    Raises:
        BadInput: it cannot be told, as of a link to itself.
    """
    try:
        return entry.is_dir()
    except OSError as error:
        raise BadInput(f"{entry.path}: {error.strerror}; remove it") from error


def is_image(path: str) -> bool:
    """Tell whether a path ends as images do.

    Raises:
        BadInput: it ends as images do that cannot be read.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _UNREADABLE_SUFFIXES:
        raise BadInput(f"image {path} is of a format that cannot be read; convert it to {READABLE}")
    return suffix in SUFFIXES


class _Walk:
    """All class folders of one set, so that what is there twice is found."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        real = Path(os.path.realpath(root))
        self._folders = {_identity(str(place)): str(place) for place in (*reversed(real.parents), real)}
        self._paths: list[str] = []
        self._inodes = array("Q")
        self._links: set[str] = set()
        self._others: defaultdict[str, list[str]] = defaultdict(list)

    def below(self, name: str) -> Iterator[str]:
        """Yield the paths of images in the folder ``name`` of the root, relative to the root, in no order."""
        waiting = [(name, 0)]
        while waiting:
            place, depth = waiting.pop()
            path = os.path.join(self._root, place)
            self._enter(path, depth)
            for entry in listed(path):
                inner = os.path.join(place, entry.name)
                if is_folder(entry):
                    waiting.append((inner, depth + 1))
                elif self._takes(entry):
                    self._remember(entry, inner)
                    yield inner

    def finish(self) -> None:
        """Refuse files that are there twice, and say what was left out."""
        for paths in self._shared():
            places = [os.path.join(self._root, path) for path in paths[:2]]
            raise BadInput(
                f"images {places[0]} and {places[1]} are one file (a link), which would count twice; remove "
                f"one, or make it a copy"
            )
        odd = [path for paths in self._others.values() for path in paths if _begins_as_image(path)]
        if odd:
            log.warning(
                f"{odd[0]} and what else ends in {os.path.splitext(odd[0])[1]!r} in {self._root} is left "
                f"out, though it begins as an image does; rename it, such as to .png, to have it read"
            )

    def _enter(self, path: str, depth: int) -> None:
        identity = _identity(path)
        if identity in self._folders:
            raise BadInput(
                f"folder {path} leads to {self._folders[identity]} again (a link), so its images would count "
                f"twice; remove the link"
            )
        if depth > MOST_DEPTH:
            raise BadInput(f"folder {path} lies more than {MOST_DEPTH} folders deep; put its images higher")
        self._folders[identity] = path

    def _takes(self, entry: os.DirEntry[str]) -> bool:
        suffix = os.path.splitext(entry.name)[1].lower()
        if is_image(entry.path):
            if not entry.is_file():
                check_file(entry.path, "image", remedy="remove it", most_bytes=MOST_IMAGE_BYTES)
            return True
        if not entry.is_file():
            return False
        if suffix and len(self._others[suffix]) < _TRIES:
            self._others[suffix].append(entry.path)
        return not suffix and _begins_as_image(entry.path)

    def _remember(self, entry: os.DirEntry[str], path: str) -> None:
        if entry.is_symlink():
            self._links.add(path)
        self._paths.append(path)
        self._inodes.append(entry.stat().st_ino if entry.is_symlink() else entry.inode())

    def _shared(self) -> Iterator[list[str]]:
        """Yield the paths of one file. Equal numbers are only a hint: file systems may give them twice."""
        by_number: defaultdict[int, list[str]] = defaultdict(list)
        counted = sorted(range(len(self._inodes)), key=self._inodes.__getitem__)
        for one, following in pairwise(counted):
            if self._inodes[one] == self._inodes[following]:
                by_number[self._inodes[one]] += [self._paths[one], self._paths[following]]
        for paths in by_number.values():
            yield from self._really_shared(dict.fromkeys(paths))

    def _really_shared(self, paths: Iterable[str]) -> Iterator[list[str]]:
        found: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        linked = set()
        for path in paths:
            about = os.stat(os.path.join(self._root, path))
            found[about.st_dev, about.st_ino].append(path)
            if path in self._links or about.st_nlink > 1:
                linked.add((about.st_dev, about.st_ino))
        yield from (same for identity, same in found.items() if identity in linked and len(same) > 1)


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise BadInput(f"folder {path}: {error.strerror}; make it readable or remove it") from error
    return found.st_dev, found.st_ino


def _begins_as_image(path: str) -> bool:
    return stat.S_ISREG(os.stat(path).st_mode) and looks_like_image(read_head(path, 16))
