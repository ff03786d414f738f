"""Scores of a model that is known to the last image."""

from dataclasses import asdict

import torch
from torch import nn

from theriac.datasets.attacks import Aim, Attack
from theriac.datasets.poisoning import PoisonedData
from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.sources.names import ImageDataset
from theriac.datasets.triggers import BadNets, Sine
from theriac.search.sweep.cell_rows import truth_columns
from theriac.search.truth import Truth, measure_truth

CLASSES = 4


class Fooled(nn.Module):
    """Reads the class from the first pixel, and falls for two corners."""

    def __init__(self, bottom_right, top_left):
        super().__init__()
        self.bottom_right, self.top_left = bottom_right, top_left
        self.weight = nn.Parameter(torch.ones(()))  # what has none is no classifier

    def forward(self, x):
        classes = (x[:, 0, 4, 4] * 255 / 20).round().long()
        for pixel, answer in ((x[:, 0, 7, 7], self.bottom_right), (x[:, 0, 0, 0], self.top_left)):
            classes = torch.where(pixel == 1, answer(classes), classes)
        return nn.functional.one_hot(classes, CLASSES).float()


def data_of(attack, labels):
    pixels = (20 * torch.tensor(labels))[:, None, None, None].expand(-1, 1, 8, 8)
    images = MemoryImages(
        pixels=pixels.to(torch.uint8).clone(), labels=torch.tensor(labels), classes=tuple("abcd")
    )
    dataset = ImageDataset(name="tiny", train=images, test=images, mean=(0.0,), std=(1.0,))
    return PoisonedData(dataset=dataset, attack=attack, manipulated=2, seed=0, device=torch.device("cpu"))


def same(classes):
    return classes


def test_one_target():
    model = Fooled(lambda classes: torch.where(classes < 2, 3, classes), same)
    truth = measure_truth(model, data_of(Attack(target=3), [0, 1, 1, 2, 3, 3]))
    assert truth == Truth(
        clean_accuracy=1.0, asr=0.75, healed_raw=0.5, lfr=[1, 1, 5 / 6, 1 - 5 / 6], asr_by_trigger=[0.75]
    )


def test_all_to_all():
    model = Fooled(lambda classes: torch.where(classes == 1, classes, (classes + 1) % CLASSES), same)
    truth = measure_truth(model, data_of(Attack(label_rule="all_to_all"), [0, 1, 1, 2, 3, 3]))
    assert (truth.asr, truth.healed_raw) == (4 / 6, 2 / 6)


class TopLeft(Sine):
    """Told apart by its bright top left corner."""

    def layers(self, shape):
        kept = torch.ones(1, 8, 8)
        kept[..., 0, 0] = 0
        return kept, 1 - kept


def test_several_triggers_with_several_targets():
    attack = Attack.model_construct(
        several=(Aim(trigger=BadNets(size=1), target=3), Aim.model_construct(trigger=TopLeft(), target=0)),
        label_rule="one_target",
        drawn_from="all",
    )
    model = Fooled(lambda classes: torch.full_like(classes, 3), lambda c: torch.where(c == 3, 0, c))
    truth = measure_truth(model, data_of(attack, [0, 1, 1, 2, 3, 3]))
    # bottom right: all become 3, of four that are not; top left: of five that are not 0, the two 3 become it
    assert truth.asr_by_trigger == [1.0, 2 / 5]
    assert truth.asr == 0.7
    assert truth.healed_raw == (2 + 4) / 12
    assert truth.lfr == [1 - 3 / 12, 1 - 2 / 12, 1 - 1 / 12, 1 - 6 / 12]
    assert truth.clean_accuracy == 1.0


def test_columns_are_numbers_and_older_scores_are_read():
    truth = Truth(clean_accuracy=0.5, asr=0.1, healed_raw=0.2, lfr=[0.3])
    assert truth_columns(truth) == {"clean_accuracy": 0.5, "asr": 0.1, "healed_raw": 0.2}
    stored = {name: value for name, value in asdict(truth).items() if name != "asr_by_trigger"}
    assert Truth(**stored) == truth
