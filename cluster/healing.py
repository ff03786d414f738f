"""`theriac heal`: from files to a healed model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..datasets.decoding import in_memory
from ..datasets.images import ImageSource
from ..datasets.local import load_images
from ..datasets.views import View
from ..errors import BadInput
from ..search.heal import Healing, heal
from ..search.operation import Progress
from ..search.settings import HealSettings
from ..unlearning.models import ModelSpec, create_model, load_into, load_weights


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How stored images become what the model was trained on.

    Attributes:
        image_size: side in pixels; None: as stored.
        channels: 1 or 3.
        mean: per channel, of images in [0, 1]; one number counts for all channels.
        std: per channel; likewise.
    """

    image_size: int | None = None
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise BadInput(f"channels {self.channels}: images have 1 (grey) or 3 (RGB)")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise BadInput(f"{name} {values}: give one number, or {self.channels}")
        if min(self.std) <= 0:
            raise BadInput(f"std {self.std}: give numbers above 0")


@dataclass(frozen=True, kw_only=True)
class HealRequest:
    """Everything `theriac heal` is told.

    Attributes:
        weights: safetensors file or checkpoint.
        model: architecture.
        forget: found poison, under the labels it was trained with.
        retain: the rest of the training set.
        preprocessing: as in training.
        settings: of the healing.
        num_classes: logits of the model; None: the number of classes in ``retain``.
        device: "auto", "cpu", "cuda", ...
        trust_pickle: read checkpoints that run code.
    """

    weights: Path
    model: ModelSpec
    forget: Path
    retain: Path
    preprocessing: Preprocessing
    settings: HealSettings
    num_classes: int | None = None
    device: str = "auto"
    trust_pickle: bool = False

    def run(self, progress: Progress) -> Healing:
        """Load, heal, return.

        Raises:
            BadInput: anything among the files or settings that cannot be used.
        """
        device = choose_device(self.device)
        weights = load_weights(self.weights, trust_pickle=self.trust_pickle)
        retain = self._load(self.retain, None)
        forget = self._load(self.forget, retain.classes)
        model = create_model(
            self.model, num_classes=self.num_classes or len(retain.classes), shape=retain.shape
        )
        load_into(model, weights, self.weights)
        return heal(
            model.to(device).eval(),
            forget=self._view(forget, device),
            retain=self._view(retain, device),
            progress=progress,
            **self.settings.model_dump(),
        )

    def _load(self, path: Path, classes: tuple[str, ...] | None) -> ImageSource:
        options = self.preprocessing
        source = load_images(path, classes=classes, image_size=options.image_size, channels=options.channels)
        return in_memory(source)

    def _view(self, source: ImageSource, device: torch.device) -> View:
        channels = self.preprocessing.channels
        return View(
            source=source,
            positions=torch.arange(len(source)),
            labels=source.labels,
            triggered=torch.zeros(len(source), dtype=torch.bool),
            trigger=None,
            mean=_per_channel(self.preprocessing.mean, channels),
            std=_per_channel(self.preprocessing.std, channels),
            device=device,
        )


def choose_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is the GPU if there is one.

    Raises:
        BadInput: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"unknown device {name!r}; give auto, cpu, cuda, or cuda:0 and so on") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"device {name!r}: PyTorch sees {torch.cuda.device_count()} CUDA GPUs; give --device cpu, or "
            f"see what `theriac doctor` says about the driver"
        )
    return device


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values
