"""`theriac.heal` where model and data contradict each other: refused before long work, or said."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import theriac
from theriac.errors import BadInput
from theriac.search.given.batches import as_batches
from theriac.search.given.victim_check import VictimCheck, least_agreement, no_logits
from theriac.search.heal import Healing
from theriac.tests.poisoned import poisoned_digits
from theriac.unlearning.inference import predict

POISONED = poisoned_digits()
MODEL, FOUND, REST, CLEAN = POISONED.model, POISONED.found, POISONED.rest, POISONED.clean
CPU = torch.device("cpu")
Pair = tuple[Tensor, Tensor]


def renumbered(pair: Pair, numbers: list[int]) -> Pair:
    return pair[0], torch.tensor(numbers)[pair[1]]


SHIFTED = [0, 2, 3, 4, 5, 6, 7, 8, 9, 1]
EXCHANGED = [0, 1, 2, 3, 9, 5, 6, 7, 8, 4]


class Normalised(nn.Module):
    """The victim behind a normalisation that its owner did outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = copy.deepcopy(MODEL)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x * 0.05 + 0.9)
        return logits


def without_class_4() -> Pair:
    kept = REST[1] != 4
    labels = REST[1][kept]
    return REST[0][kept], labels - (labels > 4).long()


METHODS: dict[str, dict[str, Any]] = {
    **{f"xlf {search}": {"search": search} for search in ("ptn", "grid", "tpe", "guarded")},
    **{name: {"method": name} for name in ("ssd", "lf", "cf", "ga", "npo", "rga")},
    **{name: {"method": name, "clean": CLEAN} for name in ("ft", "fp", "nad", "nc", "ibau")},
    "npo fixed": {"method": "npo", "search": "fixed"},
}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "shifted": ({"retain": renumbered(REST, SHIFTED)}, "retain set: .*another order .*number the classes"),
    "two exchanged": ({"retain": renumbered(REST, EXCHANGED)}, "labelled 4 are class 9 .*another order"),
    "a missing class": ({"retain": without_class_4()}, "5 of 9 classes .*another order"),
    "all in another order": (
        {"retain": renumbered(REST, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]), "forget": renumbered(FOUND, [1] * 10)},
        "retain set: .*another order",
    ),
    "not normalised": ({"model": Normalised().eval()}, "retain set: .*preprocess them as in training"),
    "softmax": (
        {"model": nn.Sequential(MODEL, nn.Softmax(1))},
        "returns probabilities .*without the softmax",
    ),
    "true labels": (
        {"forget": (FOUND[0], torch.arange(len(FOUND[1])) % 10)},
        "forget set: .* 100% as class 0; .*target class",
    ),
    "no target at all": ({"forget": (FOUND[0], FOUND[1] + 3)}, "nothing to unlearn"),
}


def heal(**given: Any) -> Healing:
    sets: dict[str, Any] = {"model": MODEL, "forget": FOUND, "retain": REST, **given}
    return theriac.heal(sets.pop("model"), **sets)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("dampening_run.importance_for", "training.tuning.Tuning._run"):
        monkeypatch.setattr(f"theriac.search.{place}", lambda *_, **__: pytest.fail("work has begun"))


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("method", METHODS)
def test_a_contradiction_is_refused_whatever_the_method(method: str, mistake: str, no_work: None):
    changed, said = MISTAKES[mistake]
    with pytest.raises(BadInput, match=said) as refusal:
        heal(**METHODS[method], **changed)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("method", ["ft", "ibau"])
def test_a_clean_set_in_another_order_is_refused(method: str, no_work: None):
    with pytest.raises(BadInput, match=r"clean set: .*another order"):
        heal(method=method, clean=renumbered(CLEAN, SHIFTED))


def checked(model: nn.Module = MODEL, **sets: Pair) -> tuple[str, ...]:
    """The warnings about a victim and its sets."""
    given = {"forget": FOUND, "retain": REST, **sets}
    batches = {name: as_batches(data, name=name, device=CPU) for name, data in given.items()}
    check = VictimCheck(model.eval(), "xlf", batches["retain"], clean=batches.get("clean"))
    check(predict(model, batches["forget"]), predict(model, batches["retain"]))
    return check.warnings


