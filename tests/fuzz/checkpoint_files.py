"""Checkpoints: of other programs, with other names, of other files, damaged, and hostile."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from theriac.unlearning.models.build import ModelSpec, create_model, load_into, load_weights

from .cases import ESCAPES, ODD, Case, Run, damaged, never, unwanted

SPEC = ModelSpec(name="resnet9", width=0.0625)
SHAPE = (1, 12, 12)
State = dict[str, Tensor]


@cache
def _model(seed: int) -> nn.Module:
    return create_model(SPEC, num_classes=3, shape=SHAPE, seed=seed)


def state() -> State:
    """Weights that another seed does not start with."""
    return {name: tensor.clone() for name, tensor in _model(7).state_dict().items()}


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A checkpoint, read and put into the model as `theriac heal` does."""
    return rng.choice(TWISTS)(rng, folder)


def _loaded(path: Path) -> State:
    model = create_model(SPEC, num_classes=3, shape=SHAPE)
    load_into(model, load_weights(path), path)
    return dict(model.state_dict())


def _check(found: State) -> str | None:
    wrong = [name for name, tensor in state().items() if not torch.equal(found[name], tensor)]
    return f"{len(wrong)} tensors are not those in the file, such as {wrong[0]}" if wrong else None


def _case(path: Path, what: str, must: str, check: Callable[[State], str | None] | None = _check) -> Case:
    judges: dict[str, Any] = {"right": never if must == "refuse" else check or (lambda _: None)}
    judges["refused"] = unwanted if must == "right" else _honest
    return Case(shown=f"{what} in {path.name!a}", call=lambda: _loaded(path), **judges)


def _honest(message: str) -> str | None:
    return "torch's advice to unpickle" if "weights_only" in message or "load_file" in message else None


