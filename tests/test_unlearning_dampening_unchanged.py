"""Remembered outputs: the same bits as a plain pass, and only the work that is needed."""

from __future__ import annotations

import copy
import logging
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theriac.tests import importance_models as models
from theriac.unlearning.dampening import unchanged
from theriac.unlearning.dampening.path import DampeningPath
from theriac.unlearning.dampening.unchanged import Unchanged

PLENTY = 1 << 30
BUILDERS = {
    **models.MODELS,
    "wide resnet": models.wide_resnet,
    "small vgg": models.small_vgg,
    "overwriting": models.Overwriting,
    "tied output": lambda: models.TiedOutput(by_hand=False),
    "tied output by hand": lambda: models.TiedOutput(by_hand=True),
    "keyword": models.Cut,
}
X = torch.cat([x for x, _ in models.data(6)])


def build(name: str) -> Any:  # so that parts can be named
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BUILDERS[name]()
        return models.randomise(model).eval().requires_grad_(False)


def path_of(model: nn.Module, seed: int = 0) -> DampeningPath:
    generator = torch.Generator().manual_seed(seed)
    forget, retain = (
        {n: torch.randn(p.shape, generator=generator).exp() for n, p in model.named_parameters()}
        for _ in range(2)
    )
    return DampeningPath(dict(model.named_parameters()), forget, retain)


@torch.no_grad()
def recalled(memory: Unchanged, model: nn.Module, x: Tensor, path: DampeningPath, piece: int = 0) -> Tensor:
    with memory.recalling(piece, path.changed):
        output: Tensor = model(x)
    assert not any("forward" in vars(module) for module in model.modules())
    return output.clone()


@torch.no_grad()
def plain(model: nn.Module, x: Tensor) -> Tensor:
    return copy.deepcopy(model)(x.clone())


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("enough", [1, 6, 1000])
def test_every_pass_gives_the_bits_of_a_plain_one(
    name: str, enough: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name)
    path, pieces, numbers = path_of(model), X.split(3), random.Random(enough)
    monkeypatch.setattr(unchanged, "ENOUGH", enough)
    memory = Unchanged(model, X[:1], count=6, budget=PLENTY)
    for _ in range(25):
        few, constant = numbers.choice([1, 2, 3, 5, 9, 40]), numbers.choice([1.0, 1.0, 1.0, 0.5])
        path.move_to(path.alpha_at(100 - 100 * min(1.0, few / path.count)), constant)
        for piece in numbers.choices([0, 1], k=2):
            x = pieces[piece].clone() if name == "overwriting" else pieces[piece]
            expected = plain(model, x)
            assert torch.equal(recalled(memory, model, x, path, piece), expected)


