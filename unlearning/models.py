"""Architectures by name: ours, and every model that timm knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import BadInput
from .inference import check_logits, evaluating, first_line
from .preact_resnet import WIDTHS as PREACT_WIDTHS
from .preact_resnet import PreActResNet18
from .resnet9 import ResNet9, scaled_widths
from .small_vgg import WIDTHS as VGG_WIDTHS
from .small_vgg import SmallVGG
from .wide_resnet import WIDTHS as WIDE_WIDTHS
from .wide_resnet import WideResNet28


class ModelSpec(BaseModel):
    """An architecture.

    Attributes:
        name: a name of `MODELS`, or any name of ``timm.list_models()``.
        width: factor on the channels of our own architectures; timm's have fixed widths.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "resnet9"
    width: float = Field(default=1.0, gt=0, le=16)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global random state starts from ``seed`` inside the block, and is as before afterwards.

    That of the CPU, and of ``device`` if it is a CUDA device; no other device is touched.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every GPU
        for gpu in cuda:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def _resnet9(spec: ModelSpec, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    return ResNet9(num_classes=num_classes, in_channels=shape[0], widths=scaled_widths(spec.width))


def _small_vgg(spec: ModelSpec, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    a, b, c = scaled_widths(spec.width, VGG_WIDTHS)
    return SmallVGG(num_classes=num_classes, shape=shape, widths=(a, b, c))


def _preact_resnet18(spec: ModelSpec, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    a, b, c, d = scaled_widths(spec.width, PREACT_WIDTHS)
    return PreActResNet18(num_classes=num_classes, in_channels=shape[0], widths=(a, b, c, d))


def _wrn28_10(spec: ModelSpec, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    a, b, c, d = scaled_widths(spec.width, WIDE_WIDTHS)
    return WideResNet28(num_classes=num_classes, in_channels=shape[0], widths=(a, b, c, d))


def _timm_model(spec: ModelSpec, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    from .timm_models import create_timm_model  # here, because timm takes a second to import

    return create_timm_model(spec.name, width=spec.width, num_classes=num_classes, shape=shape, others=MODELS)


MODELS: dict[str, Callable[[ModelSpec, int, tuple[int, int, int]], nn.Module]] = {
    "resnet9": _resnet9,
    "small_vgg": _small_vgg,
    "preact_resnet18": _preact_resnet18,
    "wrn28_10": _wrn28_10,
}


def create_model(
    spec: ModelSpec, *, num_classes: int, shape: tuple[int, int, int], seed: int = 0
) -> nn.Module:
    """A freshly initialised model on the CPU; the global random state is left as it was.

    Args:
        spec: which architecture.
        num_classes: logits per image.
        shape: (channels, height, width) of the images.
        seed: determines the initial weights.

    Raises:
        BadInput: unknown name, a width given for a timm model, or images that the model cannot take.
    """
    with seeded(seed, torch.device("cpu")):
        build = MODELS.get(spec.name, _timm_model)
        try:
            model = build(spec, num_classes, shape)
            _try_one_image(model, num_classes, shape)
        except BadInput:
            raise
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise BadInput(
                f"{spec.name} cannot take images of {' x '.join(map(str, shape))} ({first_line(error)}); "
                f"choose another model or image_size"
            ) from error
    return model


def _try_one_image(model: nn.Module, num_classes: int, shape: tuple[int, int, int]) -> None:
    """Some models find out only in the forward pass what they cannot take."""
    with torch.no_grad(), evaluating(model):
        logits = check_logits(model(torch.zeros(1, *shape)), 1)
    if logits.shape[1] != num_classes:
        raise BadInput(
            f"the model returns {logits.shape[1]} logits instead of {num_classes}; choose another model"
        )


def load_weights(path: str | Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """A state dict from a safetensors file or a checkpoint of ``torch.save``.

    Checkpoints are read with ``weights_only=True``. One that holds {"state_dict": ...} or {"model": ...}
    is unpacked; the "module." before every name that DataParallel leaves is dropped.

    Args:
        path: the file.
        trust_pickle: also read checkpoints that run code when they are loaded.

    Raises:
        BadInput: no such file, unreadable, a pickle without ``trust_pickle``, or no state dict inside.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"weights {path}: no such file; give a .safetensors file or a torch.save checkpoint")
    raw = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path, trust_pickle)
    return _as_state_dict(raw, path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"weights {path}: not a readable safetensors file ({error}); save it again") from error


def _read_checkpoint(path: Path, trust_pickle: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if not trust_pickle:
            raise BadInput(
                f"weights {path}: cannot be read as plain tensors ({first_line(error)}); save the "
                f"state dict (torch.save(model.state_dict(), ...) or safetensors). If it is a pickle whose "
                f"author you trust to run code on this machine, give --trust-pickle (trust_pickle=True)"
            ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False)  # behind trust_pickle alone
    except Exception as error:
        raise BadInput(
            f"weights {path}: cannot be read ({first_line(error)}); the file is damaged, no checkpoint of "
            f"torch.save, or needs a package that is not "
            f"installed; save it again as a state dict"
        ) from error


def _as_state_dict(raw: object, path: Path) -> dict[str, Tensor]:
    if isinstance(raw, nn.Module):
        raw = raw.state_dict()
    if isinstance(raw, dict):
        raw = raw.get("state_dict", raw.get("model", raw))
    if isinstance(raw, nn.Module):
        raw = raw.state_dict()
    if not isinstance(raw, dict) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        raise BadInput(f"weights {path}: holds no state dict (name -> tensor); save model.state_dict()")
    prefix = "module." if all(str(name).startswith("module.") for name in raw) else ""
    return {str(name).removeprefix(prefix): tensor for name, tensor in raw.items()}


def load_into(model: nn.Module, weights: dict[str, Tensor], origin: str | Path) -> None:
    """Put ``weights`` into ``model``; every name and shape must match.

    Raises:
        BadInput: names the first missing, unexpected or misshapen entries.
    """
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise BadInput(
            f"weights {origin} do not fit {type(model).__name__}: {' '.join(lines)}; check the model name, "
            f"its width, the number of classes and of channels and the image size"
        ) from error
