"""How places are named: folders by paths, storages by URIs; and their secrets, which nobody is shown."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from ...errors import BadInput

PYARROW_SCHEMES = frozenset({"file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"})
READ_ONLY_SCHEMES = frozenset({"http", "https", "data"})
KNOWN_SCHEMES = (
    PYARROW_SCHEMES
    | READ_ONLY_SCHEMES
    | {
        "s3a",
        "r2",
        "az",
        "adl",
        "wasb",
        "wasbs",
        "ftp",
        "ftps",
        "sftp",
        "ssh",
        "smb",
        "webhdfs",
        "memory",
        "oci",
    }
)
"""Words that nobody calls a folder before a colon."""
CONTAINER_SCHEMES = frozenset({"abfs", "abfss", "az", "wasb", "wasbs"})
"""Where container@account stands in the place of user@host."""

SHORTEST_SECRET = 3  # characters; shorter ones would be found in every message

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_COLON = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^\s'\"]+")
_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/{1,2})(.*)", re.DOTALL)
_PASSWORD = re.compile(r"([^/?:@]*):.*@", re.DOTALL)  # it may hold what should have been encoded
_QUERY = re.compile(
    r"([?&;][^=&?]*(?:key|secret|token|sig|pass|pwd|cred|auth|sas)[^=&?]*=)([^&]*)", re.IGNORECASE
)


def is_uri(location: str | Path) -> bool:
    """Tell whether ``location`` names a file system by its scheme ("s3://bucket/folder"), not a path."""
    return isinstance(location, str) and _URI.match(location) is not None


def checked_location(location: str | Path) -> str:
    """Return ``location`` as other processes understand it: a URI without a final slash, or an absolute path.

    Raises:
        BadInput: it is empty; a URI that names nothing, cannot be written, lacks a slash or was turned into a
            path; or a path that no file system has.
    """
    text = str(location)
    if not text.strip():
        raise BadInput(
            "the location of the store is empty; give a folder or a URI such as s3://bucket/folder"
        )
    if is_uri(location):
        return _checked_uri(text)
    if _URI.match(text) or _lost_slash(text):
        raise BadInput(
            f"{shown(text)}: a URI needs two slashes after its scheme; write it so, as a string, not a Path"
        )
    return str(_expanded(text, "store").absolute())


def checked_folder(given: str | os.PathLike[str], what: str) -> Path:
    """Return a folder of this machine as a path, with "~" put in full.

    Args:
        given: what the user gave.
        what: it is, for the message.

    Raises:
        BadInput: it is empty, a URI, or no path.
    """
    if not isinstance(given, str | os.PathLike):
        raise BadInput(f"the {what} is {given!r:.40}; give the path of a folder")
    text = os.fspath(given)
    if not text.strip():
        raise BadInput(f"the name of the {what} is empty; give a folder, such as ./theriac-results")
    if _URI.match(text) or _lost_slash(text):
        raise BadInput(
            f"the {what} {shown(text)} is a URI, but must be a folder of this machine or a network file"
            " system; give a path (a URI is for --store: models and importances)"
        )
    return _expanded(text, what)


def shown(location: str) -> str:
    """Return ``location`` for messages: passwords, keys and tokens are masked, wherever a URI holds them."""
    found = _PARTS.fullmatch(location)
    if found is None:
        return location
    scheme, slashes, rest = found.groups()
    rest = _QUERY.sub(r"\1***", _PASSWORD.sub(r"\1:***@", rest, count=1))
    user, at, place = rest.rpartition("@")
    if ":" in user:
        user = f"{user.partition(':')[0]}:***"
    elif at and "/" not in user and scheme.lower() not in CONTAINER_SCHEMES:
        user = "***"
    return f"{scheme}:{slashes}{user}{at}{place}"


def masked(text: str, location: str = "") -> str:
    """Return a message without the secrets of the URIs in it.

    Args:
        text: of a library, a user, an exception.
        location: the URI that it is about, parts of which it may repeat in another form.
    """
    if location:
        text = text.replace(location, shown(location))
    for secret in sorted(_secrets(location), key=len, reverse=True):
        text = text.replace(secret, "***")
    return _IN_TEXT.sub(lambda found: shown(found[0]), text)


def masked_word(word: str) -> str:
    """Return an argument of a command line without the secrets of a URI, which goes on to its end."""
    found = _SCHEME.search(word)
    return word if found is None else word[: found.start()] + shown(word[found.start() :])


def _secrets(location: str) -> set[str]:
    """Return what `shown` masks, as it stands, decoded and encoded."""
    found = _PARTS.fullmatch(location)
    if found is None:
        return set()
    secrets = {value for _, value in _QUERY.findall(found[3])}
    secrets.add(found[3].rpartition("@")[0].partition(":")[2])
    forms = {form for one in secrets for form in (one, unquote(one), quote(one), quote(one, safe=""))}
    return {form for form in forms if len(form) >= SHORTEST_SECRET}


def _checked_uri(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if not text.isprintable():
        raise BadInput(f"{shown(text)!r}: a URI has no line breaks or control characters; correct it")
    if not rest.strip("/") and scheme.lower() != "file":
        raise BadInput(f"{text}: the URI names no place; give one such as s3://bucket/folder")
    if scheme.lower() in READ_ONLY_SCHEMES:
        raise BadInput(
            f"{shown(text)}: a store must be written, and {scheme}:// can only be read; give a folder that"
            " all nodes share, or a URI such as s3://bucket/folder"
        )
    return f"{scheme.lower()}://{rest.rstrip('/')}" if rest.strip("/") else f"{scheme.lower()}:///"


def _lost_slash(text: str) -> bool:
    """Tell whether a text is a URI without its two slashes, such as pathlib makes of one."""
    found = _COLON.match(text)
    return found is not None and found[1].lower() in KNOWN_SCHEMES and not os.path.lexists(text)


def _expanded(text: str, what: str) -> Path:
    if "\0" in text:
        raise BadInput(f"the {what} {text!r} holds a NUL character; give a path without")
    path = Path(text)
    if not text.startswith("~") or path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise BadInput(f"the {what} {text}: {error}; give the path in full") from error
