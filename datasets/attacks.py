"""Attacks: which triggers, and which label each of them should cause."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor

from ..errors import BadInput
from .triggers import AnyTrigger, BadNets

Target = Annotated[int, Field(ge=0, le=2**31)]


class Aim(BaseModel):
    """A trigger and the label that it should cause.

    Attributes:
        trigger: what is added to an image.
        target: the label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger: AnyTrigger
    target: Target


class Attack(BaseModel):
    """What the attacker does to the samples it manipulates.

    Attributes:
        trigger: what is added to an image.
        target: the label that a triggered image should cause; left out under "all_to_all".
        drawn_from: S_m is drawn over "all" classes (Goel's BadNets; a tenth of S_m then truly is of the
            target class) or from "non_target" classes only (I-BAU): no sample that truly is of the class its
            trigger should cause.
        label_rule: "one_target", or "all_to_all": class y should become y + 1, the last one 0 (Gu et al.,
            2017).
        several: two or more triggers, each with its target (I-BAU's Table 3 has seven), in place of
            ``trigger`` and ``target``. The k-th sample drawn into S_m gets trigger k modulo their number, so
            every trigger is in every S_f that is large enough. I-BAU poisons one copy of the training set
            with each trigger and joins the copies; here one set holds all of them, on different samples.

    What has its default and came after ``drawn_from``, and what has no meaning under the rule, is not
    dumped: the keys of results stay as they were before there were other rules.

    Example:
        >>> from theriac.datasets.attacks import Attack
        >>> attack = Attack(trigger={"name": "blend"}, target=7)
        >>> attack.name, attack.targets(num_classes=10)
        ('blend', (7,))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger: AnyTrigger = Field(default_factory=BadNets)
    target: Target = 0
    drawn_from: Literal["all", "non_target"] = "all"
    label_rule: Literal["one_target", "all_to_all"] = "one_target"
    several: tuple[Aim, ...] = ()

    @model_validator(mode="after")
    def _nothing_ignored(self) -> Attack:
        if self.label_rule == "all_to_all" and (self.target or self.several):
            raise BadInput(
                "label_rule all_to_all has neither one target nor several; leave target and several out"
            )
        if "several" in self.model_fields_set and len(self.several) < 2:
            held = "one trigger" if self.several else "no trigger"
            raise BadInput(f"several holds {held}; give two or more, or use trigger and target")
        self._refuse_twins()
        if self.several and (self.trigger != BadNets() or self.target):
            raise BadInput("an attack with several triggers has no other; leave trigger and target out")
        return self

    def _refuse_twins(self) -> None:
        """Refuse a trigger that is there twice: with two targets it would contradict itself."""
        for number, aim in enumerate(self.several):
            twin = next((one for one in self.several[:number] if one.trigger == aim.trigger), None)
            if twin:
                raise BadInput(
                    f"several.{number}: the trigger {aim.trigger.name} is there already, with the same "
                    f"settings and target {twin.target}; give each trigger once"
                )

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        without = {"trigger", "target"} if self.several else {"several"}
        without |= {"label_rule"} if self.label_rule == "one_target" else {"target"}
        content: dict[str, Any] = write(self)
        return {name: value for name, value in content.items() if name not in without}

    @property
    def name(self) -> str:
        """Return what results call the attack: "badnets", "badnets-all-to-all", "several"."""
        if self.several:
            return "several"
        return f"{self.trigger.name}-all-to-all" if self.label_rule == "all_to_all" else self.trigger.name

    @property
    def triggers(self) -> tuple[AnyTrigger, ...]:
        """Return the triggers by number: one, unless there are several."""
        return tuple(aim.trigger for aim in self.several) or (self.trigger,)

    @property
    def draws_from_all(self) -> bool:
        """Tell whether S_m is drawn over all classes, where triggers and targets play no part in it."""
        return self.drawn_from == "all" or self.label_rule == "all_to_all"

    @property
    def drawing(self) -> Attack:
        """Return an attack that draws the same S_m; equal for all that draw over all classes."""
        return Attack() if self.draws_from_all else self

    @property
    def one_target(self) -> int | None:
        """Return the target, if there is only one."""
        targets = set(self._targets)
        return targets.pop() if len(targets) == 1 else None

    @property
    def _targets(self) -> tuple[int, ...]:
        """Return the target of each trigger; none under "all_to_all"."""
        if self.label_rule == "all_to_all":
            return ()
        return tuple(aim.target for aim in self.several) or (self.target,)

    def targets(self, num_classes: int) -> tuple[int, ...]:
        """Return the labels that triggered images should cause, ascending.

        Raises:
            BadInput: one of them is not in [0, num_classes).
        """
        wrong = [target for target in self._targets if target >= num_classes]
        if wrong:
            raise BadInput(
                f"target class {wrong[0]}: there are classes 0 to {num_classes - 1}; choose one of them"
            )
        return tuple(sorted(set(self._targets))) or tuple(range(num_classes))

    def intended(self, true_labels: Tensor, which: Tensor, num_classes: int) -> Tensor:
        """Return the label that each triggered sample should cause, int64 [N].

        Args:
            true_labels: int64 [N].
            which: int64 [N], the number of each sample's trigger.
            num_classes: of the dataset.
        """
        if self.label_rule == "all_to_all":
            return (true_labels + 1) % num_classes
        return torch.tensor(self._targets, device=true_labels.device)[which.to(true_labels.device)]
