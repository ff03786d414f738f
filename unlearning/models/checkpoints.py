"""Checkpoints: state dicts from the files that people have, and their way into a model."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...datasets.file_checks import check_file, read_head
from ...errors import BadInput
from ..inference import first_line
from .checkpoint_kinds import SAFETENSORS, ZIP, kind_of, zip_problem

log = logging.getLogger(__name__)

MOST_CHECKPOINT_BYTES = 64 << 30
"""Largest checkpoint."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
_REMEDY = "give a .safetensors file or a torch.save checkpoint"
_SAVE = "save the state dict (torch.save(model.state_dict(), ...) or safetensors)"
_INSIDE = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
"""Under which keys of a checkpoint the weights are looked for, the first that there is."""
_AVERAGED = ("ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema_model", "averaged_model")
"""Where averaged weights are; taken where there are no others."""
_PLAIN: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [(SimpleNamespace, "argparse.Namespace")]
"""What training programs put beside the weights, read as what holds values and does nothing."""
_MOST_NESTED = 4
_SHOWN = 300
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
_FOREIGN = re.compile(r"Unsupported (?:global|class|operand|operation):?\s*(?:GLOBAL\s+)?([\w.]+)")


def load_weights(path: str | Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Load a state dict from a safetensors file or a checkpoint of ``torch.save``, whatever its name.

    Checkpoints are read with ``weights_only=True``. One that holds the state dict under a usual key, such as
    ``state_dict``, ``model_state_dict``, ``model`` or ``ema``, is unpacked; what DataParallel and
    torch.compile put before every name (`WRAPPERS`) is dropped. `load_into` drops other prefixes.

    Args:
        path: the file.
        trust_pickle: also read checkpoints that run code when they are loaded.

    Raises:
        BadInput: no such file, something else than a checkpoint (it says what), unreadable, a pickle without
            ``trust_pickle``, or no state dict inside.
    """
    path = Path(path)
    kind = _checked_kind(path)
    raw = _read_safetensors(path) if kind == SAFETENSORS else _read_checkpoint(path, trust_pickle)
    return _unwrapped(_state_dict(raw, path))


def _checked_kind(path: Path) -> str:
    """Return what `kind_of` and `zip_problem` say the file is, if that can be a checkpoint."""
    if not os.path.exists(path):
        raise BadInput(f"weights {path}: no such file; {_REMEDY}")
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES)
        hint = f"the file in it, such as {path / inside[0]}" if inside else _REMEDY.removeprefix("give ")
        raise BadInput(f"weights {path}: it is a folder, not a checkpoint; give {hint}")
    check_file(path, "weights", remedy=_REMEDY, most_bytes=MOST_CHECKPOINT_BYTES)
    kind, remedy = kind_of(read_head(path, 1024))
    if remedy is not None:
        raise BadInput(f"weights {path}: not a checkpoint, but {kind}; {remedy}")
    problem = zip_problem(path) if kind == ZIP else None
    if problem is not None:
        raise BadInput(f"weights {path}: not a checkpoint of PyTorch, but {problem}; {_REMEDY}")
    return kind


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError, ValueError, LookupError, TypeError, MemoryError) as error:
        raise BadInput(
            f"weights {path}: not a readable safetensors file ({first_line(error)}); save it again"
        ) from error


def _read_checkpoint(path: Path, trust_pickle: bool) -> object:
    try:
        # opened here: by its name torch would choose a reader of its own
        with path.open("rb") as file, torch.serialization.safe_globals(_PLAIN):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        foreign = _FOREIGN.search(str(error))
        if foreign is None and "Weights only load failed" not in str(error):
            raise _damaged(path, error) from error
        if not trust_pickle:
            held = f"it holds {foreign[1]}, a Python object" if foreign else "it holds Python objects"
            raise BadInput(
                f"weights {path}: cannot be read as plain tensors ({held}); {_SAVE}. If it is a pickle whose "
                f"author you trust to run code on this machine, give --trust-pickle (trust_pickle=True)"
            ) from error
    try:
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=False)  # behind trust_pickle alone
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(
        f"weights {path}: cannot be read ({first_line(error)}); the file is damaged, not a checkpoint of "
        f"torch.save, or needs a package that is not installed: fetch or save it again"
    )


def _state_dict(raw: object, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what a checkpoint holds, at most `_MOST_NESTED` mappings deep."""
    whole = raw
    for _ in range(_MOST_NESTED):
        if isinstance(raw, nn.Module):
            raw = raw.state_dict()
        if not isinstance(raw, Mapping) or _is_state_dict(raw):
            break
        raw = _inside(raw, path)
    if not isinstance(raw, Mapping) or not _is_state_dict(raw):
        raise BadInput(f"weights {path}: holds no state dict (name -> tensor); {_told(whole)}{_SAVE}")
    return {str(name): tensor for name, tensor in raw.items()}


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(one, Tensor) for one in value.values())
    )


