"""Entries of the artifact store: bits flipped, text edited, files swapped. None may change an answer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from theriac.search.store.artifacts import ArtifactStore
from theriac.unlearning.importance.estimate import Importance

from .cases import ODD, Case, Run, damaged, shown

KINDS = ("models", "importances", "trials")
KEYS = ("a" * 16, "b" * 16)
Content = dict[str, Any]


def _weights(number: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return {"w": torch.randn(6, 5, generator=generator), "n": torch.tensor(number), "h": torch.ones(3).half()}


def _importance(number: int) -> Importance:
    total = {"w": torch.full((4, 3), 1.0 + number), "b": torch.arange(3.0)}
    return Importance(total=total, count=10 + number, kind="xlf", granularity="sample")


def _trial(number: int) -> Content:
    return {"score": 0.5 + number, "status": "done", "alpha": None, "truth": [1, 2, number]}


@cache
def _made(parent: Path) -> Path:
    place = Path(mkdtemp(dir=parent, prefix="store-base-")) / "store"
    store = ArtifactStore(place)
    for number, key in enumerate(KEYS):
        store.put(key, _weights(number), {"seconds": 1.5, "metrics": {"asr": 0.9}})
        store.put_importance(key, _importance(number), {"seconds": 2.5})
        store.put_trial(key, _trial(number))
    return place


def contents(store: ArtifactStore) -> dict[tuple[str, str], Any]:
    """Everything that the entries say, in numbers and texts; None: it is to be made again."""
    found: dict[tuple[str, str], Any] = {}
    for key in KEYS:
        model, importance = store.find(key), store.find_importance(key)
        found["models", key] = model and (_plain(model.state_dict()), model.info)
        found["importances", key] = importance and (
            _numbers(Importance.load(importance.path)),
            importance.info,
        )
        found["trials", key] = store.find_trial(key)
    return found


def _plain(tensors: dict[str, Tensor]) -> Content:
    return {
        name: (str(tensor.dtype), tuple(tensor.shape), tensor.flatten().tolist())
        for name, tensor in tensors.items()
    }


def _numbers(importance: Importance) -> Content:
    return {
        "total": _plain(dict(importance.total)),
        "count": importance.count,
        "kind": importance.kind,
        "by": importance.granularity,
    }


@cache
def _expected() -> dict[tuple[str, str], Any]:
    return contents(ArtifactStore(_made(Path.cwd().parent)))


def _as_written(found: dict[tuple[str, str], Any]) -> str | None:
    for place, content in found.items():
        if content is not None and content != _expected()[place]:
            return f"{place[0]} answers another content than was put"
    return None


def _others_stand(changed: str) -> Callable[[dict[tuple[str, str], Any]], str | None]:
    def judge(found: dict[tuple[str, str], Any]) -> str | None:
        lost = [place for place, content in found.items() if content is None and place[0] not in changed]
        return f"{lost[0][0]} is lost, which nobody touched" if lost else _as_written(found)

    return judge


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A store in which something was changed, and everything that is read from it then."""
    place = folder / "store"
    shutil.copytree(_made(folder.parent), place)
    kind = rng.choice(KINDS)
    what = rng.choice(TWISTS)(rng, place / kind / rng.choice(KEYS))
    return Case(
        shown=f"{kind}: {what}", call=lambda: contents(ArtifactStore(place)), right=_others_stand(kind)
    )


def _files(entry: Path) -> list[Path]:
    return sorted(path for path in entry.iterdir() if path.is_file())


def _data(entry: Path) -> Path:
    return next(path for path in _files(entry) if path.name != "info.json")


def _flipped(rng: Random, entry: Path) -> str:
    path = rng.choice(_files(entry))
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    return f"bit flipped in byte {at} of {path.name}"


def _damaged(rng: Random, entry: Path) -> str:
    path = rng.choice(_files(entry))
    how, data = damaged(rng, path.read_bytes())
    path.write_bytes(data)
    return f"{path.name} {how}"


def _edited(rng: Random, entry: Path) -> str:
    """Valid JSON that says something else."""
    path = rng.choice([path for path in _files(entry) if path.suffix == ".json"])
    record = json.loads(path.read_text())
    name, value = rng.choice([*record, "more"]), rng.choice([one for one in ODD if one == one])
    record[name] = value
    path.write_text(json.dumps(record, ensure_ascii=rng.random() < 0.5), errors="surrogatepass")
    return f"{name} = {shown(value)} in {path.name}"


def _other_json(rng: Random, entry: Path) -> str:
    path = entry / "info.json"
    text = rng.choice(
        ("[]", "null", "3", '"x"', "{}", '{"bytes": -1}', '{"bytes": "9"}', "[" * 100_000, "NaN", "{" * 9)
    )
    path.write_text(text)
    return f"info.json is {text[:20]}"


def _swapped(rng: Random, entry: Path) -> str:
    """The data, the record or all of the other entry."""
    other = entry.with_name(KEYS[1 - KEYS.index(entry.name)])
    which = rng.choice(("data", "info.json", "all", "copied"))
    names = [_data(entry).name] if which == "data" else ["info.json"]
    if which in ("all", "copied"):
        names = [path.name for path in _files(entry)]
    for name in names:
        mine, theirs = (entry / name).read_bytes(), (other / name).read_bytes()
        (entry / name).write_bytes(theirs)
        if which != "copied":
            (other / name).write_bytes(mine)
    return f"{which} of two entries swapped"


def _replaced(rng: Random, entry: Path) -> str:
    """Valid files with other values of the same size."""
    data = _data(entry)
    if data.suffix == ".json":
        data.write_text(data.read_text().replace("0.5", "0.6").replace("1.5", "1.6"))
        return "the score of a trial edited"
    if entry.parent.name == "models":
        save_file({name: torch.zeros_like(tensor) for name, tensor in _weights(0).items()}, data)
        return "weights set to zero"
    importance = Importance.load(data)
    Importance(
        total=importance.total,
        count=importance.count * 2,
        kind=importance.kind,
        granularity=importance.granularity,
    ).save(data)
    return "a count doubled"


def _zeroed(rng: Random, entry: Path) -> str:
    data = _data(entry)
    data.write_bytes(bytes(data.stat().st_size))
    return f"{data.name} filled with zeros"


def _no_file(rng: Random, entry: Path) -> str:
    path, what = rng.choice(_files(entry)), rng.choice(("pipe", "folder", "zero", "gone", "loop", "empty"))
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "empty":
        path.touch()
    elif what != "gone":
        path.symlink_to({"zero": "/dev/zero", "loop": path.name}[what])
    return f"{path.name} is {what}"


def _entry_gone(rng: Random, entry: Path) -> str:
    what = rng.choice(("gone", "a file", "empty", "a link to the other", "leftovers beside"))
    other = entry.with_name(KEYS[1 - KEYS.index(entry.name)])
    if what == "leftovers beside":
        shutil.copytree(entry, entry.with_name(f".{entry.name}.0123"))
        return what
    shutil.rmtree(entry)
    if what == "a file":
        entry.touch()
    elif what == "empty":
        entry.mkdir()
    elif what == "a link to the other":
        entry.symlink_to(other, target_is_directory=True)
    return f"the entry is {what}"


TWISTS: tuple[Callable[[Random, Path], str], ...] = (
    *[_flipped] * 5,
    *[_damaged] * 3,
    *[_edited] * 3,
    _other_json,
    *[_swapped] * 2,
    *[_replaced] * 2,
    _zeroed,
    *[_no_file] * 2,
    _entry_gone,
)
