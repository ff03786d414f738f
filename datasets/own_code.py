"""Code that users bring along: their own models, datasets and triggers, beside those known by name.

A part is named ``module:attribute``, of a module that was handed over with `use_code` (``--code`` on the
command line): no text in a sweep file makes theriac import anything by itself. Installed packages may declare
parts under names of their own, as entry points of the groups ``theriac.models``, ``theriac.datasets`` and
``theriac.triggers``. What a module's files say is part of every key: results of another version are never
taken for those of this one, and a node whose version differs refuses to work.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import CodeType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..errors import BadInput, closest
from .file_checks import expanded, read_text

Group = Literal["models", "datasets", "triggers"]
MOST_FILES = 200
MOST_BYTES = 4 << 20
"""Most files, and bytes, of a module: it goes to every actor."""
REMEDY = "give a file such as my_parts.py, or the folder of a package"


class OwnCode(BaseModel):
    """A module of the user's, as it goes to other machines.

    Attributes:
        module: its name.
        files: path below the folder that holds it -> text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """Return the hash of everything its files say."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def read(cls, path: str | Path) -> OwnCode:
        """Read a module from its file, or from the folder of a package with all that lies in it.

        Raises:
            BadInput: nothing there, no module, or more than a module's code.
        """
        place = expanded(path).absolute()
        if place.is_dir() and not (place / "__init__.py").is_file():
            raise BadInput(f"code {path}: the folder holds no __init__.py; {REMEDY}")
        if not place.is_dir() and place.suffix != ".py":
            raise BadInput(f"code {path}: no file of Python; {REMEDY}")
        sources = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        if len(sources) > MOST_FILES:
            raise BadInput(f"code {path}: it holds more than {MOST_FILES} files; {REMEDY}")
        files = {str(one.relative_to(place.parent)): _text(one) for one in sources}
        if sum(map(len, files.values())) > MOST_BYTES:
            raise BadInput(f"code {path}: it is larger than {MOST_BYTES >> 20} MiB; {REMEDY}")
        return cls(module=place.stem if place.suffix else place.name, files=files)

    def load(self) -> None:
        """Import the module from its texts, under its name; nothing is written or looked for elsewhere.

        Raises:
            BadInput: another module has its name, or its own code fails.
        """
        if _is_another(self):
            raise BadInput(f"code {self.module}: another module is called so; rename yours")
        finder = _FromTexts(self.files)
        sys.meta_path.insert(0, finder)
        try:
            importlib.import_module(self.module)
        except (Exception, SystemExit) as error:
            sys.meta_path.remove(finder)
            for name in [one for one in sys.modules if one.partition(".")[0] == self.module]:
                del sys.modules[name]
            raise BadInput(f"code {self.module}: {_said(error)}; correct it") from error


class _FromTexts(InspectLoader, MetaPathFinder):
    """Finds and loads modules whose texts are given, by path below the folder that holds them."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._paths = {_dotted(path): path for path in files}
        self._texts = files

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in self._paths:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=self._paths[fullname])

    def is_package(self, fullname: str) -> bool:
        return self._paths[fullname].endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        return self._texts[self._paths[fullname]]

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_source(fullname), self._paths[fullname])


