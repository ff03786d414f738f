"""What cannot be an importance: one clear error, and the model in the mode it was in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests.importance_models import CLASSES, IMAGE, Flat, NeedsItem, data
from theriac.unlearning.importance.estimate import estimate_importance
from theriac.unlearning.kinds import GRANULARITIES

estimate: Any = estimate_importance  # called with names from tables


def bad(message: str, model: nn.Module | None = None, batches: Any = None, **settings: Any) -> None:
    model = Flat() if model is None else model
    modes = [module.training for module in model.modules()]
    with pytest.raises(BadInput, match=message):
        estimate(model, data(3) if batches is None else batches, **settings)
    assert [module.training for module in model.modules()] == modes


def test_unknown_names_and_settings() -> None:
    bad(r"unknown importance 'ssd'; choose from fim, lf, xlf", kind="ssd")
    bad(r"unknown granularity 'epoch'; choose from sample, batch", granularity="epoch")
    bad(r"exponent 1.0 with 'lf': only xlf takes an exponent", kind="lf", exponent=1.0)
    for exponent in (0.0, -1.0, 17.0, float("nan")):
        bad(r"in \(0, 16\]", exponent=exponent)
    bad(r"chunk_size 0: give a whole number of samples, 1 or more", chunk_size=0)


def test_nothing_to_average() -> None:
    empty = (torch.empty((0, *IMAGE)), torch.empty(0, dtype=torch.int64))
    for batches in ([], [empty]):
        bad("importances of an empty set; give at least one sample", batches=batches)
    bad("no parameters; there is nothing to dampen", nn.Flatten())


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("model", [Flat(), NeedsItem()], ids=["vectorised", "one by one"])
def test_labels_out_of_range(model: nn.Module, granularity: str) -> None:
    for label in (CLASSES, -1, -100):
        batches = data(8)
        batches[1][1][2] = label
        message = f"label {label} at position 2 is out of range: there are {CLASSES} classes"
        bad(message, model, batches, kind="fim", granularity=granularity)
        estimate(model, batches, kind="lf", granularity=granularity)  # does not look at labels


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_labels_that_are_no_class_numbers(granularity: str) -> None:
    x = data(3)[0][0]
    for y in (torch.zeros(3, CLASSES), torch.zeros(3), torch.zeros(2, dtype=torch.int64), [0, 1, 2]):
        bad(r"give class numbers, int64 \[3\]", batches=[(x, y)], granularity=granularity)
    narrow = estimate_importance(Flat(), [(x, torch.zeros(3, dtype=torch.uint8))], kind="fim")
    assert narrow.count == 3


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(value: float, granularity: str) -> None:
    batches = data(6)
    batches[1][0][1, 0, 0, 0] = value
    bad(
        "importance data: sample 1 of a batch holds NaN or infinite", batches=batches, granularity=granularity
    )
    model = Flat()
    model.get_parameter("1.weight").data[0, 0] = value
    bad("logits that are NaN or infinite; check its weights", model, granularity=granularity)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_gradient_that_overflows(granularity: str) -> None:
    model = Flat()
    model.get_parameter("1.weight").data.fill_(1.0)
    batches = [(torch.full((2, *IMAGE), 1e20), torch.zeros(2, dtype=torch.int64))]
    bad("the lf importance of '1.weight' is not finite", model, batches, kind="lf", granularity=granularity)


class Returns(Flat):
    """Returns whatever a function makes of the logits."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def forward(self, input: Tensor) -> Any:
        return self.change(super().forward(input))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_models_that_return_no_logits(granularity: str) -> None:
    shapes = {
        r"\(1, 3, 1\)": lambda f: f[:, :, None],
        r"\(3,\)": lambda f: f.sum(0),
        r"\(1, 1\)": lambda f: f[:, :1],
        r"tuple": lambda f: (f, f),
        r"dict": lambda f: {"logits": f},
    }
    for shape, change in shapes.items():
        bad(rf"the model returns {shape} for 1 images", Returns(change), granularity=granularity)
    for change in (torch.detach, lambda f: f.detach() * 2):
        bad("no gradient with respect to the weights", Returns(change), granularity=granularity)


class Stubborn(nn.Dropout):
    """Keeps dropping out."""

    def train(self, mode: bool = True) -> Stubborn:
        return super().train(True)


def test_a_module_that_refuses_eval_mode() -> None:
    model = nn.Sequential(Flat(), Stubborn())
    model[0].eval()
    bad("module '1' stays in training mode after model.eval()", model)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_wrappers_that_hide_the_model() -> None:
    bad("the model is a DataParallel, which cannot be called with other weights", nn.DataParallel(Flat()))
    traced = torch.jit.trace(Flat().eval(), torch.zeros((2, *IMAGE)))
    bad("the one that was scripted or traced", traced)


def test_a_quantised_model() -> None:
    model = Flat()
    model.register_parameter("codes", nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False))
    bad("parameter 'codes' is torch.int8: a quantised model has no gradients", model)


def test_a_mode_is_restored_when_the_data_fails() -> None:
    def broken() -> Any:
        yield data(2)[0]
        raise OSError("disk")

    model = Flat().train()
    with pytest.raises(OSError, match="disk"):
        estimate_importance(model, broken())
    assert model.training
    assert model[1].training