class Calls:
    """How often layers are really run."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[nn.Module] = []
        for kind in (nn.Conv2d, nn.Linear, nn.BatchNorm2d):
            patch.setattr(kind, "forward", self.counted(kind.forward))

    def counted(self, forward):
        def counting(module: nn.Module, *args: Tensor) -> Tensor:
            self.seen.append(module)
            return forward(module, *args)

        return counting

    def of(self, memory: Unchanged, model: nn.Module, changed: dict[str, int]) -> list[str]:
        self.seen.clear()
        with torch.no_grad(), memory.recalling(0, changed):
            model(X)
        names = {module: name for name, module in model.named_modules()}
        return [names[module] for module in self.seen]


def test_only_what_comes_after_the_first_change_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet9")
    memory, calls = Unchanged(model, X[:1], count=6, budget=PLENTY), Calls(monkeypatch)
    assert memory.names == {"", "conv1", "conv2", "res1", "conv3", "res2", "conv4", "fc"}
    assert len(calls.of(memory, model, {})) == 8 + 8 + 1
    assert calls.of(memory, model, {}) == []
    assert calls.of(memory, model, {"fc.weight": 1}) == ["fc"]
    assert calls.of(memory, model, {"fc.weight": 1}) == []
    assert calls.of(memory, model, {"fc.weight": 1, "conv4.0.1.bias": 2}) == ["conv4.0.0", "conv4.0.1", "fc"]
    assert len(calls.of(memory, model, {"fc.weight": 1, "conv4.0.1.bias": 2, "conv1.0.weight": 3})) == 17
    memory.forget()
    assert len(calls.of(memory, model, {"fc.weight": 1, "conv4.0.1.bias": 2, "conv1.0.weight": 3})) == 17


def test_a_change_that_the_path_does_not_make_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet9")
    memory, calls = Unchanged(model, X[:1], count=6, budget=PLENTY), Calls(monkeypatch)
    calls.of(memory, model, {})
    model.conv4[0][1].running_mean.add_(0.1)
    assert calls.of(memory, model, {}) == ["conv4.0.0", "conv4.0.1", "fc"]
    model.fc.weight.mul_(2.0)
    assert calls.of(memory, model, {}) == ["fc"]


def test_blocks_after_sums_and_concatenations_are_known_by_their_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build("tiny vit")
    memory, calls = Unchanged(model, X[:1], count=6, budget=PLENTY), Calls(monkeypatch)
    assert {"patch_embed", "blocks", "blocks.0", "blocks.1"} <= memory.names
    calls.of(memory, model, {})
    block = [f"blocks.1.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    model.blocks[1].mlp.fc1.weight.mul_(2.0)
    assert calls.of(memory, model, {}) == [*block, "head"]
    model.norm.bias.add_(0.1)
    assert calls.of(memory, model, {}) == ["head"]
    model.pos_embed.mul_(2.0)
    assert len(calls.of(memory, model, {})) == 8 + 1
    assert calls.of(memory, model, {"blocks.1.mlp.fc1.weight": 1}) == block  # to the same numbers again


def test_layers_that_share_a_weight_all_change_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 9), nn.Linear(9, 9), nn.Linear(9, 9)).eval()
    model[3].weight = model[2].weight
    memory, calls = Unchanged(model, X[:1], count=6, budget=PLENTY), Calls(monkeypatch)
    calls.of(memory, model, {})
    assert calls.of(memory, model, {"3.bias": 1}) == ["3"]
    assert calls.of(memory, model, {"3.bias": 1, "2.weight": 2}) == ["2", "3"]


class Outer(nn.Module):
    """Gives a layer the weights of another part, as they are, as a view, or as a copy."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(4, 432))
        self.inner, self.head = nn.Linear(432, 5), nn.Linear(4 * 5, 3)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        token = {"itself": self.token, "view": self.token[:], "copy": self.token.clone()}[self.how]
        return self.head(self.inner(token).flatten().expand(len(x), -1) * x.flatten(1)[:, :20])


@pytest.mark.parametrize("how", ["itself", "view", "copy"])
def test_weights_given_as_inputs_are_not_taken_for_unchanged(how: str) -> None:
    model = Outer(how).eval().requires_grad_(False)
    forget = {name: torch.rand(p.shape) * (name == "token") for name, p in model.named_parameters()}
    retain = {name: torch.rand(p.shape) + 0.5 for name, p in model.named_parameters()}
    path = DampeningPath(dict(model.named_parameters()), forget, retain)
    memory = Unchanged(model, X[:1], count=6, budget=PLENTY)
    for alpha in (1.0, 0.3, 0.5, 0.0):
        path.move_to(alpha, 0.1)
        assert torch.equal(recalled(memory, model, X, path), plain(model, X))


def test_images_that_were_written_to_are_other_images() -> None:
    model, x = build("resnet9"), X.clone()
    path, memory = path_of(model), Unchanged(model, X[:1], count=6, budget=PLENTY)
    before = recalled(memory, model, x, path)
    x.mul_(-1)
    after = recalled(memory, model, x, path)
    assert torch.equal(after, plain(model, x))
    assert not torch.equal(after, before)


