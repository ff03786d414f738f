"""Parquet files of images: columns of every type and name, and files that are damaged."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from theriac.datasets.local import load_images

from .cases import ESCAPES, ODD, TEXTS, Case, Run, damaged, never, unwanted

SIDE = 5
Answer = tuple[torch.Tensor, list[int]]


class Rows:
    """A few images and labels, and the file that holds them."""

    def __init__(self, rng: Random) -> None:
        count = rng.randrange(2, 7)
        self.pixels = [
            np.frombuffer(rng.randbytes(SIDE * SIDE * 3), np.uint8).reshape(SIDE, SIDE, 3)
            for _ in range(count)
        ]
        self.labels = [0, 1, *(rng.randrange(3) for _ in range(count - 2))]
        self.encoded = [_png(one) for one in self.pixels]

    def images(self) -> pa.Array:
        """As binary."""
        return pa.array(self.encoded, pa.binary())

    def structs(self) -> pa.Array:
        """As Hugging Face keeps them."""
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        return pa.array([{"bytes": one, "path": None} for one in self.encoded], kind)

    def check(self, answer: Answer) -> str | None:
        """What is wrong with images and labels that were read."""
        images, labels = answer
        if labels != self.labels:
            return f"labels {labels}, not {self.labels}"
        pairs = zip(images, self.pixels, strict=True)
        same = all(np.array_equal(one.permute(1, 2, 0).numpy(), pixels) for one, pixels in pairs)
        return None if same else "other pixels than those stored"


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A Parquet file, read as `load_images` does."""
    return rng.choice(TWISTS)(rng, folder, Rows(rng))


def _read(path: Path, **options: Any) -> Answer:
    source = load_images(path, **options)
    return source.images(torch.arange(len(source))), source.labels.tolist()


def _case(path: Path, what: str, rows: Rows | None, must: str, **options: Any) -> Case:
    judges: dict[str, Any] = {"right": never if must == "refuse" else rows.check if rows else lambda _: None}
    if must == "right":
        judges["refused"] = unwanted
    return Case(shown=what, call=lambda: _read(path, **options), **judges)


def _written(folder: Path, table: pa.Table, name: str = "train.parquet", **options: Any) -> Path:
    path = folder / name
    pq.write_table(table, path, **options)
    return path


def _valid(rng: Random, folder: Path, rows: Rows) -> Case:
    """In all the ways in which such files are written."""
    images = rng.choice((rows.images, rows.structs))()
    kind = rng.choice((pa.int8(), pa.int64(), pa.uint8(), pa.uint64(), pa.int32()))
    image, label = rng.choice(
        (("image", "label"), ("img", "label"), ("img", "fine_label"), ("image", "labels"))
    )
    table = pa.table({image: images, label: pa.array(rows.labels, kind)})
    options: dict[str, Any] = {
        "row_group_size": rng.choice((1, 2, 1000)),
        "compression": rng.choice(("none", "zstd", "gzip", "snappy")),
    }
    must = "right" if label == "label" else "either"
    return _case(_written(folder, table, **options), f"{image} and {label} as {kind}", rows, must)


def _damaged(rng: Random, folder: Path, rows: Rows) -> Case:
    path = _written(folder, pa.table({"image": rows.images(), "label": rows.labels}), compression="none")
    how, data = damaged(rng, path.read_bytes())
    path.write_bytes(data)
    return _case(path, how, None, "either")


def _label_type(rng: Random, folder: Path, rows: Rows) -> Case:
    n = len(rows.labels)
    columns: dict[str, pa.Array] = {
        "uint64 beyond": pa.array([2**63] * n, pa.uint64()),
        "int64 least": pa.array([-(2**63)] * n, pa.int64()),
        "negative": pa.array([-1] * n),
        "great": pa.array([10**12] * n),
        "floats": pa.array([0.5] * n),
        "whole floats": pa.array([float(one) for one in rows.labels]),
        "not finite": pa.array([float("nan")] * n),
        "text": pa.array(["cat"] * n),
        "digits as text": pa.array([str(one) for one in rows.labels]),
        "booleans": pa.array([True] * n),
        "null": pa.nulls(n),
        "some null": pa.array([None, *rows.labels[1:]], pa.int64()),
        "lists": pa.array([[one] for one in rows.labels]),
        "structs": pa.array([{"a": one} for one in rows.labels]),
        "dates": pa.array([0] * n, pa.date32()),
        "moments": pa.array([0] * n, pa.timestamp("us")),
        "decimals": pa.array([1] * n, pa.decimal128(20, 2)),
        "binary": pa.array([b"0"] * n),
        "dictionary": pa.array(["cat"] * n).dictionary_encode(),
        "integers in a dictionary": pa.array(rows.labels).dictionary_encode(),
        "maps": pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    }
    name = rng.choice(list(columns))
    good = name in ("integers in a dictionary",)
    path = _written(folder, pa.table({"image": rows.images(), "label": columns[name]}))
    return _case(path, f"labels: {name}", rows if good else None, "either")