def _torch(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _file(rng: Random, folder: Path, data: bytes, suffix: str | None = None) -> Path:
    path = folder / f"model{suffix or rng.choice(('.pt', '.pth', '.safetensors', '.ckpt', '.bin', ''))}"
    path.write_bytes(data)
    return path


def _valid(rng: Random, folder: Path) -> Case:
    weights = state()
    wrap = rng.choice((None, "state_dict", "model", "model_state_dict", "net", "weights"))
    prefix = rng.choice(
        ("", "", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.")
    )
    named: Any = OrderedDict((prefix + name, tensor) for name, tensor in weights.items())
    content = {wrap: named, "epoch": 3, "optimizer": {"lr": 0.1}} if wrap else named
    path = _file(rng, folder, _torch(content), ".pt")
    must = "right" if wrap in (None, "state_dict", "model") else "either"
    return _case(path, f"{wrap} of {prefix!r}", must)


def _prefixed(rng: Random, folder: Path) -> Case:
    prefix = rng.choice(("module.", "_orig_mod.", "model.", "net.", "backbone.", "\x1b[2J."))
    path = _file(
        rng, folder, save({prefix + name: tensor for name, tensor in state().items()}), ".safetensors"
    )
    return _case(path, f"safetensors with {prefix!a}", "either")


def _dtypes(rng: Random, folder: Path) -> Case:
    kind = rng.choice(
        (torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.complex64, torch.uint8)
    )
    weights = {name: tensor.to(kind) for name, tensor in state().items()}
    exact = kind in (torch.float64,)
    data = _torch(weights) if rng.random() < 0.5 or kind == torch.complex64 else save(weights)
    suffix = ".pt" if data[:2] == b"PK" else ".safetensors"
    return _case(_file(rng, folder, data, suffix), f"{kind}", "either", _check if exact else None)


def _other_names(rng: Random, folder: Path) -> Case:
    """A tensor is missing, renamed, of another shape, or one is too many."""
    weights: dict[Any, Any] = dict(state())
    name = rng.choice(list(weights))
    how = rng.choice(("missing", "renamed", "shape", "extra", "number", "key", "none", "scalar", "empty"))
    if how in ("missing", "renamed", "key"):
        tensor = weights.pop(name)
        if how != "missing":
            weights[rng.choice((*ESCAPES, "x")) if how == "renamed" else rng.choice((1, None, ("a",)))] = (
                tensor
            )
    changed: dict[str, Any] = {
        "shape": torch.zeros(2, 2),
        "number": 3.5,
        "none": None,
        "scalar": torch.tensor(1.0),
    }
    if how in changed:
        weights[name] = changed[how]
    if how == "extra":
        weights[rng.choice((*ESCAPES, "head.weight"))] = torch.zeros(3)
    if how == "empty":
        weights = {}
    counter = how == "missing" and name.endswith("num_batches_tracked")  # PyTorch does without
    unharmed = how == "scalar" and weights[name].shape == state()[name].shape
    must = "either" if counter or unharmed else "refuse"
    check = None if must == "either" else _check
    return _case(_file(rng, folder, _torch(weights), ".pt"), f"{how} {name}", must, check)


def _not_finite(rng: Random, folder: Path) -> Case:
    weights = state()
    name = next(one for one in weights if one.endswith("weight"))
    weights[name].view(-1)[0] = rng.choice((float("nan"), float("inf")))
    return _case(_file(rng, folder, _torch(weights), ".pt"), "values that are not finite", "either", None)


def _damaged(rng: Random, folder: Path) -> Case:
    """A zip has checksums, so a changed tensor is a wrong answer; safetensors has none."""
    zipped = rng.random() < 0.6
    how, data = damaged(rng, _torch(state()) if zipped else save(state()))
    path = _file(rng, folder, data, ".pt" if zipped else ".safetensors")
    return _case(path, how, "either", _check if zipped else None)


def _misnamed(rng: Random, folder: Path) -> Case:
    data, suffix = rng.choice(
        ((save(state()), ".pt"), (save(state()), ".bin"), (_torch(state()), ".safetensors"))
    )
    return _case(_file(rng, folder, data, suffix), "the other format", "either")


def _other_files(rng: Random, folder: Path) -> Case:
    texts: dict[str, bytes] = {
        "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"0" * 64
        + b"\nsize 9000\n",
        "web page": b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n",
        "JSON": b'{"error": "not found"}',
        "text": b"hello\nworld\n",
        "escapes": b"\x1b[2J\x1b[31m\x07 boo",
        "one byte": b"\x80",
        "zeros": bytes(10_000),
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "gzip": b"\x1f\x8b\x08" + bytes(100),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "NumPy": b"\x93NUMPY\x01\x00" + bytes(100),
        "zip": _zip({"x.txt": b"hello"}),
        "TorchScript": _scripted(),
        "noise": rng.randbytes(5000),
    }
    name = rng.choice(list(texts))
    return _case(_file(rng, folder, texts[name]), name, "refuse")


@cache
def _scripted() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class _Runs:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


def _pickles(rng: Random, folder: Path) -> Case:
    contents: list[Any] = [_Runs(), {"state_dict": state(), "hook": _Runs()}, _model(7), [_Runs()], Path("x")]
    content = rng.choice(contents)
    data = rng.choice((pickle.dumps, _torch))(content)
    path = _file(rng, folder, data)

    def check(_: State) -> str | None:
        return "the pickle was run" if (folder / "pwned").exists() else None

    return Case(
        shown=f"pickle of {type(content).__name__} in {path.name}",
        call=lambda: _loaded(path),
        right=check,
        refused=lambda message: check({}),
    )


def _contents(rng: Random, folder: Path) -> Case:
    tensor = torch.zeros(2)
    odd: list[Any] = [
        *ODD,
        tensor,
        [tensor],
        {"state_dict": None},
        {"model": 3},
    ]
    odd += [
        {"model": {}},
        {1: tensor},
        {"a": {"b": tensor}},
        (tensor, tensor),
        {"state_dict": [tensor]},
        {None: tensor},
    ]
    content = rng.choice(odd)
    return _case(_file(rng, folder, _torch(content), ".pt"), f"{str(content)[:60]!a}", "refuse")


def _headers(rng: Random, folder: Path) -> Case:
    """Safetensors headers that lie."""
    entry: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    entry |= rng.choice(
        (
            {"shape": [2**40, 2**20]},
            {"shape": [-1]},
            {"data_offsets": [0, 2**60]},
            {"data_offsets": [8, 0]},
            {"dtype": "X99"},
            {"dtype": "\x1b[2J\n"},
            {"shape": "x"},
            {"shape": [2**63]},
            {},
        )
    )
    header = json.dumps({rng.choice(("w", "a\nb", "\x1b[31m", "")): entry}).encode()
    length = rng.choice((len(header), len(header), 2**40, 2**63, 0, len(header) + 5))
    return _case(
        _file(rng, folder, struct.pack("<Q", length) + header + bytes(8), ".safetensors"),
        f"{entry}",
        "refuse",
    )


def _huge(rng: Random, folder: Path) -> Case:
    """Small files that stand for gigabytes."""
    tensor = torch.zeros(1).expand(2**32)
    if rng.random() < 0.5:
        return _case(
            _file(rng, folder, _torch({"w": tensor}), ".pt"), "a tensor of 2^32 equal numbers", "refuse"
        )
    members = {"archive/data.pkl": bytes(400_000_000), "archive/version": b"3"}
    return _case(_file(rng, folder, _zip(members), ".pt"), "a zip bomb", "refuse")


def _no_file(rng: Random, folder: Path) -> Case:
    path = folder / f"{rng.choice((*ESCAPES, 'model'))}{rng.choice(('.pt', '.safetensors'))}".replace(
        "/", "_"
    )
    what = rng.choice(("gone", "folder", "pipe", "zero", "loop", "tty"))
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what != "gone":
        path.symlink_to({"zero": "/dev/zero", "loop": path.name, "tty": "/dev/tty"}[what])
    return _case(path, what, "refuse")


def _same_storage(rng: Random, folder: Path) -> Case:
    """Valid in a rarer way: old format, views of one storage, saved on another device."""
    weights = state()
    path = folder / "model.pt"
    how = rng.choice(("old format", "views", "parameters", "safetensors with metadata"))
    if how == "views":
        flat = torch.cat([tensor.flatten().float() for tensor in weights.values()])
        ends, views = 0, {}
        for name, tensor in weights.items():
            views[name] = flat[ends : ends + tensor.numel()].view(tensor.shape)
            ends += tensor.numel()
        torch.save(views, path)
    elif how == "safetensors with metadata":
        path = folder / "model.safetensors"
        save_file(weights, path, {"format": "pt", "note": "\x1b[2J"})
    else:
        content = {n: nn.Parameter(t) if t.is_floating_point() else t for n, t in weights.items()}
        torch.save(
            content if how == "parameters" else weights,
            path,
            _use_new_zipfile_serialization=how != "old format",
        )
    return _case(path, how, "right")


TWISTS: tuple[Callable[[Random, Path], Case], ...] = (
    *[_valid] * 3,
    _prefixed,
    _dtypes,
    *[_other_names] * 3,
    _not_finite,
    *[_damaged] * 4,
    *[_misnamed] * 1,
    *[_other_files] * 3,
    *[_pickles] * 2,
    *[_contents] * 3,
    *[_headers] * 2,
    _huge,
    *[_no_file] * 2,
    _same_storage,
)