def _dotted(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_USED: dict[str, OwnCode] = {}


def use_code(path: str | Path) -> OwnCode:
    """Import a module of one's own, so that sweeps and models may name what is in it.

    Args:
        path: a file such as ``my_parts.py``, or the folder of a package.

    Raises:
        BadInput: see `OwnCode`; or it was imported with other content before.
    """
    code = OwnCode.read(path)
    if not _known(code):
        code.load()
        _USED[code.module] = code
    return code


def shipped_code() -> str:
    """Write all code in use as JSON, for `take_code` on another machine."""
    return json.dumps([code.model_dump() for code in _USED.values()])


def take_code(shipped: str) -> None:
    """Import the code that another process uses; ``shipped`` is what its `shipped_code` gave.

    Raises:
        BadInput: see `OwnCode.load`.
    """
    for code in map(OwnCode.model_validate, json.loads(shipped)):
        if not _known(code):
            code.load()
            _USED[code.module] = code


def is_own(name: str, group: Group) -> bool:
    """Tell whether a name is one of users' parts, here or elsewhere."""
    return ":" in name or name in own_names(group)


@lru_cache
def own_names(group: Group) -> Mapping[str, EntryPoint]:
    """Name the parts of a group that installed packages declare."""
    return {entry.name: entry for entry in entry_points(group=f"theriac.{group}")}


def own_part(name: str, group: Group) -> Any:
    """Return a part of a user's, such as the class of a model.

    Args:
        name: ``module:attribute``, or the name of an entry point.
        group: which kind of part.

    Raises:
        BadInput: its module is not in use, has no such attribute, or fails.
    """
    entry = own_names(group).get(name)
    if entry is not None:
        try:
            return entry.load()
        except Exception as error:
            raise BadInput(f"{name} of an installed package: {_said(error)}; correct it") from error
    module, _, attribute = name.partition(":")
    if module.partition(".")[0] not in _USED:
        top = module.partition(".")[0] or "my_parts"
        raise BadInput(
            f"{name!r} names code of your own that is not in use; give its file with --code {top}.py (in "
            f"Python: theriac.datasets.own_code.use_code)"
        )
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise BadInput(f"{name!r}: {_said(error)}; correct it") from error
    if not hasattr(found, attribute):
        known = [one for one in vars(found) if not one.startswith("_")]
        raise BadInput(f"{name!r}: the module has no {attribute!r}; correct it{closest(attribute, known)}")
    return getattr(found, attribute)


def call_part(name: str, group: Group, **given: Any) -> Any:
    """Call a part of a user's; whatever fails in it is said in a line.

    Raises:
        BadInput: see `own_part`; or its own code fails.
    """
    part = own_part(name, group)
    try:
        return part(**given)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{name!r} of your own: {_said(error)}; correct it") from error


def code_digests(names: Iterable[tuple[str, Group]]) -> dict[str, str]:
    """Return the digests of the modules that these parts come from, by module; those in use alone."""
    found = {}
    for name, group in names:
        module = own_module(name, group)
        if module is not None and name in own_names(group):
            found[module] = _installed_digest(module)
        elif module in _USED:
            found[module] = _USED[module].digest
    return found


def own_module(name: str, group: Group) -> str | None:
    """Return the outermost module that a part comes from; None for what is no user's part."""
    if not is_own(name, group):
        return None
    entry = own_names(group).get(name)
    return (entry.value if entry else name).partition(":")[0].partition(".")[0]


@lru_cache
def _installed_digest(module: str) -> str:
    spec = importlib.util.find_spec(module)
    code = _read_origin(spec.origin) if spec and spec.origin else None
    if code is None:
        raise BadInput(f"module {module} of an entry point cannot be read; install it again")
    return code.digest


def _known(code: OwnCode) -> bool:
    used = _USED.get(code.module)
    if used is not None and used.digest != code.digest:
        raise BadInput(f"code {code.module}: it was imported with other content; start Python anew")
    return used is not None


def _is_another(code: OwnCode) -> bool:
    """Tell whether Python knows a module of this name that says something else."""
    try:
        spec = importlib.util.find_spec(code.module)
    except (ImportError, ValueError):  # imported, and without a spec
        return True
    if spec is None:
        return False
    if isinstance(spec.loader, _FromTexts):
        return spec.loader.get_source(code.module) != code.files.get(spec.origin or "")
    return spec.origin is None or not spec.has_location or _read_origin(spec.origin) != code


def _read_origin(origin: str) -> OwnCode | None:
    place = Path(origin)
    try:
        return OwnCode.read(place.parent if place.name == "__init__.py" else place)
    except BadInput:
        return None


def _text(file: Path) -> str:
    return read_text(file, "code", remedy=REMEDY, most_bytes=MOST_BYTES)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
