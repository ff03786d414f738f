"""`theriac heal`: from files to a healed model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from ...datasets.local import load_images, refuse_splits
from ...datasets.sources import ImageSource, in_memory, on_device, read_class_names
from ...datasets.views import View, plain_view
from ...errors import BadInput, explain_validation
from ...search.dampening_run import Progress
from ...search.heal import Healing, heal
from ...search.settings import heal_settings
from ...search.sweep import override
from ...search.training import TRAINED_METHODS, Parameters, tune_settings
from ...unlearning.models import ModelSpec, create_model, load_into, load_weights
from ..devices import choose_device
from ..options import HealOptions, Preprocessing, Subject


class HealRequest(Subject):
    """Everything `theriac heal` is told.

    Attributes:
        preprocessing: as in training.
        settings: of the healing.
        parameters: hyperparameters of a method that trains.
    """

    preprocessing: Preprocessing
    settings: HealOptions
    parameters: Parameters = Field(default_factory=dict)

    def run(self, progress: Progress) -> Healing:
        """Load model and images, heal the model and return the healing.

        Raises:
            BadInput: anything among the files or settings that cannot be used.
        """
        given = self.settings.given(self.parameters)
        self.check_used(given["method"])
        (tune_settings if given["method"] in TRAINED_METHODS else heal_settings)(
            **given
        )  # before files are read
        device, spec = choose_device(self.device), self._spec()
        classes = None if self.classes is None else read_class_names(self.classes)
        weights = load_weights(self.weights, trust_pickle=self.trust_pickle)
        retain = self._load(self.retain, classes)
        if classes is None:
            refuse_splits(self.retain, retain.classes, [self.forget, *([self.clean] if self.clean else [])])
        _check_retain(retain, self.retain)
        forget = self._load(self.forget, retain.classes)
        clean = self._load(self.clean, retain.classes) if self.clean else None
        _check_outputs(self.num_classes, weights, self.weights)
        model = create_model(spec, num_classes=self.num_classes or len(retain.classes), shape=retain.shape)
        load_into(model, weights, self.weights)
        return heal(
            model.to(device).eval(),
            forget=self._view(in_memory(forget), device),
            retain=self._view(in_memory(retain, progress=partial(progress, "loading")), device),
            clean=None if clean is None else self._view(in_memory(clean), device),
            seed=self.seed if given["method"] in TRAINED_METHODS else None,
            progress=progress,
            **given,
        )

    def _spec(self) -> ModelSpec:
        try:
            return ModelSpec(name=self.model, width=self.width)
        except ValidationError as error:
            raise explain_validation(error, "model") from error

    def _load(self, path: Path, classes: tuple[str, ...] | None) -> ImageSource:
        options = self.preprocessing
        return load_images(path, classes=classes, image_size=options.image_size, channels=options.channels)

    def _view(self, source: ImageSource, device: torch.device) -> View:
        options = self.preprocessing
        return plain_view(on_device(source, device), mean=options.mean, std=options.std, device=device)


def _check_outputs(number: int | None, weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse more outputs than any layer in the file has, before a model of them is made."""
    most = max((len(one) for one in weights.values() if one.ndim), default=0)
    if number is not None and number > most:
        raise BadInput(
            f"--num-classes {number}: no tensor in {path} has more than {most} rows, so its model has fewer "
            f"outputs; give the number of classes it was trained on, or leave the option out"
        )


def _check_retain(retain: ImageSource, path: Path) -> None:
    if len(retain.classes) < 2:
        raise BadInput(
            f"{path} holds images of a single class ({retain.classes[0]}), but retain is the rest of the "
            f"training set; check whether --forget and --retain are exchanged"
        )


def hyperparameters(assignments: Sequence[str]) -> Parameters:
    """Return the values of ``name=value`` texts, as YAML has them.

    Raises:
        BadInput: no "=", no name or no value.
    """
    values: Parameters = override({}, assignments)
    return values


def prepare_output(folder: Path, weights: Path) -> None:
    """Make the folder that `Healing.save` will write to, so that no work is lost to a mistake in its name.

    Args:
        folder: for the healed model and its report.
        weights: the file that is healed, which must not be overwritten.

    Raises:
        BadInput: it cannot be written, or ``weights`` would be overwritten.
    """
    if (folder / "model.safetensors").resolve() == weights.resolve():
        raise BadInput(f"{weights} would be overwritten by the healed model; give another folder as --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            f"cannot write {folder} ({error.strerror}); give a folder you may write to as --out"
        ) from error
