"""`theriac heal`: from files to a healed model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import Field, ValidationError

from ..datasets.decoding import in_memory
from ..datasets.images import ImageSource, on_device
from ..datasets.local import load_images
from ..datasets.views import View, plain_view
from ..errors import BadInput, explain_validation
from ..search.heal import Healing, heal
from ..search.heal_training import KEPT_STATUSES, tune_settings
from ..search.operation import Progress
from ..search.spaces import Parameters
from ..search.sweep_tree import override
from ..search.tune_settings import TRAINED_METHODS
from ..unlearning.models import ModelSpec, create_model, load_into, load_weights
from .devices import choose_device
from .options import HealOptions, Preprocessing, Subject

LEAST_AGREEMENT = 0.5
"""Share of S_f that a poisoned model should give the labels in the files; below, the verdict doubts them."""


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
        """Load, heal, return.

        Raises:
            BadInput: anything among the files or settings that cannot be used.
        """
        given = self.settings.given(self.parameters)
        if given["method"] in TRAINED_METHODS:
            tune_settings(**given)  # what is wrong with hyperparameters is found before files are read
        device, spec = choose_device(self.device), self._spec()
        weights = load_weights(self.weights, trust_pickle=self.trust_pickle)
        retain = self._load(self.retain, None)
        _check_retain(retain, self.retain)
        forget = self._load(self.forget, retain.classes)
        clean = self._load(self.clean, retain.classes) if self.clean else None
        model = create_model(spec, num_classes=self.num_classes or len(retain.classes), shape=retain.shape)
        load_into(model, weights, self.weights)
        return heal(
            model.to(device).eval(),
            forget=self._view(in_memory(forget), device),
            retain=self._view(in_memory(retain, progress=partial(progress, "loading")), device),
            clean=None if clean is None else self._view(in_memory(clean), device),
            seed=self.seed,
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


def _check_retain(retain: ImageSource, path: Path) -> None:
    if len(retain.classes) < 2:
        raise BadInput(
            f"{path} holds images of a single class ({retain.classes[0]}), but retain is the rest of the "
            f"training set; check whether --forget and --retain are exchanged"
        )


def hyperparameters(assignments: Sequence[str]) -> Parameters:
    """Values from ``name=value`` texts, as YAML has them.

    Raises:
        BadInput: no "=", no name or no value.
    """
    values: Parameters = override({}, assignments)
    return values


def prepare_output(folder: Path, weights: Path) -> None:
    """Make the folder that `Healing.save` will write to, so that no work is lost to a mistake in its name.

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


def healed(healing: Healing) -> bool:
    """Whether the model is another than the one that came in."""
    return healing.status in KEPT_STATUSES


_TRAINED_VERDICTS = {
    "no_stop": "no setting does better than the model as it is",
    "collapsed": "every setting that forgets wrecks the model",
    "failed": "no run came to its end (healing.json says why)",
}


_PAIRS = "no pair scores better than the model as it is"
_NO_STOPS = {
    "ptn": "no setting made the model forget",
    "grid": _PAIRS,
    "tpe": _PAIRS,
    "guarded": "nothing heals half of what is suspected and harms no more than --most-harm",
}
_COLLAPSES = {
    "ptn": ("forgets", "a higher --rho (or auto)"),
    "grid": ("scores best", "--search ptn"),
    "tpe": ("scores best", "--search ptn"),
    "guarded": ("scores best", "a higher --harm-weight"),
}
"""Search -> what the setting does that wrecks the model, and what is gentler."""


def _costs(healing: Healing) -> str:
    """What a guarded search says of the accuracy that is lost."""
    harm = [healing.metrics.get(name) for name in ("harm", "harm_at_most", "harm_if_wrong")]
    if None in harm:
        return ""
    expected, most, wrong = (f"{100 * (one or 0.0):.1f}" for one in harm)
    return (
        f"\nestimated loss of accuracy: {expected} points, {most} at most; {wrong} if what was suspected in "
        f"retain is no poison"
    )


def verdict(healing: Healing, folder: Path) -> str:
    """What became of the model, and what to try where it is not healed."""
    if healed(healing):
        return f"healed model: {folder}/model.safetensors{_costs(healing)}"
    kept = f"{folder} holds the weights that came in"
    if healing.settings["method"] in TRAINED_METHODS:
        return f"{_TRAINED_VERDICTS[healing.status]}; {kept}. Try more --samples, another --method, or --set"
    search = healing.settings["search"]
    if healing.status == "collapsed":
        how, gentler = _COLLAPSES[search]
        return (
            f"the setting that {how} wrecks the model; {kept}. Try another --granularity, {gentler}, or more "
            f"found samples"
        )
    agreement = healing.metrics["forget_accuracy_before"]
    if agreement < LEAST_AGREEMENT:
        return (
            f"no setting made the model forget; {kept}. It gives only {agreement:.0%} of the forget set the "
            f"labels in the files: they must be those it was trained with (the poison's), not the true ones"
        )
    check = "check that the forget set shows one trigger"
    if search == "guarded" and not healing.metrics["apart"]:
        return (
            f"dampening moves the found samples no more than others of their class; {kept}. Find more of the "
            f"poison, try --search ptn, and {check}"
        )
    return f"{_NO_STOPS[search]}; {kept}. Try --granularity or --method, and {check}"
