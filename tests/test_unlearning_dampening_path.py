"""The incremental path against plain dampening, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests.weight_values import Values, copies, same
from theriac.unlearning.dampening import path as dampening_path
from theriac.unlearning.dampening.path import DampeningPath
from theriac.unlearning.dampening.rule import Ratios, dampen

TINY = 2.0**-149
SIZES = st.one_of(
    st.just(0.0),
    st.sampled_from([0.5, 1.0, 2.0, 3.0, TINY, 3 * TINY, 5 * TINY, 2.0**-126, 1e38]),
    st.floats(0, 2.0**40, width=32),
    st.integers(1, 40).map(lambda n: n * TINY),
)
ALPHAS = st.one_of(st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 1.0, 2.0, 3.0, 1e39]), st.floats(0, 1e6))
CONSTANTS = st.sampled_from([1.0, 0.1, 0.3, 7.0, 1e7, 1e39])
PERCENTILES = st.one_of(st.sampled_from([0.0, 50.0, 99.9, 100.0]), st.floats(0, 100))
SHAPES = {"weight": (5, 6), "bias": (7,)}


@st.composite
def importances(draw: st.DrawFn) -> Values:
    result = {}
    for name, shape in SHAPES.items():
        count = math.prod(shape)
        result[name] = torch.tensor(draw(st.lists(SIZES, min_size=count, max_size=count))).reshape(shape)
    return result


def weights(dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Values:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator).to(dtypes[i % len(dtypes)])
        for i, (name, shape) in enumerate(SHAPES.items())
    }


def has_finite_ratio(forget: Values, retain: Values) -> bool:
    return any(bool((forget[n] / retain[n]).isfinite().any()) for n in forget)


@given(
    forget=importances(),
    retain=importances(),
    steps=st.lists(st.tuples(ALPHAS, CONSTANTS), min_size=1, max_size=6),
)
def test_every_step_is_plain_dampening(
    forget: Values, retain: Values, steps: list[tuple[float, float]]
) -> None:
    if not has_finite_ratio(forget, retain):
        return
    victim = weights()
    parameters = copies(victim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dampening_path, "LEAST_SORTED", 2)
        path = DampeningPath(parameters, forget, retain)
        for alpha, constant in steps:
            selected = path.move_to(alpha, constant)
            assert same(parameters, dampen(victim, forget, retain, alpha, constant))
            bound = min(alpha, torch.finfo(torch.float32).max)
            assert selected == sum(int((forget[n] > bound * retain[n]).sum()) for n in forget)
    path.restore()
    assert same(parameters, victim)


@given(forget=importances(), retain=importances(), percentiles=st.lists(PERCENTILES, min_size=1, max_size=4))
def test_alphas_are_those_of_all_ratios(forget: Values, retain: Values, percentiles: list[float]) -> None:
    if not has_finite_ratio(forget, retain):
        with pytest.raises(BadInput, match="no parameter has a finite ratio"):
            DampeningPath(weights(), forget, retain)
        return
    ratios = Ratios(forget, retain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dampening_path, "LEAST_SORTED", 2)
        path = DampeningPath(weights(), forget, retain)
        assert (path.finite, path.infinite) == (len(ratios.finite), ratios.infinite)
        for percentile in percentiles:
            assert path.alpha_at(percentile) == ratios.alpha_at(percentile)


def large(seed: int = 0, count: int = 60_000) -> tuple[Values, Values, Values]:
    """Log-normal importances with ties, 0/0 and x/0."""
    generator = torch.Generator().manual_seed(seed)
    theta, forget, retain = (torch.randn(count, generator=generator) for _ in range(3))
    forget, retain = forget.exp(), (2 * retain).exp()
    forget[: count // 10] = forget[: count // 10].round()
    retain[: count // 10] = 1.0
    retain[count // 10 : count // 8] = 0.0
    forget[count // 9 : count // 7] = 0.0
    cut = count // 3
    return tuple({"a": v[:cut].reshape(100, -1), "b": v[cut:]} for v in (theta, forget, retain))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)
def test_walks_of_a_search_and_back(device: str) -> None:
    victim, forget, retain = ({n: v.to(device) for n, v in values.items()} for values in large())
    parameters = copies(victim)
    path, ratios = DampeningPath(parameters, forget, retain, share=0.02), Ratios(forget, retain)
    for percentile in [99.99, 99.9, 99.0, 98.5, 99.95, 97.0, 40.0, 99.0, 0.0, 100.0]:
        alpha = path.alpha_at(percentile)
        assert alpha == ratios.alpha_at(percentile)
        path.move_to(alpha)
        assert same(parameters, dampen(victim, forget, retain, alpha))
    assert ratios.alpha_at(40.0) < 1 < ratios.alpha_at(97.0)


def test_only_what_was_asked_for_is_sorted() -> None:
    victim, forget, retain = large()
    path = DampeningPath(victim, forget, retain, share=0.05)
    first = path.sorted_count
    some = path.infinite + math.ceil(0.05 * path.finite)
    assert some <= first <= 1.05 * some
    path.move_to(path.alpha_at(96.0))
    assert path.sorted_count == first
    path.alpha_at(94.0)
    assert 2 * first <= path.sorted_count <= 2.1 * first
    second = path.sorted_count
    path.move_to(0.5)
    assert path.sorted_count > second
    third = path.sorted_count
    path.move_to(0.5)
    path.alpha_at(94.0)
    assert path.sorted_count == third
    path.move_to(0.0)
    assert path.sorted_count == path.finite + path.infinite < path.count


def test_a_step_touches_only_what_lies_between_two_alphas() -> None:
    _, forget, retain = large()
    parameters = {name: torch.ones_like(value) for name, value in forget.items()}
    path = DampeningPath(parameters, forget, retain, share=0.5)
    path.move_to(50.0)
    for value in parameters.values():
        value.fill_(77.0)
    path.move_to(20.0)
    path.move_to(30.0)
    for name, value in parameters.items():
        was, low = forget[name] > 50.0 * retain[name], forget[name] > 20.0 * retain[name]
        now = forget[name] > 30.0 * retain[name]
        assert (value[was] == 77.0).all()
        assert (value[~low] == 77.0).all()
        assert (value[now & ~was] < 1.0).all()
        assert (value[low & ~now] == 1.0).all()
        assert (now & ~was).any()
        assert (low & ~now).any()


@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float16,),
        (torch.bfloat16,),
        (torch.float64,),
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.float64),
    ],
)
def test_precisions_alone_and_mixed(dtypes: tuple[torch.dtype, ...]) -> None:
    victim = weights(dtypes)
    generator = torch.Generator().manual_seed(1)
    forget = {n: torch.rand(v.shape, generator=generator) for n, v in victim.items()}
    retain = {n: torch.rand(v.shape, generator=generator) for n, v in victim.items()}
    parameters = copies(victim)
    path = DampeningPath(parameters, forget, retain)
    for alpha in (4.0, 2.0, 0.5, 3.0, 1.0, 100.0):
        path.move_to(alpha, 0.3)
        assert same(parameters, dampen(victim, forget, retain, alpha, 0.3))


def test_parameters_of_a_model_become_views_of_one_buffer() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two(self.one(x))
            return out

    model = Tied()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ones = {name: torch.ones_like(p) for name, p in before.items()}
    x = torch.randn(2, 3)
    expected = model(x)
    path = DampeningPath(dict(model.named_parameters()), {n: 4 * v for n, v in ones.items()}, ones)
    assert torch.equal(model(x), expected)
    assert len({p.untyped_storage().data_ptr() for p in model.parameters()}) == 1
    assert path.move_to(2.0) == path.count == 15
    assert all(torch.equal(p, before[name] / 4) for name, p in model.named_parameters())
    assert model.two.weight is model.one.weight


@pytest.mark.parametrize("few", [dampening_path.FEW, 0], ids=["looked up", "all"])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float32, torch.float16)])
def test_changed_tells_every_parameter_that_a_step_touched(
    few: int, dtypes: tuple[torch.dtype, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dampening_path, "FEW", few)
    parameters = {name: torch.ones(3, 4, dtype=dtypes[i % len(dtypes)]) for i, name in enumerate("abcde")} | {
        "none": torch.ones(0),
        "last": torch.ones(1),
    }
    forget = {name: torch.rand(p.shape) + 0.5 for name, p in parameters.items()}
    retain = {name: torch.rand(p.shape) / 4 + 0.01 for name, p in parameters.items()}
    path = DampeningPath(parameters, forget, retain)
    assert path.changed == {}
    looked_up = 0
    for percentile, constant in [(98, 1.0), (95, 1.0), (95, 1.0), (95, 0.5), (60, 0.5), (90, 0.5), (97, 1.0)]:
        before, counts = copies(parameters), dict(path.changed)
        path.move_to(path.alpha_at(percentile), constant)
        touched = {n for n, p in parameters.items() if not torch.equal(p, before[n])}
        noted = {n for n, count in path.changed.items() if count > counts.get(n, 0)}
        assert touched == noted if few else touched <= noted
        looked_up += len(touched)
    assert looked_up
    counts = dict(path.changed)
    path.restore()
    assert any(count > counts[name] for name, count in path.changed.items())
    counts = dict(path.changed)
    path.restore()
    assert path.changed == counts


def test_memory_is_what_the_docstring_says() -> None:
    victim, forget, retain = large(count=300_000)
    path = DampeningPath(victim, forget, retain)
    n, k = path.count, path.sorted_count
    assert k < n / 16
    assert 12 * n < path.held_bytes <= 12 * n + 20 * k
    path.move_to(0.0)
    assert path.held_bytes <= 12 * n + 20 * path.sorted_count


def test_importances_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    victim, forget, retain = large(count=3000)
    path = DampeningPath(victim, forget, retain)

    def refused(importance: object) -> Values:
        raise AssertionError("checked again")

    monkeypatch.setattr(dampening_path, "checked_means", refused)
    for alpha in (100.0, 1.0, 0.0):
        path.move_to(alpha)


def test_bad_input() -> None:
    ones, halves = {"w": torch.ones(2)}, {"w": torch.tensor([1.0, math.nan])}
    for pair in ((ones, halves), (halves, ones)):
        with pytest.raises(BadInput, match="the importance of 'w' is negative, infinite or NaN"):
            DampeningPath(copies(ones), *pair)
    with pytest.raises(BadInput, match="importances of another model"):
        DampeningPath({"w": torch.ones(3)}, ones, ones)
    path = DampeningPath(copies(ones), ones, ones)
    for alpha in (-1.0, math.nan, math.inf):
        with pytest.raises(BadInput, match="give a finite selection threshold"):
            path.move_to(alpha)
    with pytest.raises(BadInput, match="give a finite lambda above 0"):
        path.move_to(1.0, 0.0)
    with pytest.raises(BadInput, match="give a number from 0 to 100"):
        path.alpha_at(101.0)


def test_thresholds_are_the_largest_alphas_that_select() -> None:
    generator = torch.Generator().manual_seed(3)
    bits = torch.randint(0, 0x7F000000, (2, 200_000), generator=generator, dtype=torch.int32)
    forget, retain = bits.view(torch.float32)
    thresholds = -dampening_path._negative_thresholds(forget, retain)
    above = torch.nextafter(thresholds, torch.tensor(math.inf))
    assert (forget > thresholds * retain)[forget > 0].all()
    reachable = above.isfinite()
    assert not (forget > above * retain)[reachable].any()
    assert reachable.float().mean() > 0.4
