"""What a sweep asks of its datasets, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ...datasets.poisoning import check_poisoning
from ...datasets.sources import LabelCounts, labels_of
from ...errors import BadInput
from ...unlearning.models import ModelSpec, create_model
from .files import Sweep, load_sweep
from .scenario import Scenario


def checked_sweep(name_or_path: str | Path, overrides: Sequence[str], root: Path | None) -> Sweep:
    """Read a sweep as `load_sweep` does, and check it against its datasets.

    Args:
        name_or_path: of a preset, or of a YAML file.
        overrides: ``dotted.path=value`` each, in order.
        root: folder of the datasets; None: the default one.

    Raises:
        BadInput: as `load_sweep` and `check_data`.
    """
    sweep = load_sweep(name_or_path, overrides)
    check_data(sweep, root)
    return sweep


def check_data(sweep: Sweep, root: Path | None) -> None:
    """Refuse what the datasets of a sweep rule out.

    That is targets that are no classes, more poison or held back images than there are, and images of a size
    that a trigger or a model cannot take. A dataset that is not on this machine is taken to be as it was
    published.

    Args:
        sweep: any.
        root: the folder of the datasets, see `load_dataset`.

    Raises:
        BadInput: names the scenario's value and what the dataset has.
    """
    scenarios = {task.scenario.key: task.scenario for task in sweep.tasks()}.values()
    found = {key: labels_of(key[0], root=root, image_size=key[1]) for key in map(_images, scenarios)}
    for scenario in {_asked(one): one for one in scenarios}.values():
        with _naming(scenario):
            check_poisoning(
                found[_images(scenario)], scenario.attack, scenario.manipulated, scenario.held_back
            )
    for scenario in {(*_images(one), one.model): one for one in scenarios}.values():
        with _naming(scenario):
            _check_model(scenario.model, found[_images(scenario)])


@contextmanager
def _naming(scenario: Scenario) -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{scenario.dataset}: {error}") from error


def _check_model(spec: ModelSpec, images: LabelCounts) -> None:
    """Send one image through a model without values, which takes no memory; only a refusal is tried again."""
    if images.shape is None:
        return
    try:
        with torch.device("meta"):
            create_model(spec, num_classes=images.classes, shape=images.shape)
    except BadInput as error:
        if "meta" not in str(error):  # else it got as far as looking at values
            create_model(spec, num_classes=images.classes, shape=images.shape)


def _images(scenario: Scenario) -> tuple[str, int | None]:
    return scenario.dataset, scenario.image_size


def _asked(scenario: Scenario) -> tuple[object, ...]:
    return *_images(scenario), scenario.attack, scenario.manipulated, scenario.held_back