class Weak(nn.Module):
    """The victim, whose answer on a share of all images is another one, always the same for an image."""

    def __init__(self, right: float) -> None:
        super().__init__()
        self.inner, self.right = copy.deepcopy(MODEL), right

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        weights = torch.rand(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        draw, other = (x.flatten(1).double() @ (weights * 977)).remainder(1.0).T
        shift = 1 + (other * 9).long()
        moved = (torch.arange(10) + shift[:, None]) % 10
        return torch.where((draw > self.right)[:, None], logits.gather(1, moved), logits)


def damaged(model: nn.Module) -> nn.Module:
    """Classes 3, 5 and 8 have become one."""
    hurt = copy.deepcopy(model)
    last = hurt.get_submodule("3")
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        for one in (3, 5):
            last.weight[one], last.bias[one] = last.weight[8], last.bias[8] - 1e-3
    return hurt


def few(count: int) -> Pair:
    return REST[0][60 : 60 + count], REST[1][60 : 60 + count]


def noisy(share: float) -> Pair:
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(REST[1].shape, generator=generator) < share
    return REST[0], torch.where(wrong, torch.randint(10, REST[1].shape, generator=generator), REST[1])


def of_classes(*wanted: int) -> Pair:
    kept = torch.isin(REST[1], torch.tensor(wanted))
    return REST[0][kept], REST[1][kept]


LEGITIMATE: dict[str, tuple[nn.Module, dict[str, Pair]]] = {
    "as it should be": (MODEL, {"clean": CLEAN}),
    "60 % right": (Weak(0.6), {}),
    "damaged": (damaged(MODEL), {}),
    "40 % of the labels are noise": (MODEL, {"retain": noisy(0.4)}),
    "two classes": (MODEL, {"retain": of_classes(3, 7)}),
    "one class": (MODEL, {"retain": of_classes(3)}),
    "tiny retain": (MODEL, {"retain": few(41)}),
    "mostly poison": (MODEL, {"retain": (torch.cat([FOUND[0]] * 50), torch.cat([FOUND[1]] * 50))}),
    "a single found image": (MODEL, {"forget": (FOUND[0][:1], FOUND[1][:1])}),
    "a single clean image": (MODEL, {"clean": (CLEAN[0][:1], CLEAN[1][:1])}),
}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_ordinary_victims_pass_without_a_word(case: str):
    model, sets = LEGITIMATE[case]
    assert checked(model, **sets) == ()


DOUBTS: dict[str, tuple[nn.Module, dict[str, Pair], str]] = {
    "a third right": (Weak(0.3), {}, "retain set: the model predicts 3.* check that the labels"),
    "one class of another number": (
        MODEL,
        {"retain": renumbered(of_classes(0, 1, 2, 9), [0, 1, 2, 3, 4, 5, 6, 7, 9, 8])},
        "labelled 8 are class 9",
    ),
    "tiny and wrong": (MODEL, {"retain": (REST[0][40:45], (REST[1][40:45] + 1) % 10)}, "retain set: .*0.0%"),
    "few found images under true labels": (
        MODEL,
        {"forget": (FOUND[0][:4], torch.tensor([0, 5, 5, 5]))},
        "forget set: .*25% of 4 samples .*target class",
    ),
    "sigmoid": (nn.Sequential(MODEL, nn.Sigmoid()), {}, "lie in .0, 1.*sigmoid"),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_where_doubt_remains_there_is_a_warning(case: str, caplog: pytest.LogCaptureFixture):
    model, sets, said = DOUBTS[case]
    warnings = checked(model, **sets)
    assert re.search(said, warnings[0])
    assert tuple(record.getMessage() for record in caplog.records) == warnings


def test_a_victim_that_guesses_is_refused():
    with pytest.raises(BadInput, match=r"guessing: 10.0%"):
        checked(Weak(0.0), retain=noisy(1.0))


def test_warnings_come_with_the_healing():
    healing = heal(model=Weak(0.3).eval(), max_steps=1)
    assert healing.warnings
    assert healing.summary()["warnings"] == list(healing.warnings)
    assert heal(max_steps=1).warnings == ()


def test_log_probabilities_differ_for_the_norm_alone():
    model = nn.Sequential(MODEL, nn.LogSoftmax(1))
    for method in ("lf", "xlf"):
        with pytest.raises(BadInput, match="log-softmax at its end, or choose the method ssd"):
            heal(model=model, method=method)
    same, logits = (heal(model=one, method="ssd") for one in (model, MODEL))
    assert same.alpha == pytest.approx(logits.alpha, rel=1e-3)


def test_a_base_of_other_classes_is_in_doubt():
    base = copy.deepcopy(MODEL)
    with torch.no_grad():
        for name in ("3.weight", "3.bias"):
            base.get_parameter(name).copy_(MODEL.get_parameter(name).roll(1, 0))
    given = {"method": "rga", "search": "fixed", "parameters": {"steps": 1}}
    assert any("base: it predicts" in text for text in heal(base=base, **given).warnings)
    assert heal(base=copy.deepcopy(MODEL), **given).warnings == ()


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "base: it has no parameter 1.weight"),
        (3, "base: int is no nn.Module"),
        (copy.deepcopy(MODEL).apply(lambda m: m.register_parameter("bias", None)), "no parameter 1.bias"),
    ],
)
def test_a_base_of_another_kind_is_refused(base: Any, said: str, no_work: None):
    with pytest.raises(BadInput, match=re.escape(said)):
        heal(method="rga", base=base)


@pytest.mark.parametrize(
    ("outputs", "sort"),
    [
        (torch.randn(9, 4).softmax(1), "softmax"),
        (torch.randn(9, 4).double().softmax(1).float(), "softmax"),
        (torch.eye(4), "softmax"),
        (torch.randn(9, 4).log_softmax(1), "log_softmax"),
        (torch.randn(9, 4).sigmoid() * 0.9, "sigmoid"),
        (torch.tensor([[0.1, 0.9], [3.0, -2.0]]), None),
        (torch.tensor([[-1.0, -2.0], [-3.0, -0.1]]), None),
        (torch.tensor([[4.0, 2.0], [0.0, 1.0]]), None),
    ],
)
def test_what_is_no_logits(outputs: Tensor, sort: str | None):
    assert no_logits(outputs) == sort


def test_guessing_is_a_matter_of_the_number_of_classes():
    assert least_agreement(2) == pytest.approx(0.55)
    assert least_agreement(10) == pytest.approx(0.19)
    assert least_agreement(1000) < 0.102
