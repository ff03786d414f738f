"""A module of a user's own, as tests write it: a trigger, a model and a dataset."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from theriac.datasets import own_code

CODE = '''
"""Parts of my own."""

from torch import nn

from theriac.datasets.sources import load_dataset
from theriac.datasets.triggers import Trigger


class Corner(Trigger):
    """A bright square in the upper left corner."""

    name: str = "corner"
    size: int = 2

    def _add(self, images, index):
        images = images.clone()
        images[:, :, : self.size, : self.size] = 1.0
        return images


def net(num_classes, shape):
    """A convolution and a layer."""
    first = nn.Conv2d(shape[0], 4, 3, padding=1)
    last = nn.Linear(4 * shape[1] * shape[2], num_classes)
    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), last)


def few(root, image_size):
    """The digits, under another name."""
    return load_dataset("digits", image_size=image_size)


def failing(**given):
    """Something that goes wrong."""
    return {}["missing"]


def nothing(**given):
    """No part at all."""
    return 3
'''


def written(folder: Path, module: str, code: str = CODE) -> Path:
    """The module as a file."""
    file = folder / f"{module}.py"
    file.write_text(code)
    return file


@contextmanager
def in_use(folder: Path, module: str = "my_parts", code: str = CODE) -> Iterator[str]:
    """The name of a module that is in use inside the block, and forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_code, "_USED", {})
        own_code.use_code(written(folder, module, code))
        try:
            yield module
        finally:
            forget(module)


def forget(module: str) -> None:
    """Take a module out of Python."""
    for name in [one for one in sys.modules if one.partition(".")[0] == module]:
        del sys.modules[name]
    sys.meta_path[:] = [one for one in sys.meta_path if module not in getattr(one, "_paths", {})]
