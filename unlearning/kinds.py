"""What importances there are, and their settings; importable without torch, so that ``--help`` is instant.

An importance is a loss and a reduction: one number a sample is differentiated, and the gradient's sign is
taken away. From the table `KINDS` follow which kinds share a backward pass, what may be chosen on the command
line and in sweeps, and the methods that dampen by them. A new kind of these losses is a line of it; a new
loss is a function beside the others in `theriac.unlearning.importance.sensitivities`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

Loss = Literal["cross_entropy", "squared_norm", "norm"]
"""What is differentiated: the cross-entropy with the label, or a norm of the logits, squared or not."""
Reduction = Literal["square", "absolute"]
"""How a gradient becomes a size: its square, or its absolute value."""
Granularity = Literal["sample", "batch"]
Precision = Literal["float32", "bfloat16", "float16"]

GRANULARITIES: tuple[Granularity, ...] = ("sample", "batch")


@dataclass(frozen=True, kw_only=True)
class ImportanceKind:
    """A kind of importance, and the method that dampens by it.

    Attributes:
        name: in files, keys and messages.
        loss: what is differentiated.
        reduction: how a gradient becomes a size.
        method: name of the method.
        title: of the method, in tables and figures.
        about: one line for ``theriac list methods``.
    """

    name: str
    loss: Loss
    reduction: Reduction
    method: str
    title: str
    about: str


KINDS: dict[str, ImportanceKind] = {
    kind.name: kind
    for kind in (
        ImportanceKind(
            name="fim",
            loss="cross_entropy",
            reduction="square",
            method="ssd",
            title="SSD",
            about="dampening by the Fisher diagonal: squared gradient of the cross-entropy",
        ),
        ImportanceKind(
            name="lf",
            loss="squared_norm",
            reduction="absolute",
            method="lf",
            title="LF",
            about="dampening by the gradient of the squared norm of the logits",
        ),
        ImportanceKind(
            name="xlf",
            loss="norm",
            reduction="absolute",
            method="xlf",
            title="XLF",
            about="dampening by the gradient of the norm of the logits; the default",
        ),
    )
}

# a type checker sees texts, whoever reads the annotation while theriac runs sees the choices
if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[tuple(KINDS)]
