"""One table of triggers that all property tests go through, and the pictures that some of them need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from theriac.datasets.triggers import parse_trigger
from theriac.datasets.triggers.base import Trigger


def write_pictures(folder: Path) -> None:
    """dim.png (colour), grey.png, mask.png (grey), cut.png (transparent in places), signed.npy."""
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 70, (6, 7, 3), dtype=np.uint8)).save(folder / "dim.png")
    Image.fromarray(random.integers(0, 256, (20, 30), dtype=np.uint8)).save(folder / "grey.png")
    Image.fromarray(random.integers(0, 2, (6, 7), dtype=np.uint8) * 255).save(folder / "mask.png")
    Image.fromarray(random.integers(0, 256, (9, 9, 4), dtype=np.uint8)).save(folder / "cut.png")
    np.save(folder / "signed.npy", random.uniform(-0.3, 0.3, (8, 8)))


SETTINGS: list[dict[str, Any]] = [
    {"name": "badnets"},
    {"name": "badnets", "size": 2, "value": 0.5, "margin": 1},
    {"name": "moving"},
    {"name": "moving", "size": 5, "value": 0.0, "seed": 7},
    {"name": "sine"},
    {"name": "sine", "frequency": 0.4, "amplitude": 1.0},
    {"name": "blend"},
    {"name": "blend", "alpha": 0.7, "seed": 3},
    {"name": "blend", "file": "grey.png"},
    {"name": "blend", "file": "dim.png", "alpha": 1.0},
    {"name": "additive", "file": "dim.png"},
    {"name": "additive", "file": "dim.png", "scale": -3.0},
    {"name": "additive", "file": "signed.npy", "scale": 2.0},
    {"name": "masked", "file": "cut.png"},
    {"name": "masked", "file": "dim.png", "mask": "mask.png"},
    {"name": "trojan_square"},
    {"name": "trojan_square", "size": 2, "margin": 0, "corner": "top_left", "seed": 1},
    {"name": "trojan_watermark"},
    {"name": "trojan_watermark", "strokes": 1, "ring": 0, "opacity": 0.3, "thickness": 0.2},
    {"name": "l0"},
    {"name": "l0", "pixels": 3, "mode": "add", "amplitude": 0.2, "seed": 2},
    {"name": "l2"},
    {"name": "l2", "norm": 0.5, "seed": 4},
    {"name": "smooth"},
    {"name": "smooth", "cutoff": 2, "amplitude": 1.0, "seed": 5},
    {"name": "wanet"},
    {"name": "wanet", "grid": 7, "strength": 6.0, "seed": 6},
    {"name": "semantic"},
    {"name": "semantic", "cutoff": 3, "seed": 8},
    {"name": "semantic", "file": "grey.png"},
]


def _builder(settings: dict[str, Any]) -> Callable[[Path], Trigger]:
    def build(folder: Path) -> Trigger:
        files: dict[str, Any] = {
            key: str(folder / settings[key]) for key in ("file", "mask") if key in settings
        }
        return parse_trigger({**settings, **files})

    return build


TABLE = {" ".join(str(value) for value in settings.values()): _builder(settings) for settings in SETTINGS}
"""What it is -> the trigger, given the folder that holds the pictures."""
