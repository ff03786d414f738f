"""Scenarios (everything that determines a victim), frozen and hashed; presets; the cells run on them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ...datasets.own_code import Group, code_digests, own_module
from ...datasets.poisoning import Attack, Share
from ...datasets.splits import NOTHING, HeldBack
from ...errors import BadInput
from ...unlearning.models import ModelSpec
from ...unlearning.training import Recipe
from ..settings import HealSettings
from ..store import row_key
from ..training import TuneSettings

SEEDS = 2**63
"""Seeds are below: results hold them as signed integers of 64 bits."""


class Gate(BaseModel):
    """What a victim must reach before any method is scored on it, as shares of the test images.

    Attributes:
        clean_accuracy: least accuracy on clean test images.
        asr: least attack success rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean_accuracy: float = Field(default=0.0, ge=0, le=1)
    asr: float = Field(default=0.0, ge=0, le=1)


class Scenario(BaseModel):
    """Dataset, model, attack, |S_m|, recipe and seed: all that determines a victim.

    Attributes:
        dataset: a name of `theriac.datasets.sources.names.DATASETS`.
        image_size: side in pixels; None for the dataset's own.
        model: architecture.
        attack: trigger, target and how S_m is drawn.
        manipulated: |S_m|.
        recipe: how the victim, and every model retrained beside it, is trained.
        held_back: test images that are given to the defender or to oracles, and never reported on.
        gate: least quality of the victim.
        seed: of S_m, initial weights, sample order and augmentation, and of what is held back.
        code: the user's own modules that its parts come from, each with its digest; filled in.

    Example:
        >>> from theriac.search.sweep import Scenario
        >>> scenario = Scenario(dataset="digits", manipulated=100, seed=1)
        >>> scenario.attack.name, scenario.key == Scenario(dataset="digits", manipulated=100).key
        ('badnets', False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    image_size: int | None = Field(default=None, ge=1, le=65_536)
    model: ModelSpec = ModelSpec()
    attack: Attack = Attack()
    manipulated: int = Field(ge=1, lt=2**63)
    recipe: Recipe = Recipe()
    held_back: HeldBack = NOTHING
    gate: Gate = Gate()
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    code: tuple[tuple[str, str], ...] = ()

    @model_validator(mode="after")
    def _of_this_code(self) -> Scenario:
        here = code_digests(self._parts(self.attack))
        for module, digest in here.items():
            if dict(self.code).get(module, digest) != digest:
                raise BadInput(
                    f"code {module}: it is not what it was where the sweep began; give this machine the same"
                )
        object.__setattr__(self, "code", tuple(sorted({**dict(self.code), **here}.items())))
        return self

    def _parts(self, attack: Attack) -> list[tuple[str, Group]]:
        parts: list[tuple[str, Group]] = [(self.dataset, "datasets"), (self.model.name, "models")]
        return [*parts, *((trigger.name, "triggers") for trigger in attack.triggers)]

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write a scenario that holds nothing back as before there was any such thing: its key stays."""
        tree: dict[str, Any] = handler(self)
        if self.held_back == NOTHING:
            tree.pop("held_back", None)
        if not self.code:
            tree.pop("code", None)
        return tree

    @property
    def key(self) -> str:
        """Hash everything above but the gate, which judges a victim and does not change it."""
        return row_key(self.model_dump(mode="json", exclude={"gate"}))

    @property
    def setup(self) -> str:
        """Hash what scenarios have in common that differ in nothing but the seed and the gate."""
        return row_key(self.model_dump(mode="json", exclude={"gate", "seed"}))

    @property
    def victim_key(self) -> str:
        """Hash what determines the victim: what is held back plays no part in its training."""
        return row_key(self.model_dump(mode="json", exclude={"gate", "held_back"}))

    @property
    def without_attack(self) -> Scenario:
        """Return what determines the model trained without S_m: the samples of S_m, not their triggers.

        It is equal for attacks that draw the same S_m: they share one reference for `healed`.
        """
        drawing = self.attack.drawing
        modules = {own_module(name, group) for name, group in self._parts(drawing)}
        code = tuple((module, digest) for module, digest in self.code if module in modules)
        changes = {"attack": drawing, "gate": Gate(), "held_back": NOTHING, "code": code}
        return self.model_copy(update=changes)

    @property
    def clean_key(self) -> str:
        """Hash what determines the clean model; see `without_attack`."""
        return self.without_attack.victim_key


class Cell(BaseModel):
    """One method at one discovery share: a line of the results.

    Attributes:
        share: |S_f| / |S_m|, or "one_shot".
        baseline: "none" (the victim as it is) or "eu" (retrained on retain); None for all other methods.
        settings: of a method that dampens or trains; a baseline has none.

    Example:
        >>> from theriac.search.sweep import Cell
        >>> cell = Cell(share=0.2, settings={"method": "lf", "search": "grid"})
        >>> cell.method, cell.search
        ('lf', 'grid')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: Share
    baseline: Literal["none", "eu"] | None = None
    settings: Annotated[HealSettings | TuneSettings, Field(discriminator="method")] | None = None

    def model_post_init(self, context: Any) -> None:
        if (self.baseline is None) == (self.settings is None):
            raise ValueError("a cell is either a baseline or a method with settings")

    @property
    def method(self) -> str:
        """Return the name of the method: "none", "eu", or one of `METHODS` and `TRAINED_METHODS`."""
        return self.baseline or (self.settings.method if self.settings else "")

    @property
    def dampening(self) -> HealSettings | None:
        """Return the settings of a method that dampens."""
        return self.settings if isinstance(self.settings, HealSettings) else None

    @property
    def tuning(self) -> TuneSettings | None:
        """Return the settings of a method that trains."""
        return self.settings if isinstance(self.settings, TuneSettings) else None

    @property
    def search(self) -> str | None:
        """Return how settings are searched, a name of `SEARCH_ENTRIES` or "fixed"; None for a baseline."""
        return self.settings.search if self.settings else None

    @property
    def share_name(self) -> str:
        """Return how result rows name the share: "0.2", "one_shot"."""
        return str(self.share)


class Scoring(BaseModel):
    """What is measured of a cell beside the scores of its stop; nothing that is searched depends on it.

    Attributes:
        steps: about how many steps of a search get scores of their own, for the figure, beside those beyond
            the stop. With 0 only the stop is scored, which on many test images is much faster.
        reference: train the clean model that `healed` is measured against, if it is not in the store;
            without it that column stays empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=60, ge=0, le=2**31)
    reference: bool = True


PRESETS: dict[str, Scenario] = {
    "digits": Scenario(
        dataset="digits",
        model=ModelSpec(width=0.25),
        manipulated=100,
        recipe=Recipe(iterations=200, batch_size=128, learning_rate=0.05, augmentation="crop"),
        gate=Gate(clean_accuracy=0.97, asr=0.9),
    ),
    "cifar10-small": Scenario(
        dataset="cifar10",
        model=ModelSpec(width=0.5),
        manipulated=500,
        recipe=Recipe(iterations=2000, learning_rate=0.1, precision="bfloat16"),
        gate=Gate(clean_accuracy=0.8, asr=0.85),
    ),
    "cifar10": Scenario(dataset="cifar10", manipulated=500, gate=Gate(clean_accuracy=0.85, asr=0.9)),
}