class Writing(nn.Module):
    """Writes to what it is given when its bias is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(432, 8)

    def forward(self, x: Tensor) -> Tensor:
        if float(self.layer.bias[0]) > 0:
            x.add_(1)
        return self.layer(x)


class AfterWriting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = Writing(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x.flatten(1))
        return self.head(self.inner(x) + x[:, :8])


def test_an_input_that_is_first_compared_and_then_written_to_is_written_to() -> None:
    model = AfterWriting().eval().requires_grad_(False)
    model.inner.layer.bias[0] = -1.0
    path, memory = path_of(model), Unchanged(model, X[:1], count=6, budget=PLENTY)
    assert memory.names == {"", "inner", "inner.layer", "head"}
    for bias in (-1.0, 1.0, -1.0, -2.0, 2.0):
        model.inner.layer.bias[0] = bias
        assert torch.equal(recalled(memory, model, X, path), plain(model, X))


class Late(nn.Module):
    """Writes to the outputs of its layers, for some images only."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(432, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.drop, self.bound = nn.Dropout(), bound

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x.flatten(1))
        again = self.drop(self.second(out))
        if float(x.sum()) > self.bound:
            again.add_(1)
            out.mul_(2)
        return self.head(out + again)


def test_writing_in_place_where_the_sample_did_not_makes_nothing_wrong() -> None:
    sums = [float(x.sum()) for x in X.split(3)]
    model = Late(sum(sums) / 2).eval().requires_grad_(False)
    few = X[X.sum((1, 2, 3)).argmin()][None]
    path, memory = path_of(model), Unchanged(model, few, count=6, budget=PLENTY)
    assert memory.names == {"", "first", "second", "drop", "head"}
    for percentile in (99.9, 99.0, 99.5, 90.0, 90.0):
        path.move_to(path.alpha_at(percentile))
        for number, piece in enumerate(X.split(3)):
            for _ in range(2):
                assert torch.equal(recalled(memory, model, piece, path, number), plain(model, piece))


def test_outputs_that_are_written_to_are_not_remembered() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)).eval()
    assert Unchanged(model, X[:1], count=6, budget=PLENTY).names == {"", "0", "3"}


def test_an_input_with_other_bits_is_another_one() -> None:
    zero, layout = torch.zeros(2, 3), torch.randn(2, 3, 4, 4)
    assert not unchanged._same_bits(zero, -zero)
    assert unchanged._same_bits(zero / 0, zero.clone() / 0)
    assert not unchanged._same_bits(layout, layout.contiguous(memory_format=torch.channels_last))
    assert not unchanged._same_bits(zero, zero.double())
    assert unchanged._same_bits(layout, layout.clone())


def test_autocast_and_inference_mode_are_passed_through() -> None:
    model = build("resnet9")
    path, memory = path_of(model), Unchanged(model, X[:1], count=6, budget=PLENTY)
    expected = recalled(memory, model, X, path)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = recalled(memory, model, X, path)
        assert torch.equal(cast, plain(model, X))
    assert not torch.equal(cast.float(), expected)
    assert torch.equal(recalled(memory, model, X, path), expected)
    with torch.inference_mode():
        assert torch.equal(recalled(memory, model, X.clone(), path), expected)
        assert not Unchanged(model, X[:1], count=6, budget=PLENTY).names
    assert torch.equal(recalled(memory, model, X, path), expected)


def test_what_is_held_fits_the_budget(caplog: pytest.LogCaptureFixture) -> None:
    model = build("resnet9")
    path = path_of(model)
    sizes, counts = [], []
    for budget in (PLENTY, 150_000, 30_000, 0):
        memory = Unchanged(model, X[:1], count=6, budget=budget)
        recalled(memory, model, X, path)
        assert memory.held_bytes <= budget
        sizes.append(memory.held_bytes)
        counts.append(len(memory.names))
        memory.forget()
        assert memory.held_bytes == 0
    assert counts[0] == 8
    assert counts[-1] == 0
    assert sizes[0] > sizes[-2] > sizes[-1] == 0
    with caplog.at_level(logging.DEBUG, logger="theriac.unlearning.dampening.unchanged"):
        Unchanged(model, X[:1], count=6, budget=0)
    assert "the outputs of 0 submodules are remembered" in caplog.text
