"""Architectures by name: ours, and every model that timm knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from ...datasets.own_code import call_part, is_own
from ...errors import BadInput
from ..inference import check_logits, evaluating, first_line
from .checkpoints import load_into, load_weights
from .preact_resnet import WIDTHS as PREACT_WIDTHS, PreActResNet18
from .resnet9 import ResNet9, scaled_widths
from .small_vgg import WIDTHS as VGG_WIDTHS, SmallVGG
from .wide_resnet import WIDTHS as WIDE_WIDTHS, WideResNet28

__all__ = ["MODELS", "ModelSpec", "create_model", "load_into", "load_weights", "seeded"]


class ModelSpec(BaseModel):
    """An architecture.

    Attributes:
        name: a name of `MODELS`, or any name of ``timm.list_models()``; without the tag of pretrained weights
            (``vit_tiny_patch16_224.augreg_in21k``), which are not loaded; or a part of the user's own
            (`theriac.datasets.own_code`), which is called with ``num_classes`` and ``shape``.
        width: factor on the channels of our own architectures; others have fixed widths.

    Example:
        >>> from theriac.unlearning.models import ModelSpec
        >>> ModelSpec(name="resnet9", width=0.5)
        ModelSpec(name='resnet9', width=0.5)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "resnet9"
    width: float = Field(default=1.0, gt=0, le=16)

    @field_validator("name")
    @classmethod
    def _untagged(cls, value: str) -> str:
        if is_own(value, "models"):
            return value
        architecture, dot, tag = value.removeprefix("timm/").partition(".")
        if dot:
            raise BadInput(
                f"model {value!r} names pretrained weights (.{tag}), which theriac does not load; give the "
                f"architecture alone, {architecture!r}, and your own weights"
            )
        return value


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Start the global random state from ``seed`` inside the block; it is as before afterwards.

    The state of the CPU is meant, and of ``device`` if it is a CUDA device; no other device is touched.

    Args:
        seed: of the random state.
        device: of the model.
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


def _own_model(spec: ModelSpec, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    if spec.width != 1.0:
        raise BadInput(f"model {spec.name}: width {spec.width}: it has none; leave it out")
    model = call_part(spec.name, "models", num_classes=num_classes, shape=shape)
    if not isinstance(model, nn.Module):
        raise BadInput(f"model {spec.name}: it gave {type(model).__name__}; make it return an nn.Module")
    return model


MODELS: dict[str, Callable[[ModelSpec, int, tuple[int, int, int]], nn.Module]] = {
    "resnet9": _resnet9,
    "small_vgg": _small_vgg,
    "preact_resnet18": _preact_resnet18,
    "wrn28_10": _wrn28_10,
}


def create_model(
    spec: ModelSpec, *, num_classes: int, shape: tuple[int, int, int], seed: int = 0
) -> nn.Module:
    """Create a freshly initialised model on the CPU; the global random state is left as it was.

    Args:
        spec: which architecture.
        num_classes: logits per image.
        shape: (channels, height, width) of the images.
        seed: determines the initial weights.

    Raises:
        BadInput: unknown name, a width given for a timm model, or images that the model cannot take.

    Example:
        >>> import torch
        >>> spec = ModelSpec(name="resnet9", width=0.1)
        >>> model = create_model(spec, num_classes=10, shape=(3, 32, 32)).eval()
        >>> tuple(model(torch.zeros(2, 3, 32, 32)).shape)
        (2, 10)
    """
    with seeded(seed, torch.device("cpu")):
        build = MODELS.get(spec.name, _own_model if is_own(spec.name, "models") else _timm_model)
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
    """Try one image: some models find out only in the forward pass what they cannot take."""
    with torch.no_grad(), evaluating(model):
        logits = check_logits(model(torch.zeros(1, *shape)), 1)
    if logits.shape[1] != num_classes:
        raise BadInput(
            f"the model returns {logits.shape[1]} logits instead of {num_classes}; choose another model"
        )
