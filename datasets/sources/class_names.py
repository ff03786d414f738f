"""Class names: from a file, and from the names of class folders."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ..file_checks import MOST_TEXT_BYTES, expanded, parse_json, read_text

log = logging.getLogger(__name__)

MOST_CLASSES = 1 << 20
"""Most classes; a model of more would not fit anywhere."""
_REMEDY = (
    "give a text file with one class name a line, in the order of the model's outputs, or a JSON list, "
    '{"name": number} or {"number": "name"}'
)
_LIST = "give the names of all classes in the order of the labels (--classes FILE, or classes=[...])"
_MAPPINGS = ("id2label", "label2id", "class_to_idx", "idx_to_class", "classes", "class_names", "names")


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read the class names in a file, in the order of the labels.

    Args:
        path: text with one name a line, or JSON: a list of names, {name: label} (torchvision's class_to_idx)
            or {label: name} (Hugging Face's id2label), also inside an object that has one of them under its
            usual name, such as Hugging Face's config.json.

    Raises:
        BadInput: no such file, or what it holds is no list of classes: no name, an empty one, one that comes
            twice, or labels that are not 0, 1, 2, ...
    """
    path = expanded(path)
    text = read_text(path, "class names", remedy=_REMEDY, most_bytes=MOST_TEXT_BYTES)
    try:
        return _checked(_from_json(text) if text.lstrip()[:1] in ("[", "{") else _lines(text))
    except ValueError as error:
        raise BadInput(f"class names {path}: {error}; {_REMEDY}") from error


def _lines(text: str) -> list[str]:
    if "\0" in text:
        raise ValueError("it holds NUL bytes, so it is no text")
    return [line.strip() for line in text.rstrip().splitlines()]


def _from_json(text: str) -> Iterable[Any]:
    value = parse_json(text)
    if isinstance(value, dict):
        value = next((value[key] for key in _MAPPINGS if isinstance(value.get(key), dict | list)), value)
    return _by_label(value) if isinstance(value, dict) else value


def _by_label(mapping: Mapping[str, Any]) -> list[Any]:
    """Return the names of {name: label} or {label: name}, in the order of the labels."""
    if all(isinstance(value, int) and not isinstance(value, bool) for value in mapping.values()):
        named = {label: name for name, label in mapping.items()}
    elif all(is_number(key) for key in mapping):
        named = {int(key): name for key, name in mapping.items()}
    else:
        raise ValueError("its values are not all labels, and its keys neither")
    if len(named) < len(mapping) or sorted(named) != list(range(len(named))):
        missing = next((label for label in range(len(named)) if label not in named), len(named))
        raise ValueError(f"its labels are not 0 to {len(mapping) - 1}, each once: {missing} is missing")
    return [named[label] for label in range(len(named))]


def _checked(names: Iterable[Any]) -> tuple[str, ...]:
    listed = [str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in names]
    if not listed:
        raise ValueError("it holds no names")
    if len(listed) > MOST_CLASSES:
        raise ValueError(f"it holds {len(listed)} names, and at most {MOST_CLASSES} are taken")
    first: dict[str, int] = {}
    for label, name in enumerate(listed):
        if not isinstance(name, str) or not name:
            raise ValueError(f"class {label} is {name!r:.60}, which is no name")
        if name in first:
            raise ValueError(f"{name!r:.60} names class {first[name]} and class {label}")
        first[name] = label
    return tuple(listed)


def is_number(name: str) -> bool:
    """Tell whether a name is a number as class folders have it: digits alone, not too many."""
    return name.isascii() and name.isdigit() and len(name) <= 9


def in_order(names: Iterable[str]) -> list[str]:
    """Put names of class folders in order: as numbers if all are numbers, else all as text.

    ``0``, ``2``, ``10``, zero-padded or not; but ``n01440764`` and mixed names as text, as torchvision does.
    """
    listed = list(names)
    return sorted(listed, key=int) if all(map(is_number, listed)) else sorted(listed)


def classes_of_folders(folder: Path, found: Sequence[str]) -> tuple[str, ...]:
    """Return the class list that follows from class folders, which are ``found`` as `in_order` puts them.

    Text: the names as they are. Numbers from 0 on: label = number, also where some are missing. Numbers from
    1 on: label = number - 1. What may be meant in another way is said in a warning.

    Raises:
        BadInput: numbers that leave open which label each is: one comes twice (``7`` and ``07``), most are
            missing, or the first are.
    """
    if not found or not all(map(is_number, found)):
        return tuple(found)
    _refuse_twins(folder, found)
    numbers = {int(name) for name in found}
    last, from_one = max(numbers), numbers == set(range(1, len(found) + 1))
    if not from_one and (0 not in numbers or last >= 2 * len(found)):
        raise BadInput(
            f"class folders of {folder} are the numbers {_shown(found)}, so it is not known which label each "
            f"is; {_LIST}"
        )
    if from_one:
        _warn(folder, found, "folder 1 is label 0", "if folder 1 is label 1")
        return tuple(found)
    missing = [str(number) for number in range(last) if number not in numbers]
    if missing:
        how = f"number {_shown(missing)} is missing, taken for a class without images"
        _warn(folder, found, how, "if the labels have no such gap")
    elif list(found) != sorted(found):
        otherwise = (
            f"if the model was trained with torchvision's ImageFolder, which sorts them as text "
            f"({_shown(sorted(found))})"
        )
        _warn(folder, found, "sorted as numbers", otherwise)
    return _filled(found)


def _filled(found: Sequence[str]) -> tuple[str, ...]:
    """Return all names from 0 to the last, written as those that are there."""
    named = {int(name): name for name in found}
    width = len(found[0]) if len({len(name) for name in found}) == 1 else 1
    return tuple(named.get(number, str(number).zfill(width)) for number in range(int(found[-1]) + 1))


def _refuse_twins(folder: Path, found: Sequence[str]) -> None:
    for name, following in pairwise(found):
        if int(name) == int(following):
            raise BadInput(
                f"class folders {folder / name} and {folder / following} are the same number; rename one, or "
                f"put their images together"
            )


def _warn(folder: Path, found: Sequence[str], how: str, otherwise: str) -> None:
    log.warning(f"class folders of {folder} are numbers ({_shown(found)}): {how}; {otherwise}, {_LIST}")


def _shown(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(names) if len(names) <= limit else f"{', '.join(names[: limit - 1])}, ..., {names[-1]}"
