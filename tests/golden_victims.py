"""The two published victims of I-BAU and CIFAR-10's test split, where they lie beside the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.sources.names import load_dataset
from theriac.datasets.views import View, plain_view, seeded_generator
from theriac.unlearning.inference import predict
from theriac.unlearning.metrics import accuracy, attack_success_rate, healed_raw, label_flip_rates
from theriac.unlearning.models.small_vgg import SmallVGG

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
FOLDER = SHARED / "golden" / "ibau_victims"
TARGETS = {"badnets_8_02": 8, "l2_inv_0_02": 0}
HERE = FOLDER.is_dir() and (SHARED / "data" / "cifar10").is_dir()


def victim(name: str) -> nn.Module:
    """A published small VGG in eval mode."""
    model = SmallVGG(num_classes=10, shape=(3, 32, 32))
    model.load_state_dict(load_file(FOLDER / f"{name}.safetensors"))
    return model.eval()


def triggered(name: str, images: Tensor) -> Tensor:
    """uint8 [N, 3, 32, 32] with the victim's trigger."""
    if name == "badnets_8_02":
        images = images.clone()
        images[..., 27:31, 27:31] = 255
        return images
    pattern = torch.from_numpy(np.array(Image.open(FOLDER / "l2_inv.png"))).permute(2, 0, 1)
    return (images.int() + pattern.int()).clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Halves:
    """The test split in two: one half to unlearn with, the other to score on.

    Attributes:
        unlearning: 5000 images under their true labels; `first` takes fewer.
        scored: 5000 others, as they are.
    """

    unlearning: View
    scored: View

    def first(self, count: int) -> View:
        """The first ``count`` images of the unlearning half."""
        return self.unlearning.select(torch.arange(count))

    def truth(self, model: nn.Module, name: str, count: int = 5000) -> dict[str, object]:
        """clean_accuracy, asr, healed_raw and lfr on the first ``count`` scored images."""
        part = self.scored.select(torch.arange(count))
        images = part.source.images(part.positions)
        source = MemoryImages(pixels=triggered(name, images), labels=part.labels, classes=part.source.classes)
        clean, labels = predict(model, part)
        seen, _ = predict(model, plain_view(source))
        return {
            "clean_accuracy": accuracy(clean, labels),
            "asr": attack_success_rate(seen, labels, torch.full_like(labels, TARGETS[name])),
            "healed_raw": healed_raw(seen, labels),
            "lfr": label_flip_rates(seen, 10),
        }


def halves() -> Halves:
    """By a seeded permutation, so that both halves hold all classes."""
    view = plain_view(load_dataset("cifar10", root=SHARED / "data").test)
    order = torch.randperm(len(view), generator=seeded_generator(0, "ibau halves"))
    middle = len(view) // 2
    return Halves(unlearning=view.select(order[:middle]), scored=view.select(order[middle:]))
