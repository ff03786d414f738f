"""What a file that is given as a checkpoint is, by its first bytes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

SAFETENSORS, ZIP, LEGACY = "safetensors", "zip archive", "torch.save before 1.6"
MOST_HEADER_BYTES = 100_000_000
"""Largest header of a safetensors file; the format's own bound."""
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_FETCH = "fetch the file itself"
_EXPORT = "give the PyTorch weights that it was made from (a .safetensors file or a torch.save checkpoint)"
_UNPACK = "unpack it and give the checkpoint inside"
_OTHER = "give a .safetensors file or a torch.save checkpoint"
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer (the weights were not fetched)", "run git lfs pull"),
    (rb"\s*<(!doctype|html|head|body|\?xml|!--)", "a web page", f"{_FETCH}, not the page about it"),
    (rb"\x93NUMPY", "a NumPy array", _OTHER),
    (rb"\x89HDF\r\n", "HDF5, as Keras saves it", _EXPORT),
    (rb"....TFL3", "a TensorFlow Lite model", _EXPORT),
    (rb"GGUF|ggml|lmgg", "a GGUF model", _EXPORT),
    (rb"\x08[\x01-\x14][\x12\x1a\x22\x2a\x3a\x42]", "an ONNX model", _EXPORT),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a compressed file", _UNPACK),
    (rb"PAR1", "a Parquet file", _OTHER),
    (rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP", "an image", _OTHER),
    (rb"%PDF", "a PDF document", _OTHER),
    (rb"\s*[{\[]", "JSON", _OTHER),
    (rb"\x00{64}", "zeros (a download that was not finished)", f"{_FETCH} again"),
)
_PATTERNS = tuple((re.compile(begin, re.DOTALL | re.IGNORECASE), k, r) for begin, k, r in _BEGINNINGS)


def kind_of(head: bytes) -> tuple[str, str | None]:
    """Tell what a file with this beginning is, and the remedy if it can be no checkpoint.

    Args:
        head: the first 1024 bytes, or all if there are fewer.
    """
    if not head:
        return "an empty file", f"{_FETCH} again"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= MOST_HEADER_BYTES:
        return SAFETENSORS, None
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZIP, None
    if head.startswith(_LEGACY):
        return LEGACY, None
    for pattern, kind, remedy in _PATTERNS:
        if pattern.match(head):
            return kind, remedy
    if head[8:9] == b"{":
        return f"a safetensors file whose header claims {length} bytes", f"{_FETCH} again"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "a pickle that torch.save did not write", _OTHER
    if b"ustar" in head[257:265]:
        return "a tar archive", _UNPACK
    return ("text" if _is_text(head) else "a file of another kind"), _OTHER


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r\f\x1b" or byte >= 32 for byte in head)


def zip_problem(path: Path) -> str | None:
    """Tell what a zip archive is if it is none of torch.save; None if it may be one."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries, damaged = archive.infolist(), archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return f"a zip archive that is cut off or damaged ({str(error).splitlines()[0]})"
    if damaged is not None:
        return f"a zip archive that is damaged ({damaged} does not match its checksum)"
    names = [entry.filename for entry in entries]
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript model (save its state_dict())"
    if not any(name.split("/", 1)[-1] == "data.pkl" for name in names):
        return _other_zip(names)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        return "a zip archive that was packed again, with compression"
    return None


def _other_zip(names: list[str]) -> str:
    if not names:
        return "an empty zip archive"
    if all(name.endswith(".npy") for name in names):
        return "NumPy arrays (.npz)"
    if any(name.endswith("model.weights.h5") for name in names):
        return "a Keras model"
    inner = next((name for name in names if name.endswith((".pt", ".pth", ".safetensors", ".bin"))), None)
    return f"a zip archive that holds {inner} (unpack it)" if inner else "a zip archive without weights"