def _image_type(rng: Random, folder: Path, rows: Rows) -> Case:
    n, broken = len(rows.encoded), [b"no image", *rows.encoded[1:]]
    columns: dict[str, pa.Array] = {
        "large binary": pa.array(rows.encoded, pa.large_binary()),
        "text": pa.array(["cat.png"] * n),
        "integers": pa.array(range(n)),
        "null": pa.nulls(n),
        "some null": pa.array([None, *rows.encoded[1:]], pa.binary()),
        "empty": pa.array([b""] * n),
        "broken": pa.array(broken),
        "pixels": pa.array([[1, 2, 3]] * n),
        "structs without bytes": pa.array([{"path": "x.png"}] * n),
        "structs of text": pa.array([{"bytes": "x"}] * n),
        "null structs": pa.array([None] * n, pa.struct({"bytes": pa.binary()})),
        "structs of null": pa.array(
            [{"bytes": None, "path": "x.png"}] * n, pa.struct({"bytes": pa.binary(), "path": pa.string()})
        ),
        "deep structs": pa.array([_nested(40)] * n),
        "deep lists": pa.array([_lists(30)] * n),
        "fixed size": pa.array([b"1234"] * n, pa.binary(4)),
        "dictionary": pa.array(rows.encoded).dictionary_encode(),
        "views": pa.array(rows.encoded, pa.binary_view()),
    }
    name = rng.choice(list(columns))
    path = _written(folder, pa.table({"image": columns[name], "label": rows.labels}))
    good = name == "large binary"
    return _case(path, f"images: {name}", rows if good else None, "right" if good else "either")


def _nested(depth: int) -> Any:
    return {"bytes": _nested(depth - 1)} if depth else {"bytes": b"x"}


def _lists(depth: int) -> Any:
    return [_lists(depth - 1)] if depth else [b"x"]


def _columns(rng: Random, folder: Path, rows: Rows) -> Case:
    images, labels, odd = rows.images(), pa.array(rows.labels), rng.choice([*ESCAPES, *TEXTS])
    choices: list[tuple[list[Any], list[str]]] = [
        ([images, images, labels], ["image", "image", "label"]),
        ([images, labels, labels], ["image", "label", "label"]),
        ([images], ["image"]),
        ([labels], ["label"]),
        ([images, labels], [odd, "label"]),
        ([images, labels], ["image", odd]),
        ([images, labels], ["Image", "Label"]),
        ([images, labels], ["image", "image"]),
        ([images, labels], ["image.bytes", "label"]),
        ([images, labels, labels], ["image", "label", odd]),
        ([images, images, labels], ["image", "img", "label"]),
        ([images.slice(0, 0), labels.slice(0, 0)], ["image", "label"]),
        ([], []),
    ]
    arrays, titles = rng.choice(choices)
    path = _written(folder, pa.Table.from_arrays(arrays, names=titles))
    whole = titles.count("image") == titles.count("label") == 1 and len(titles) > 1 and len(arrays[0]) > 0
    return _case(
        path, f"columns {titles!a}", rows if whole and titles[:2] == ["image", "label"] else None, "either"
    )