def _inside(raw: Mapping[Any, Any], path: Path) -> object:
    """Return what a mapping that is no state dict holds as one, or as the next mapping to look into."""
    found = [key for key in (*_INSIDE, *_AVERAGED) if isinstance(raw.get(key), Mapping | nn.Module)]
    if not found:
        return _only_one(raw, path)
    averaged = [key for key in _AVERAGED if key in found]
    if averaged and found[0] not in averaged:
        log.warning(
            f"weights {path}: {found[0]!r} is taken; the averaged weights under {averaged[0]!r} are not: if "
            f"they are what you use, save them alone"
        )
    return raw[found[0]]


def _only_one(raw: Mapping[Any, Any], path: Path) -> object:
    """Return the only state dict under an unusual key, else the only mapping."""
    inner = {key: value for key, value in raw.items() if isinstance(value, Mapping | nn.Module)}
    weights = {key: value for key, value in inner.items() if _is_state_dict(value)} or inner
    if len(weights) > 1:
        names = ", ".join(map(repr, list(weights)[:4]))
        raise BadInput(
            f"weights {path}: holds several mappings ({names}); save the state dict of the model alone"
        )
    return next(iter(weights.values()), None)


def _told(raw: object) -> str:
    """Tell what is there instead, for the message."""
    if not isinstance(raw, Mapping):
        return ""
    odd = next((key for key, value in raw.items() if not isinstance(value, Tensor)), None)
    return "" if odd is None else f"{str(odd)!r:.60} is {type(raw[odd]).__name__}; "


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in weights)), ""):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def load_into(model: nn.Module, weights: Mapping[str, Tensor], origin: str | Path) -> None:
    """Put ``weights`` into ``model``; every name and shape must match.

    A prefix under which all names of the model are there (``model.``, ``backbone.net.``) is dropped. What
    such a checkpoint holds beside it, of a loss function say, is left out, and said in a warning.

    Args:
        model: is changed.
        weights: a state dict.
        origin: where they are from, for messages.

    Raises:
        BadInput: names the first missing, unexpected or misshapen entries, entries without values, or
            integers (a quantised model) where the model has floating-point numbers.
    """
    weights = _without_prefix(model.state_dict(), weights, origin)
    _check_values(model.state_dict(), weights, origin)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        shown = " ".join(line if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..." for line in lines)
        raise BadInput(
            f"weights {origin} do not fit {type(model).__name__}: {shown.rstrip('.')}"
            f"{_likely(model.state_dict(), weights)}; check the model name, its width, the number of classes "
            f"and of channels and the image size"
        ) from error


def _without_prefix(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], origin: str | Path
) -> Mapping[str, Tensor]:
    if not own or own.keys() <= weights.keys():
        return weights
    first = next(iter(own))
    prefixes = [name.removesuffix(first) for name in weights if name.endswith(f".{first}")]
    prefixes = [prefix for prefix in prefixes if all(prefix + name in weights for name in own)]
    if not prefixes:
        return weights
    if len(prefixes) > 1:
        raise BadInput(
            f"weights {origin} hold several models of this kind, under {' and '.join(prefixes[:3])}; save "
            f"the one that you use alone"
        )
    inside = {
        name.removeprefix(prefixes[0]): weights[name] for name in weights if name.startswith(prefixes[0])
    }
    others = [name for name in weights if not name.startswith(prefixes[0])]
    if others:
        log.warning(
            f"weights {origin}: only what begins with {prefixes[0]} is taken; {len(others)} others are left "
            f"out, such as {others[0]}"
        )
    return inside


def _check_values(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], origin: str | Path) -> None:
    for name in own.keys() & weights.keys():
        given, wanted = weights[name], own[name]
        if given.is_meta or given.layout != torch.strided:
            reason = "has no values (a meta tensor)" if given.is_meta else f"is {given.layout}"
            raise BadInput(f"weights {origin}: {name} {reason}; save the state dict with dense values")
        if wanted.is_floating_point() and not given.is_floating_point():
            raise BadInput(
                f"weights {origin}: {name} is {given.dtype}, but the model has {wanted.dtype}; give weights "
                f"that are not quantised"
            )


def _likely(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """Tell what misshapen entries say about the reason, if they agree."""
    pairs = {
        (tuple(weights[name].shape), tuple(wanted.shape))
        for name, wanted in own.items()
        if name in weights and weights[name].shape != wanted.shape
    }
    if own.keys() != weights.keys() or any(len(given) != len(wanted) for given, wanted in pairs):
        return ""
    if not 1 <= len(pairs) <= 2 or max(len(given) for given, _ in pairs) < 2:
        return ""
    return _told_apart(pairs, 0, "classes", "--num-classes, --classes") or _told_apart(
        pairs, 1, "channels", "--channels"
    )


def _told_apart(pairs: Iterable[tuple[Any, Any]], axis: int, what: str, option: str) -> str:
    numbers = set()
    for given, wanted in pairs:
        if len(given) <= axis or given[:axis] != wanted[:axis] or given[axis + 1 :] != wanted[axis + 1 :]:
            return ""
        numbers.add((given[axis], wanted[axis]))
    if len(numbers) != 1:
        return ""
    given, wanted = numbers.pop()
    return f"; the number of {what} is {given} in the checkpoint and {wanted} in the data ({option})"
