"""What a user's data yield, a sample or a batch, as images and labels."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import BadInput
from ...unlearning.inference import Batch, first_line

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "x", "input", "inputs")
LABEL_KEYS = ("label", "labels", "y", "target", "targets")
"""How the two columns are called that hold images and labels, where data have names for them."""

_TRANSFORM = "transform them as in training (ToTensor, Normalize)"


def as_pair(item: Any, name: str) -> Batch:
    """Return images and labels, int64, of one sample (label []) or a batch (labels [N]).

    Args:
        item: (image, label), or a mapping with one of `IMAGE_KEYS` and one of `LABEL_KEYS`.
        name: what the data are called in error messages.

    Raises:
        BadInput: there are not two parts, or they are no images and no class numbers.
    """
    x, y = _parts(item, name)
    image, label = as_images(x, name), as_labels(y, name)
    if label.ndim == 2 and label.shape[1] == 1:
        label = label[:, 0]
    if label.ndim == 1 and len(label) == 1 and not is_batch(image, label, name):
        label = label[0]
    return image, label


def is_batch(x: Tensor, y: Tensor, name: str) -> bool:
    """Tell whether labels are those of a batch and not that of a sample.

    Raises:
        BadInput: that cannot be told, such as of [1, 28, 28] with [1]; or labels that are neither.
    """
    if y.ndim == 0:
        return False
    fits = x.ndim > 1 and y.ndim == 1 and len(x) == len(y)
    if fits and (x.ndim != 3 or (len(y) > 1 and not _one_hot(y))):
        return True
    if not fits and y.shape == (1,):
        return False
    hint = "take argmax of one-hot labels" if _one_hot(y) else "one of each image"
    raise BadInput(
        f"{name}: an image {tuple(x.shape)} comes with labels {tuple(y.shape)}; give class numbers, int64 [] "
        f"for an image and [N] for N of them: {hint}"
    )


def check_batch_of(x: Tensor, y: Tensor, name: str) -> Batch:
    """Return the batch, if it has one label an image.

    Raises:
        BadInput: it has not.
    """
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y):
        hint = "; take argmax(1) of one-hot labels" if y.ndim == 2 else ""
        raise BadInput(
            f"{name}: images {tuple(x.shape)} with labels {tuple(y.shape)}; give [N, ...] and [N]{hint}"
        )
    return x, y


def as_images(x: Any, name: str) -> Tensor:
    """Return images as a plain dense tensor that no gradient flows to.

    Raises:
        BadInput: they are something else, such as PIL images or file names.
    """
    if isinstance(x, np.ndarray):
        x = _from_array(x, name)
    if isinstance(x, list | tuple) and x and all(isinstance(one, Tensor | np.ndarray) for one in x):
        x = _stacked([as_images(one, name) for one in x], name)
    if not isinstance(x, Tensor):
        raise BadInput(f"{name}: images are {_called(x)}, not tensors; {_TRANSFORM}")
    if x.is_quantized or x.is_nested or x.is_meta or x.is_complex() or not x.ndim:
        kind = "numbers, not images" if not x.ndim else f"{x.dtype} on {x.device}"
        raise BadInput(f"{name}: images are {kind}; give float tensors as the model takes them")
    if x.is_inference():
        x = x.clone()
    return _plain(x if x.layout == torch.strided else x.to_dense())


def _plain(x: Tensor) -> Tensor:
    return x.detach().as_subclass(Tensor)


def as_labels(y: Any, name: str) -> Tensor:
    """Return class numbers, int64, of the shape that they are given in.

    Raises:
        BadInput: they are something else, such as words or floats.
    """
    try:
        labels = _plain(y) if isinstance(y, Tensor) else torch.as_tensor(_numbers(y))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        labels = None
    if labels is None or labels.is_nested or labels.is_meta:
        raise BadInput(
            f"{name}: labels are {_called(y)} ({y!r:.40}); give class numbers as integers, in the order "
            f"of the model's outputs"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        hint = ", argmax(1) of one-hot labels" if labels.ndim == 2 else ""
        raise BadInput(f"{name}: labels are {labels.dtype}; give class numbers as integers{hint}")
    return (labels.clone() if labels.is_inference() else labels).to(torch.int64)


def as_columns(data: Any, name: str) -> tuple[Any, Any] | None:
    """Return images and labels where a set comes as two columns, or as one sample; else None."""
    if isinstance(data, Mapping):
        x, y = _by_name(data, name)
        return _one_sample(x, y) if _is_sample(x, y) else (x, y)
    if not isinstance(data, tuple | list) or len(data) != 2:
        return None
    x, y = data
    if _is_sample(x, y):
        return _one_sample(x, y)
    arrays = isinstance(x, Tensor | np.ndarray) and isinstance(y, Tensor | np.ndarray)
    rows = arrays and (y.ndim == 1 or (y.ndim == 2 and x.ndim != 2))
    return (x, y) if rows or _listed(x, y) else None


def _is_sample(x: Any, y: Any) -> bool:
    """Tell whether x and y are one image and its label."""
    return _is_number(y) and isinstance(x, Tensor | np.ndarray) and x.ndim > 0


def _one_sample(x: Any, y: Any) -> tuple[Any, Any]:
    """Return a set of one; images have up to three axes, a fourth counts them."""
    return (x if x.ndim > 3 else x[None]), (y[None] if isinstance(y, Tensor) else [y])


def _listed(x: Any, y: Any) -> bool:
    """Tell whether x and y are images and a list of their labels."""
    if not _is_column(x) or not _is_column(y):
        return False
    scalar = all(_is_number(one) or isinstance(one, str) for one in y)
    image = len(x) > 0 and (not isinstance(x, list | tuple) or not _is_number(x[0]))
    return scalar and image and len(x) == len(y) and len(y) > 0 and not isinstance(x, str)


def _is_column(value: Any) -> bool:
    return isinstance(value, list | tuple | Tensor | np.ndarray) and not _is_number(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0
    return isinstance(value, numbers.Number | np.generic)


def _parts(item: Any, name: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        return _by_name(item, name)
    fields = getattr(item, "_fields", ())
    if fields and set(fields) & set(IMAGE_KEYS) and set(fields) & set(LABEL_KEYS):
        return _by_name(item._asdict(), name)
    if not isinstance(item, tuple | list) or len(item) != 2:
        parts = f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__
        raise BadInput(f"{name}: yields {parts} instead of (x, y); give images with labels, and nothing else")
    x, y = item
    if _is_number(x) and isinstance(y, Tensor | np.ndarray) and y.ndim > 1:
        raise BadInput(f"{name}: yields (label, image); give (image, label)")
    return x, y


def _by_name(item: Mapping[Any, Any], name: str) -> tuple[Any, Any]:
    """Return the two columns, if there is one of each."""
    found = [[key for key in keys if key in item] for keys in (IMAGE_KEYS, LABEL_KEYS)]
    if [len(keys) for keys in found] != [1, 1]:
        there = ", ".join(map(repr, list(item)[:8])) or "nothing"
        raise BadInput(
            f"{name}: of the columns {there} it cannot be told which holds the images and which the labels; "
            f"give (image, label), or call them 'image' and 'label'"
        )
    (image,), (label,) = found
    return item[image], item[label]


def _from_array(x: np.ndarray, name: str) -> Tensor:
    try:
        native = np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
        return torch.from_numpy(native if native is not x and native.flags.writeable else native.copy())
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{name}: images are an array of {x.dtype} ({first_line(error)}); give float arrays [N, "
            f"channels, height, width]"
        ) from error


def _stacked(images: Sequence[Tensor], name: str) -> Tensor:
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise BadInput(f"{name}: images of mixed size {sorted(shapes)[:2]}; resize them to one size")
    return torch.stack(list(images))


def stacked(pairs: Sequence[Batch], name: str) -> Batch:
    """Stack samples to one batch."""
    return _stacked([x for x, _ in pairs], name), torch.stack([y for _, y in pairs])


def _numbers(y: Any) -> Any:
    """Return labels as `torch.as_tensor` takes them, without a detour over floats or a loss of bits."""
    if isinstance(y, np.ndarray):
        return y.astype(np.int64) if y.dtype.kind in "iu" else y
    if isinstance(y, np.generic):
        return _numbers(np.asarray(y))
    if isinstance(y, list | tuple) and any(isinstance(one, np.generic | np.ndarray) for one in y):
        return _numbers(np.asarray(y))
    return y


def _one_hot(y: Tensor) -> bool:
    return y.ndim == 1 and len(y) > 1 and int((y == 1).sum()) == 1 and int((y == 0).sum()) == len(y) - 1


def _called(value: Any) -> str:
    """Say what it is, in a word or two."""
    kind = type(value)
    if kind.__module__.split(".")[0] == "PIL":
        return "PIL images"
    inner = next(_inside(value), None)
    return f"{kind.__name__} of {type(inner).__name__}" if inner is not None else kind.__name__


def _inside(value: Any) -> Iterator[Any]:
    return iter(value) if isinstance(value, list | tuple) else iter(())
