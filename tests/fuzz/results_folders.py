"""Results folders: parts that are torn, changed, foreign or no files, and rows that say odd things."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from theriac.search.store.results import ResultsStore
from theriac.search.store.schemas import SCHEMAS, STAMPS
from theriac.search.sweep.files import dump_sweep, load_sweep

from .cases import ESCAPES, NUMBERS, TEXTS, Case, Printed, Run, damaged, never, shown

SWEEP = load_sweep("quickstart")
COMMON: dict[str, Any] = {"dataset": "digits", "model": "resnet9", "attack": "badnets", "target": 0}
COMMON |= {"manipulated": 100, "discovered": 20, "share": "0.2", "uses_oracle": False, "status": "done"}
COMMON |= {"clean_accuracy_before": 0.99, "asr_before": 1.0, "healed_raw_before": 0.1, "scenario": "abc"}
COMMON |= {"clean_accuracy": 0.98, "asr": 0.03, "healed_raw": 0.9, "healed": 95.0, "damage": -1.0, "run": "r"}
METHODS = ("eu", "ssd", "lf", "xlf")
COMMANDS = ("table", "table", "status", "csv", "latex", "markdown", "aggregate", "json")
Rows = dict[str, dict[str, Any]]


@cache
def _made(parent: Path) -> Path:
    """A folder with two parts of searches, steps and a run; copied for every input."""
    place = Path(mkdtemp(dir=parent, prefix="results-base-")) / "results"
    store = ResultsStore(place)
    rows = [
        {**COMMON, "key": f"{method}{seed}", "method": method, "seed": seed}
        for method in METHODS
        for seed in (0, 1)
    ]
    store.append("searches", rows[:5])
    store.append("searches", rows[5:])
    store.append(
        "steps", [{"key": f"s{n}", "search": "xlf0", "step": n, "alpha": 10.0 - n} for n in range(4)]
    )
    store.append(
        "runs", [{"key": "r", "configuration": dump_sweep(SWEEP), "versions": '{"theriac": "x"}', "seed": 0}]
    )
    (place / "sweeps").mkdir()
    (place / "sweeps" / f"{SWEEP.key}.yaml").write_text(dump_sweep(SWEEP))
    return place


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A folder of results with something wrong in it, read by a command or as a table of rows."""
    place = folder / "results"
    shutil.copytree(_made(folder.parent), place)
    what, judges = rng.choice(TWISTS)(rng, place)
    if rng.random() < 0.4:
        return Case(shown=f"rows with {what}", call=lambda: _rows(place), **judges)
    name = rng.choice(COMMANDS)
    words = {
        "aggregate": ["table", "--aggregate"],
        "json": ["status", "--json"],
        "csv": ["table", "--format", "csv"],
    }
    words |= {name: ["table", "--format", name] for name in ("latex", "markdown")}
    verb, *options = words.get(name, [name])
    text_judges = {} if judges.get("right") is not never else judges
    return Case(
        shown=f"{name} with {what}", call=lambda: run(verb, str(place), *options), **_for_text(text_judges)
    )


def _for_text(judges: dict[str, Any]) -> dict[str, Any]:
    def answered(answer: Printed) -> str | None:
        return None if answer.out.strip() else "nothing is printed"

    return {"right": answered, **judges}


def _rows(place: Path) -> Rows:
    found = ResultsStore(place, create=False).read("searches").to_pylist()
    return {row["key"]: {name: value for name, value in row.items() if name not in STAMPS} for row in found}


@cache
def _expected() -> Rows:
    return _rows(_made(Path.cwd().parent))


def _no_other_rows(found: Rows) -> str | None:
    """Rows may be missing, with a warning; none may be another than was written."""
    for key, row in found.items():
        if row != _expected().get(key):
            return f"row {key!r} is not as it was written"
    return None


def _all_rows(found: Rows) -> str | None:
    lacking = _expected().keys() - found.keys()
    return f"rows {sorted(lacking)} are missing" if lacking else _no_other_rows(found)


Twist = tuple[str, dict[str, Any]]


def _part(rng: Random, place: Path) -> Path:
    tables = [name for name in SCHEMAS if any((place / name).glob("*.parquet"))]
    return rng.choice(sorted((place / rng.choice(tables)).glob("*.parquet")))


def _damaged(rng: Random, place: Path) -> Twist:
    part = _part(rng, place)
    how, data = damaged(rng, part.read_bytes())
    part.write_bytes(data)
    return f"a part of {part.parent.name} {how}", {"right": _no_other_rows}


def _foreign(rng: Random, place: Path) -> Twist:
    """Parquet that is not ours, beside ours."""
    folder = place / rng.choice(tuple(SCHEMAS))
    tables: list[pa.Table] = [
        pa.table({"a": [1]}),
        pa.table({"key": ["x"]}),
        pa.table({"key": [1, 2]}),
        pa.table({"key": ["x"]}).replace_schema_metadata(
            {"theriac_schema_version": "1", "theriac_table": folder.name}
        ),
        pa.table({"key": ["x"]}).replace_schema_metadata(
            {"theriac_schema_version": "\x1b[2J", "theriac_table": folder.name}
        ),
        pa.table({"key": ["x"]}).replace_schema_metadata(
            {"theriac_schema_version": "1", "theriac_table": "steps\n"}
        ),
        pa.table({}),
        pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["key", "key"]),
    ]
    name = rng.choice(("part-9.parquet", "z\x1b[2J.parquet", "a\nb.parquet", "z.parquet"))
    pq.write_table(rng.choice(tables), folder / name)
    return f"foreign Parquet in {folder.name}", {"right": _all_rows}


