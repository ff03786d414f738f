"""The files of a model's owner, and the command `theriac heal` on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from theriac.datasets.views import View
from theriac.search.sweep.scenario import Scenario
from theriac.search.sweep.victim_bench import Experiment
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe

WIDTH = "0.125"
SHAPE = (1, 16, 16)
SCENARIO = Scenario(
    dataset="digits",
    model=ModelSpec(width=float(WIDTH)),
    manipulated=100,
    recipe=Recipe(iterations=40, batch_size=128, learning_rate=0.05, augmentation="none"),
)


@dataclass(frozen=True)
class Case:
    """A victim and the files its owner has: weights, found poison and the rest, grey digits."""

    experiment: Experiment
    weights: Path
    forget: Path
    retain: Path

    def options(self, **changes: object) -> list[str]:
        settings: dict[str, object] = {
            "weights": self.weights,
            "forget": self.forget,
            "retain": self.retain,
            "width": WIDTH,
            "channels": 1,
            "mean": self.experiment.data.dataset.mean[0],
            "std": self.experiment.data.dataset.std[0],
            **changes,
        }
        return ["heal", *(word for k, v in settings.items() for word in (f"--{k.replace('_', '-')}", str(v)))]


def write_folders(view: View, labels: Tensor, folder: Path) -> Path:
    for number, label in enumerate(labels.tolist()):
        place = folder / str(label) / f"{number:04}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        to_pil_image(view.pixels(torch.tensor([number]))[0]).save(place)
    return folder


def write_parquet(folders: Path, path: Path) -> Path:
    files = sorted(folders.glob("*/*.png"))
    rows = {
        "image": [file.read_bytes() for file in files],
        "label": pa.array([int(file.parent.name) for file in files], pa.int8()),
    }
    names = json.dumps([str(digit) for digit in range(10)])
    pq.write_table(pa.table(rows).replace_schema_metadata({"classes": names}), path)
    return path
