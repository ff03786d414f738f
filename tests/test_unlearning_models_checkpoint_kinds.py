"""What is said about files that are no checkpoints."""

from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from theriac.errors import BadInput
from theriac.unlearning.models.checkpoint_kinds import SAFETENSORS, ZIP, kind_of, zip_problem
from theriac.unlearning.models.checkpoints import load_weights

KINDS = [
    (b"", "an empty file; fetch"),
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
        "a Git LFS pointer .*; run git lfs pull",
    ),
    (b"\n<!DOCTYPE html><html>", "a web page; fetch the file itself"),
    (b"<html>", "a web page"),
    (b"\x93NUMPY\x01\0", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5, as Keras saves it; give the PyTorch weights"),
    (b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model"),
    (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0", "an ONNX model"),
    (b"GGUF\3\0\0\0", "a GGUF model"),
    (gzip.compress(b"weights"), "a compressed file; unpack it"),
    (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
    (b'{"a": 1}', "JSON"),
    (b"weights: none", "text"),
    (bytes(999), "zeros"),
    (b"PAR1" + bytes(99), "a Parquet file"),
    (b"\x89PNG\r\n\x1a\n", "an image"),
    (
        (1 << 40).to_bytes(8, "little") + b'{"a": 1}',
        "a safetensors file whose header claims 1099511627776 bytes",
    ),
    (b"victim.pt" + bytes(248) + b"ustar\x0000" + bytes(99), "a tar archive; unpack it"),
    (b"\xfe\xfd\x01\x02" * 9, "a file of another kind"),
]


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize(("content", "message"), KINDS, ids=[message[:12] for _, message in KINDS])
def test_what_is_no_checkpoint_is_named(content: bytes, message: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for trust in (False, True):
        with pytest.raises(BadInput, match=rf"{name}: not a checkpoint, but ({message})") as error:
            load_weights(tmp_path / name, trust_pickle=trust)
        assert "\n" not in str(error.value)


def test_beginnings_of_checkpoints() -> None:
    assert kind_of((9).to_bytes(8, "little") + b'{"a":{}}')[:2] == (SAFETENSORS, None)
    assert kind_of(b"PK\x03\x04" + bytes(99)) == (ZIP, None)


def zipped(path: Path, names: list[str], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, b"content")
    return path


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "an empty zip archive"),
        (["a/constants.pkl", "a/data.pkl"], "a TorchScript model"),
        (["config.json", "model.weights.h5"], "a Keras model"),
        (["victim.pt"], r"holds victim.pt \(unpack it\)"),
        (["a.txt"], "a zip archive without weights"),
    ],
)
def test_zip_archives_of_others(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"not a checkpoint of PyTorch, but .*{message}"):
        load_weights(zipped(tmp_path / "a.pt", names))


def test_arrays_packed_and_cut_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.zeros(3))
    assert zip_problem(tmp_path / "a.npz") == "NumPy arrays (.npz)"
    packed = zipped(tmp_path / "b.pt", ["a/data.pkl"], zipfile.ZIP_DEFLATED)
    assert "packed again" in str(zip_problem(packed))
    torch.save({"w": torch.ones(999)}, tmp_path / "c.pt")
    assert zip_problem(tmp_path / "c.pt") is None
    with (tmp_path / "c.pt").open("r+b") as file:
        file.truncate(999)
    with pytest.raises(BadInput, match="a zip archive that is cut off or damaged"):
        load_weights(tmp_path / "c.pt")