def _metadata(rng: Random, folder: Path, rows: Rows) -> Case:
    names = rng.choice(
        (
            ["a", "b", "c"],
            ["a", "b"],
            ["a"] * 3,
            [],
            "abc",
            7,
            None,
            {"a": 1},
            [1, 2, 3],
            [None] * 3,
            ["\x1b[2J", "a\nb", "c"],
        )
    )
    value: Any = rng.choice(
        (
            json.dumps(names),
            json.dumps(names)[:-1],
            "a,b,c",
            "a, b, c",
            "",
            b"\xff\xfe",
            "[" * 50_000,
            "x" * 10**6,
        )
    )
    huggingface = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    odd: object = rng.choice(
        (huggingface, {"info": []}, [], {"info": {"features": {"label": names}}}, "x", {"info": None})
    )
    entries = rng.choice(
        ({"classes": value}, {"class_names": value}, {"huggingface": json.dumps(odd)}, {"huggingface": value})
    )
    table = pa.table({"image": rows.images(), "label": rows.labels}).replace_schema_metadata(entries)
    return _case(_written(folder, table), f"metadata {str(entries)[:80]!a}", None, "either")


def _bomb(rng: Random, folder: Path, rows: Rows) -> Case:
    """A file of some KiB whose values take hundreds of megabytes, though they were written from one."""
    size, count, coded = rng.choice(((1_000_000, 300, False), (2_000_000, 700, True)))
    one = pa.array([bytes(size)], pa.large_binary())
    codes = pa.array([0] * count, pa.int32())
    images = pa.DictionaryArray.from_arrays(codes, one) if coded else pa.chunked_array([one] * count)
    table = pa.table({"image": images, "label": pa.array([i % 2 for i in range(count)])})
    path = _written(folder, table, compression="zstd", use_dictionary=coded)
    return _case(path, f"{count} values of {size} zeros", None, "either" if coded else "refuse")


def _several(rng: Random, folder: Path, rows: Rows) -> Case:
    """A folder of files that do not agree."""
    good = pa.table({"image": rows.images(), "label": rows.labels})
    others: list[pa.Table] = [
        good,
        pa.table({"image": rows.structs(), "label": rows.labels}),
        pa.table({"img": rows.images(), "label": rows.labels}),
        good.replace_schema_metadata({"classes": '["a", "b", "c"]'}),
        good.slice(0, 0),
        pa.table({"x": [1]}),
    ]
    _written(folder, good, "a.parquet")
    _written(folder, rng.choice(others), f"b{rng.choice(ESCAPES)}.parquet".replace("/", ""))
    return _case(folder, "a folder of two files", None, "either")


def _no_file(rng: Random, folder: Path, rows: Rows) -> Case:
    path = folder / rng.choice(("x.parquet", "a\x1b[2J.parquet", "a\nb.parquet"))
    what = rng.choice(("pipe", "zero", "folder", "text", "csv", "gone", "loop", "arrow"))
    if what == "pipe":
        os.mkfifo(path)
    elif what in ("zero", "loop"):
        path.symlink_to({"zero": "/dev/zero", "loop": path.name}[what])
    elif what == "folder":
        path.mkdir()
    elif what == "arrow":
        with pa.ipc.new_file(path, pa.schema({"a": pa.int8()})) as writer:
            writer.write(pa.record_batch({"a": pa.array([1], pa.int8())}))
    elif what != "gone":
        path.write_bytes(
            {"text": b"version https://git-lfs.github.com/spec/v1\n", "csv": b"image,label\na,1\n"}[what]
        )
    place = rng.choice((path, folder)) if what != "gone" else path
    return _case(place, f"{what} {path.name!a}, read from {place.name[:8]}", None, "refuse")


def _options(rng: Random, folder: Path, rows: Rows) -> Case:
    path = _written(folder, pa.table({"image": rows.images(), "label": rows.labels}))
    name = rng.choice(("classes", "image_size", "channels"))
    value = rng.choice([*ODD, ["a", "b", "c"], ["a"], 5, 3, 1])
    return _case(path, f"{name}={str(value)[:50]!a}", None, "either", **{name: value})


TWISTS: tuple[Callable[[Random, Path, Rows], Case], ...] = (
    *[_valid] * 3,
    *[_damaged] * 5,
    *[_label_type] * 4,
    *[_image_type] * 3,
    *[_columns] * 3,
    *[_metadata] * 3,
    _bomb,
    _several,
    *[_no_file] * 2,
    *[_options] * 2,
)
