"""Neural Attention Distillation (Li et al., 2021): a fine-tuned copy teaches the victim where to look."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...rows import Row
from ..training import cross_entropy
from .feature_maps import collecting, last_map_of_each_size
from .fine_tuning import CleanFineTuning, fine_tune
from .unlearner import TRAINED_IMAGE, Known, Run, Set


class NeuralAttentionDistillation(CleanFineTuning):
    """Fine-tune a teacher on the clean images, then the victim on the same, with the teacher's attention.

    The student's loss is cross-entropy + beta * the sum over layers of `attention_distance` to the teacher
    (equations 2 to 4 of the paper). The distance is the mean square over positions, as in the authors'
    program, where equation 3 has the plain norm; so beta compares with the published 500 to 1000. The teacher
    stays fixed, in eval mode.

    The paper: 10 epochs for the teacher (20 in the I-BAU paper's trials, as many as for the student), batches
    of 64, SGD 0.1 divided by ten every two epochs; here the rate falls linearly. The paper's layers are the
    ends of the three groups of a wide ResNet, which is what `last_map_of_each_size` finds there.

    Attributes:
        beta: weight of the distances.
        power: p of the attention maps.
        teacher_epochs: of the teacher; ``epochs`` are the student's.
        layers: names of the modules whose outputs are compared; none: the last of each size.

    Rows of the trace carry "phase" ("teacher", then "student") and "loss"; those of the student
    "attention_distance", the mean of its round before beta. While the phase is "teacher" the model that is
    watched is the teacher.
    """

    needs: ClassVar[tuple[Set, ...]] = ("clean",)

    learning_rate: float = Field(default=0.05, gt=0, le=10)
    batch_size: int = Field(default=64, ge=1, le=2**31)
    epochs: int = Field(default=20, ge=1, le=2**31)
    beta: float = Field(default=1000.0, ge=0, le=1e6)
    power: float = Field(default=2.0, ge=1, le=8)
    teacher_epochs: int = Field(default=10, ge=1, le=2**31)
    layers: tuple[str, ...] = ()

    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Return the work of a run; see `Unlearner.work`.

        A student's step also passes its images through the teacher.
        """
        teacher, student = TRAINED_IMAGE * self.teacher_epochs, (1 + TRAINED_IMAGE) * self.epochs
        return (teacher + student) * sizes["clean"]

    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        clean = known.need("clean", type(self).__name__)
        names = list(self.layers) or last_map_of_each_size(model, clean.batch(torch.arange(1))[0])
        teacher = copy.deepcopy(model)
        recipe = self.recipe(len(clean), self.teacher_epochs)
        seed = int(torch.randint(2**31, (), generator=run.generator("teacher")))
        fine_tune(teacher, clean, recipe, run, phase="teacher", seed=seed, further_rounds=self.epochs)
        with collecting(model, names) as student_maps, collecting(teacher, names) as teacher_maps:
            loss = Distillation(self, teacher.requires_grad_(False), student_maps, teacher_maps)
            recipe = self.recipe(len(clean))
            fine_tune(model, clean, recipe, run, phase="student", loss=loss, columns=loss.columns)


class Distillation:
    """The student's loss; it remembers the distances.

    Args:
        settings: beta and power.
        teacher: in eval mode, on the student's device.
        student_maps, teacher_maps: what `collecting` gives, filled anew by each forward pass.
    """

    def __init__(
        self,
        settings: NeuralAttentionDistillation,
        teacher: nn.Module,
        student_maps: dict[str, Tensor],
        teacher_maps: dict[str, Tensor],
    ) -> None:
        self._settings, self._teacher = settings, teacher
        self._student_maps, self._teacher_maps = student_maps, teacher_maps
        self._distances: list[Tensor] = []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        loss = cross_entropy(model, x, y)
        with torch.no_grad():
            self._teacher(x)
        distances = [
            attention_distance(student, self._teacher_maps[name], self._settings.power)
            for name, student in self._student_maps.items()
        ]
        distance = torch.stack(distances).sum()
        self._distances.append(distance.detach())
        return loss + self._settings.beta * distance

    def columns(self) -> Row:
        """Return the mean distance since it was last asked for."""
        mean = torch.stack(self._distances).mean().item()
        self._distances.clear()
        return {"attention_distance": mean}


def attention_map(features: Tensor, power: float = 2.0) -> Tensor:
    """Sum |features|^power over channels, and scale the map of each sample to L2 norm 1.

    Args:
        features: [N, C, H, W].
        power: p of the paper.

    Returns:
        float32 [N, H * W]; a map of zeros stays zeros.
    """
    return F.normalize(features.float().abs().pow(power).sum(1).flatten(1), dim=1)


def attention_distance(student: Tensor, teacher: Tensor, power: float = 2.0) -> Tensor:
    """Return the mean square difference of two attention maps, over positions and samples: a number."""
    return F.mse_loss(attention_map(student, power), attention_map(teacher, power))
