"""The methods that train, each with all that the rest of theriac asks about it. Needs no torch.

A new one is a class in a file of `theriac.unlearning.methods`, and an entry here: lists, help, tables, sweeps
and the checks of arguments follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .spaces import Choice, Range, Space, log_range

if TYPE_CHECKING:
    from ...unlearning.methods import Unlearner


@dataclass(frozen=True, kw_only=True)
class TrainedEntry:
    """A method that trains.

    Attributes:
        name: in settings, rows and on the command line.
        title: in tables and figures.
        about: one line for ``theriac list methods``.
        unlearner: name of its class in `theriac.unlearning.methods`.
        space: where its hyperparameters are looked for; the default of each lies inside.
        needs_clean: it cannot do without images known to be clean.
        takes_base: it can stay close to a clean model of the same architecture.
        recipe: what it takes from the victim's recipe in place of its own defaults: "all" that they share,
            its "augmentation", or None.
        published: names of hyperparameters that are published but not its defaults; the class has a method
            of each name.
    """

    name: str
    title: str
    about: str
    unlearner: str
    space: Space = field(default_factory=dict)
    needs_clean: bool = False
    takes_base: bool = False
    recipe: Literal["all", "augmentation"] | None = None
    published: tuple[str, ...] = ()

    def load(self) -> type[Unlearner]:
        """Import the class; torch takes seconds, so nothing else does."""
        from ...unlearning import methods

        kind: type[Unlearner] = getattr(methods, self.unlearner)
        return kind


_ASCENT: Space = {"learning_rate": log_range(1e-5, 1e-3), "steps": Range(low=20, high=300, log=True)}
_DECAY = log_range(1e-5, 1e-2)

_ENTRIES = (
    TrainedEntry(
        name="cf",
        title="CF",
        about="fine-tuning on retain (catastrophic forgetting)",
        unlearner="FineTuneOnRetain",
        space={"learning_rate": log_range(1e-3, 0.1), "weight_decay": _DECAY},
        recipe="all",
    ),
    TrainedEntry(
        name="ft",
        title="FT",
        about="plain fine-tuning",
        unlearner="FineTuneOnClean",
        space={
            "learning_rate": log_range(1e-3, 1.0),
            "epochs": Range(low=2, high=30, log=True),
            "batch_size": Choice(choices=(64, 128, 256)),
            "weight_decay": _DECAY,
        },
        needs_clean=True,
        recipe="augmentation",
    ),
    TrainedEntry(
        name="fp",
        title="FP",
        about="Fine-Pruning",
        unlearner="FinePruning",
        space={
            "accuracy_drop": Range(low=0.02, high=0.4),
            "learning_rate": log_range(1e-3, 0.2),
            "epochs": Range(low=2, high=20, log=True),
        },
        needs_clean=True,
        recipe="augmentation",
    ),
    TrainedEntry(
        name="nad",
        title="NAD",
        about="Neural Attention Distillation",
        unlearner="NeuralAttentionDistillation",
        space={
            "beta": log_range(100.0, 5000.0),
            "learning_rate": log_range(5e-3, 0.2),
            "teacher_epochs": Range(low=3, high=20),
            "epochs": Range(low=5, high=20),
            "power": Choice(choices=(1.0, 2.0, 4.0)),
        },
        needs_clean=True,
        recipe="augmentation",
    ),
    TrainedEntry(
        name="nc",
        title="NC",
        about="Neural Cleanse, and unlearning of the triggers it finds",
        unlearner="NeuralCleanse",
        space={
            "threshold": Range(low=1.0, high=3.0),
            "patched": Range(low=0.05, high=0.5),
            "learning_rate": log_range(1e-3, 0.1),
            "epochs": Range(low=1, high=5),
        },
        needs_clean=True,
        recipe="augmentation",
    ),
    TrainedEntry(
        name="ibau",
        title="I-BAU",
        about="I-BAU: adversarial unlearning by an implicit hypergradient",
        unlearner="IBAU",
        space={
            "learning_rate": log_range(3e-4, 5e-3),
            "patched": log_range(0.02, 0.5),
            "largest": log_range(1.0, 20.0),
            "bound": log_range(2.0, 20.0),
            "perturbations": Range(low=1, high=8),
            "rounds": Range(low=1, high=3),
            "distillation": Range(low=0.0, high=0.6),
        },
        needs_clean=True,
        published=("paper", "released"),
    ),
    TrainedEntry(
        name="ga",
        title="GA",
        about="gradient ascent on the found poison",
        unlearner="GradientAscent",
        space=_ASCENT,
    ),
    TrainedEntry(
        name="npo",
        title="NPO",
        about="negative preference optimisation",
        unlearner="NPO",
        space={**_ASCENT, "beta": log_range(0.1, 5.0)},
    ),
    TrainedEntry(
        name="rga",
        title="RGA",
        about="robust gradient ascent",
        unlearner="RGA",
        space={**_ASCENT, "c": log_range(0.1, 3.0), "mu": log_range(1e-4, 0.1)},
        takes_base=True,
    ),
)
TRAINED_METHODS: dict[str, TrainedEntry] = {entry.name: entry for entry in _ENTRIES}
NEEDS_CLEAN = tuple(name for name, entry in TRAINED_METHODS.items() if entry.needs_clean)
"""Methods that cannot do without images known to be clean."""

# a type checker sees texts, whoever reads the annotation while theriac runs sees the choices
if TYPE_CHECKING:
    TrainedMethod = str
else:
    TrainedMethod = Literal[tuple(TRAINED_METHODS)]
