"""Dampening against the reference, and its edge cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests import reference
from theriac.unlearning.dampening.rule import Ratios, alpha_at, check_settings, dampen
from theriac.unlearning.importance.estimate import Importance

Values = dict[str, Tensor]

# exact in float32, with many zeros and many equal ratios
SIZES = st.one_of(
    st.just(0.0),
    st.sampled_from([0.5, 1.0, 2.0, 8.0]),
    st.floats(2.0**-40, 2.0**40, width=32, allow_subnormal=False),
)
WEIGHTS = st.floats(-100, 100, width=32)
PERCENTILES = st.one_of(st.sampled_from([0.0, 50.0, 99.99, 100.0]), st.floats(0, 100))
ALPHAS = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0, 1e6]), st.floats(0, 1e6))
CONSTANTS = st.one_of(st.just(1.0), st.floats(1e-3, 1e8))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Values, Values, Values]:
    """Parameters, forget and retain importances of a model with two tensors."""
    names = {"weight": (draw(st.integers(1, 4)), 3), "bias": (draw(st.integers(1, 5)),)}

    def values(numbers: st.SearchStrategy[float]) -> Values:
        result = {}
        for name, shape in names.items():
            count = math.prod(shape)
            result[name] = torch.tensor(draw(st.lists(numbers, min_size=count, max_size=count))).reshape(
                shape
            )
        return result

    return values(WEIGHTS), values(SIZES), values(SIZES)


def finite_ratios(forget: Values, retain: Values) -> np.ndarray:
    parts = [(forget[n] / retain[n]).flatten() for n in forget]
    ratios = torch.cat(parts).numpy()
    return ratios[np.isfinite(ratios)]


@given(problem=problems(), percentile=PERCENTILES)
def test_alpha_is_numpys_percentile_bit_for_bit(
    problem: tuple[Values, Values, Values], percentile: float
) -> None:
    _, forget, retain = problem
    finite = finite_ratios(forget, retain)
    if not len(finite):
        with pytest.raises(BadInput, match="no parameter has a finite ratio"):
            alpha_at(forget, retain, percentile)
        return
    alpha = alpha_at(forget, retain, percentile)
    assert type(alpha) is float
    assert alpha == float(np.percentile(finite, np.float64(percentile)))
    slow = reference.alpha_at(forget, retain, percentile)
    assert alpha == pytest.approx(slow, rel=1e-5, abs=1e-6 * float(finite.max()))


def test_alpha_of_many_ratios() -> None:
    generator = torch.Generator().manual_seed(0)
    forget = {"w": torch.rand(30_000, generator=generator), "b": torch.rand(1, generator=generator)}
    retain = {"w": torch.rand(30_000, generator=generator) ** 4, "b": torch.rand(1, generator=generator)}
    ratios, finite = Ratios(forget, retain), finite_ratios(forget, retain)
    for percentile in [*np.linspace(0, 100, 37), *(100 - np.geomspace(1e-6, 5, 37))]:
        assert ratios.alpha_at(float(percentile)) == float(np.percentile(finite, np.float64(percentile)))
    assert ratios.finite.dtype == np.float32
    assert (np.diff(ratios.finite) >= 0).all()


def test_infinite_ratios_are_counted_and_left_out() -> None:
    forget = {"w": torch.tensor([0.0, 1.0, 2.0, 3.0, 8.0])}
    retain = {"w": torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0])}
    ratios = Ratios(forget, retain)
    assert ratios.finite.tolist() == [3.0, 4.0]
    assert ratios.infinite == 2
    assert ratios.alpha_at(50) == 3.5


@given(problem=problems(), alpha=ALPHAS, constant=CONSTANTS)
def test_dampening_agrees_with_the_reference(
    problem: tuple[Values, Values, Values], alpha: float, constant: float
) -> None:
    parameters, forget, retain = problem
    alpha = float(np.float32(alpha))
    found = dampen(parameters, forget, retain, alpha, constant)
    expected = reference.dampen(parameters, forget, retain, alpha, constant)
    assert found.keys() == parameters.keys()
    for name, value in found.items():
        clear = straddles_not(forget[name], retain[name], alpha)
        torch.testing.assert_close(
            value.double()[clear], expected[name][clear], rtol=1e-5, atol=1e-30, equal_nan=False
        )


def straddles_not(forget: Tensor, retain: Tensor, alpha: float) -> Tensor:
    """Where float32 and float64 must agree on what is selected; exact products are compared too."""
    bound = alpha * retain.double()
    exact = bound == bound.float().double()
    return exact | ((forget.double() - bound).abs() > 1e-6 * bound)


@given(problem=problems(), percentile=PERCENTILES)
def test_importances_scaled_together_select_the_same(
    problem: tuple[Values, Values, Values], percentile: float
) -> None:
    parameters, forget, retain = problem
    if not len(finite_ratios(forget, retain)):
        return
    alpha = alpha_at(forget, retain, percentile)
    found = dampen(parameters, forget, retain, alpha)
    scaled = [{name: 4 * value for name, value in values.items()} for values in (forget, retain)]
    again = dampen(parameters, scaled[0], scaled[1], alpha_at(scaled[0], scaled[1], percentile))
    assert all(torch.equal(found[name], again[name]) for name in found)


def one(theta: float, forget: float, retain: float, alpha: float, constant: float = 1.0) -> float:
    found = dampen(
        {"w": torch.tensor([theta])},
        {"w": torch.tensor([forget])},
        {"w": torch.tensor([retain])},
        alpha,
        constant,
    )
    return found["w"].item()


def test_cases_by_hand() -> None:
    assert one(3.0, 4.0, 1.0, alpha=2.0) == 0.75
    assert one(-3.0, 4.0, 1.0, alpha=2.0) == -0.75
    assert one(3.0, 4.0, 1.0, alpha=4.0) == 3.0  # not above alpha
    assert one(3.0, 4.0, 1.0, alpha=2.0, constant=2.0) == 1.5
    assert one(3.0, 4.0, 1.0, alpha=2.0, constant=8.0) == 3.0  # never enlarged
    assert one(3.0, 0.75, 1.0, alpha=0.5) == 3.0  # alpha < r < 1
    assert one(3.0, 0.75, 1.0, alpha=0.5, constant=0.5) == 2.0
    for alpha in (0.0, 1.0, 1e9):
        assert one(3.0, 0.0, 0.0, alpha) == 3.0  # 0/0
        assert one(3.0, 1e-30, 0.0, alpha) == 0.0  # x/0
        assert one(3.0, 0.0, 2.0, alpha) == 3.0


def importance(mean: Values, count: int, **sort: Any) -> Importance:
    total = {name: value.double() * count for name, value in mean.items()}
    return Importance(total=total, count=count, kind="xlf", granularity="sample", **sort)


def test_importances_are_averaged_first() -> None:
    forget = {"w": torch.tensor([4.0, 1.0, 2.0])}
    retain = {"w": torch.tensor([1.0, 1.0, 8.0])}
    parameters = {"w": torch.ones(3)}
    sums = importance(forget, 3), importance(retain, 500)
    assert alpha_at(*sums, 50) == alpha_at(forget, retain, 50) == 1.0
    found = dampen(parameters, *sums, 1.5)["w"]
    assert found.tolist() == dampen(parameters, forget, retain, 1.5)["w"].tolist() == [0.25, 1.0, 1.0]


def test_nothing_given_is_changed_and_nothing_is_shared() -> None:
    model = nn.Linear(3, 2)
    parameters = dict(model.named_parameters())
    forget = {name: torch.full_like(p, 2.0).detach() for name, p in parameters.items()}
    retain = {name: torch.ones_like(p).detach() for name, p in parameters.items()}
    before = [value.clone() for values in (parameters, forget, retain) for value in values.values()]
    for alpha in (1.0, 5.0):
        found = dampen(parameters, forget, retain, alpha)
        for name, value in found.items():
            assert not value.requires_grad
            value.zero_()
            assert value.data_ptr() != parameters[name].data_ptr()
    after = [value for values in (parameters, forget, retain) for value in values.values()]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_precision_of_the_weights_stays(dtype: torch.dtype) -> None:
    parameters = {"w": torch.tensor([3.0, 3.0, 1000.0], dtype=dtype)}
    forget = {"w": torch.tensor([3.0, 1.0, 1e9])}
    found = dampen(parameters, forget, {"w": torch.ones(3)}, 2.0)["w"]
    assert found.dtype == dtype
    # rounded once: a factor of 1e-9 in float16 would be 0, and 3 * (1/3) would not be 1
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0, 1e-6], dtype=dtype), rtol=1e-6, atol=0)


def test_importances_of_another_model() -> None:
    plain = {"w": torch.ones(2, 3), "b": torch.ones(3)}
    fewer = {"w": torch.ones(2, 3)}
    turned = {"w": torch.ones(3, 2), "b": torch.ones(3)}
    for given_ in ((plain, fewer, plain), (plain, plain, fewer), (fewer, plain, plain)):
        with pytest.raises(BadInput, match="importances of another model: 'b' is in only one of them"):
            dampen(*given_, 1.0)
    for given_ in ((plain, turned, plain), (plain, plain, turned)):
        with pytest.raises(BadInput, match=r"'w' has shape \(3, 2\) instead of \(2, 3\)"):
            dampen(*given_, 1.0)
    with pytest.raises(BadInput, match="'b' is in only one of them"):
        alpha_at(plain, fewer, 50)
    with pytest.raises(BadInput, match="'w' has shape"):
        alpha_at(plain, turned, 50)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_importances_that_are_no_sizes(value: float) -> None:
    good, wrong = {"w": torch.ones(2)}, {"w": torch.tensor([1.0, value])}
    for pair in ((good, wrong), (wrong, good)):
        with pytest.raises(BadInput, match="the importance of 'w' is negative, infinite or NaN"):
            alpha_at(*pair, 50)
        with pytest.raises(BadInput, match="the importance of 'w' is negative, infinite or NaN"):
            dampen(good, *pair, 1.0)


def test_settings_out_of_range() -> None:
    ones = {"w": torch.ones(2)}
    for alpha in (-1e-9, math.nan, math.inf):
        with pytest.raises(BadInput, match=f"alpha {alpha}: give a finite selection threshold, 0 or more"):
            dampen(ones, ones, ones, alpha)
    for constant in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(BadInput, match=f"dampening constant {constant}: give a finite lambda above 0"):
            dampen(ones, ones, ones, 1.0, constant)
    for percentile in (-1e-9, 100.0001, math.nan):
        with pytest.raises(BadInput, match=f"percentile {percentile}: give a number from 0 to 100"):
            alpha_at(ones, ones, percentile)
    check_settings(0.0, 1e-9)