def _no_part(rng: Random, place: Path) -> Twist:
    """Something that is called like a part and is no regular file."""
    folder = place / rng.choice(tuple(SCHEMAS))
    path = folder / rng.choice(("part-9.parquet", "a\x1b[31m.parquet", ".generation"))
    what = rng.choice(("pipe", "folder", "zero", "loop", "dangling"))
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to({"zero": "/dev/zero", "loop": path.name, "dangling": "gone"}[what])
    return f"{what} {path.name!a} in {folder.name}", {"right": _all_rows}


def _other_values(rng: Random, place: Path) -> Twist:
    """A row that another program wrote in our schema, with values out of range."""
    schema = SCHEMAS["searches"]
    row: dict[str, Any] = {**COMMON, "key": "odd", "method": "xlf", "seed": 5}
    for _ in range(rng.randrange(1, 5)):
        field = rng.choice([field for field in schema if field.name not in ("key", *STAMPS)])
        row[field.name] = _value(rng, field.type)
    ResultsStore(place).append("searches", [row])
    odd = {name: value for name, value in row.items() if COMMON.get(name) != value}
    return f"a row of {shown(odd)}", {
        "right": lambda rows: _no_other_rows({k: r for k, r in rows.items() if k != "odd"})
    }


def _value(rng: Random, kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return rng.choice(
            (
                *TEXTS,
                None,
                "{}",
                "[1]",
                '{"method": 3}',
                "@SUM(1)",
                "=1+1",
                "+1",
                "$x_2$",
                "a|b",
                "\\input{x}",
                "<b>",
            )
        )
    if pa.types.is_integer(kind):
        return rng.choice([None, *(int(one) for one in NUMBERS if isinstance(one, int) and abs(one) < 2**63)])
    if pa.types.is_list(kind):
        return rng.choice((None, [], [None], [float("nan")] * 3, [-1.0, 2.0], [0.5] * 1000))
    if pa.types.is_boolean(kind):
        return rng.choice((True, None))
    if pa.types.is_timestamp(kind):
        return None
    return rng.choice((None, float("nan"), float("inf"), -float("inf"), -1.0, 2.0, 1e308, 5e-324, -0.0))


def _sweep_file(rng: Random, place: Path) -> Twist:
    """The sweep as run, which `theriac status` reads."""
    file = next((place / "sweeps").iterdir())
    texts = {
        "empty": "",
        "aliases": "a0: &a0 [x, x]\n"
        + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)),
        "deep": "a: " + "[" * 5000 + "]" * 5000,
        "escapes": dump_sweep(SWEEP).replace("name: quickstart", 'name: "\\e[31mred\\nline"'),
        "another": dump_sweep(load_sweep("digits")),
        "unknown": dump_sweep(SWEEP) + "more: 1\n",
        "binary": "\x00\x01",
    }
    what = rng.choice((*texts, "pipe", "folder", "zero", "noise", "renamed"))
    if what in texts:
        file.write_text(texts[what])
    elif what == "renamed":
        file.rename(file.with_name(f"{rng.choice(ESCAPES)}.yaml"))
    else:
        file.unlink()
        {
            "pipe": lambda: os.mkfifo(file),
            "folder": file.mkdir,
            "zero": lambda: file.symlink_to("/dev/zero"),
            "noise": lambda: file.write_bytes(rng.randbytes(300)),
        }[what]()
    return f"a sweep file that is {what}", {"right": _all_rows}


def _progress_file(rng: Random, place: Path) -> Twist:
    """Whatever else lies in the folder."""
    names = (
        "progress",
        "progress.json",
        "models",
        "figures",
        "sweeps/x.json",
        "searches/x.json",
        "runs/.x.tmp",
        "steps/_x",
    )
    path = place / rng.choice(names)
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        return "nothing new", {"right": _all_rows}
    if rng.random() < 0.3:
        os.mkfifo(path)
    else:
        path.write_bytes(rng.choice((b"", b"{}", b"[]", b"null", b'{"cells": "x"}', rng.randbytes(100))))
    return f"{path.relative_to(place)} beside", {"right": _all_rows}


def _gone(rng: Random, place: Path) -> Twist:
    name = rng.choice((*SCHEMAS, "sweeps"))
    shutil.rmtree(place / name)
    what = rng.choice(("gone", "a file", "a pipe", "a link to itself"))
    if what == "a file":
        (place / name).touch()
    if what == "a pipe":
        os.mkfifo(place / name)
    if what == "a link to itself":
        (place / name).symlink_to(name)
    return f"{name} {what}", {"right": _no_other_rows if name == "searches" else _all_rows}


def _configuration(rng: Random, place: Path) -> Twist:
    """The run says what was run, in YAML."""
    text = rng.choice(
        (*TEXTS, "[" * 3000, "scenario: 3", "a: &a [*a]", "x: 0x" + "f" * 9000, dump_sweep(SWEEP) * 2)
    )
    row = {
        "key": "r2",
        "configuration": text,
        "versions": rng.choice((None, "", "[", '{"theriac": 3}', *TEXTS)),
        "command": text,
    }
    ResultsStore(place).append("runs", [row])
    return f"a run of {shown(row, 80)}", {"right": _all_rows}


def _untouched(rng: Random, place: Path) -> Twist:
    return "nothing wrong", {"right": _all_rows, "refused": lambda message: message}


TWISTS: tuple[Callable[[Random, Path], Twist], ...] = (
    *[_damaged] * 6,
    *[_foreign] * 2,
    *[_no_part] * 2,
    *[_other_values] * 4,
    *[_sweep_file] * 2,
    _progress_file,
    *[_gone] * 2,
    *[_configuration] * 2,
    _untouched,
)
