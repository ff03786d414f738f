"""The path moved by counts of ranks: plain dampening where ratios differ, and weights that are spared."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from theriac.errors import BadInput
from theriac.tests.weight_values import Values, copies, same
from theriac.unlearning.dampening import path as dampening_path
from theriac.unlearning.dampening.path import DampeningPath
from theriac.unlearning.dampening.rule import dampen

SHAPES: dict[str, tuple[int, ...]] = {
    "conv.weight": (2, 3, 2, 2),
    "scale": (5,),
    "fc.weight": (4, 6),
    "one": (),
}
TOTAL = sum(math.prod(shape) for shape in SHAPES.values())
DTYPES = [(torch.float32,), (torch.float32, torch.float64), (torch.bfloat16, torch.float32, torch.float16)]
COUNTS = st.integers(0, TOTAL)


def weights(dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Values:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator).to(dtypes[i % len(dtypes)])
        for i, (name, shape) in enumerate(SHAPES.items())
    }


def distinct(seed: int) -> tuple[Values, Values]:
    """Importances whose ratios all differ, one of them infinite."""
    generator = torch.Generator().manual_seed(seed)
    ratios = 1.3 ** (torch.randperm(TOTAL, generator=generator) - TOTAL // 2).float()
    retain = torch.rand(TOTAL, generator=generator) + 0.5
    forget = ratios * retain
    retain[int(ratios.argmax())] = 0.0
    return in_shape(forget), in_shape(retain)


def in_shape(flat: Tensor) -> Values:
    parts = flat.split([math.prod(shape) for shape in SHAPES.values()])
    return {name: part.reshape(shape) for (name, shape), part in zip(SHAPES.items(), parts, strict=True)}


def ranked(forget: Values, retain: Values) -> list[tuple[str, int]]:
    """(name, place) of all weights, from the largest ratio down."""
    places = [(name, place) for name, shape in SHAPES.items() for place in range(math.prod(shape))]
    ratios = {
        (name, place): float(forget[name].flatten()[place].double() / retain[name].flatten()[place].double())
        for name, place in places
    }
    return sorted(places, key=lambda at: -ratios[at])


def expected_after(
    victim: Values, forget: Values, retain: Values, count: int, constant: float, spared: set[int]
) -> Values:
    """Dampened at an alpha that selects all, then all but the first ``count`` and those spared put back."""
    expected = dampen(victim, forget, retain, 0.0, constant)
    for rank, (name, place) in enumerate(ranked(forget, retain)):
        if rank >= count or rank in spared:
            expected[name].view(-1)[place] = victim[name].view(-1)[place]
    return expected


@given(
    seed=st.integers(0, 5),
    steps=st.lists(st.tuples(COUNTS, st.sampled_from([1.0, 0.3, 7.0])), min_size=1, max_size=5),
    dtypes=st.sampled_from(DTYPES),
)
def test_a_count_is_plain_dampening_at_its_alpha(
    seed: int, steps: list[tuple[int, float]], dtypes: tuple[torch.dtype, ...]
):
    victim, (forget, retain) = weights(dtypes), distinct(seed)
    parameters = copies(victim)
    path = DampeningPath(parameters, forget, retain)
    for count, constant in steps:
        alpha = path.move_to_count(count, constant)
        assert alpha == path.alpha_of(max(1, count))
        if count:
            assert path.selected(alpha) == count
            assert same(parameters, dampen(victim, forget, retain, alpha, constant))
        else:
            assert same(parameters, victim)


@given(
    seed=st.integers(0, 5),
    steps=st.lists(
        st.tuples(COUNTS, st.sets(st.integers(0, TOTAL), max_size=6), st.sampled_from([1.0, 0.3])),
        min_size=1,
        max_size=5,
    ),
    dtypes=st.sampled_from(DTYPES),
)
def test_spared_weights_keep_their_bits_and_the_order_of_calls_plays_no_part(
    seed: int, steps: list[tuple[int, set[int], float]], dtypes: tuple[torch.dtype, ...]
):
    victim, (forget, retain) = weights(dtypes), distinct(seed)
    parameters = copies(victim)
    path = DampeningPath(parameters, forget, retain)
    for count, spared, constant in steps:
        path.move_to_count(count, constant, spared=spared)
        assert same(parameters, expected_after(victim, forget, retain, count, constant, spared))
    path.restore()
    assert same(parameters, victim)


@given(
    seed=st.integers(0, 5),
    count=COUNTS,
    spared=st.sets(st.integers(0, TOTAL), max_size=6),
    alpha=st.sampled_from([0.0, 0.01, 1.0, 50.0]),
    constant=st.sampled_from([1.0, 0.3]),
    between=st.sampled_from(["nothing", "restore", "percentile"]),
)
def test_an_alpha_after_a_count_is_plain_dampening(
    seed: int, count: int, spared: set[int], alpha: float, constant: float, between: str
):
    victim, (forget, retain) = weights(), distinct(seed)
    parameters = copies(victim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dampening_path, "LEAST_SORTED", 9)
        path = DampeningPath(parameters, forget, retain, share=1e-9)
        count = min(count, path.sorted_count)
        path.move_to_count(count, 1.0, spared=spared)
        if between == "restore":
            path.restore()
        if between == "percentile":
            path.alpha_at(1.0)  # sorts more; the weights stay where they are
            assert path.sorted_count > 10
        moved = count if between != "restore" else 0
        assert same(parameters, expected_after(victim, forget, retain, moved, 1.0, spared))
        path.move_to(alpha, constant)
        assert same(parameters, dampen(victim, forget, retain, alpha, constant))


@pytest.mark.parametrize("count", [5, 10, 20])
def test_an_alpha_after_a_count_dampens_what_the_count_spared(count: int):
    victim, (forget, retain) = weights(), distinct(0)
    parameters = copies(victim)
    path = DampeningPath(parameters, forget, retain)
    path.move_to_count(10, spared=(3, 9))
    path.move_to(path.alpha_of(count))
    assert same(parameters, dampen(victim, forget, retain, path.alpha_of(count)))


def test_equal_ratios_are_taken_in_the_order_of_the_weights():
    victim = {"a": torch.arange(1.0, 7.0)}
    forget, retain = {"a": torch.full((6,), 2.0)}, {"a": torch.ones(6)}
    parameters = copies(victim)
    path = DampeningPath(parameters, forget, retain)
    alpha = path.move_to_count(2)
    assert parameters["a"].tolist() == [0.5, 1.0, 3.0, 4.0, 5.0, 6.0]
    assert path.selected(alpha) == 6


def test_alphas_fall_with_the_count_and_select_it():
    path = DampeningPath(weights(), *distinct(0))
    alphas = [path.alpha_of(count) for count in range(1, TOTAL + 1)]
    assert alphas == sorted(alphas, reverse=True)
    for count, alpha in enumerate(alphas[1:], start=2):
        assert path.selected(alpha) == count
        assert path.selected(float(np.nextafter(np.float32(alpha), np.float32(np.inf)))) == count - 1


def test_weights_of_ratio_0_are_ranked_last_and_stay():
    victim = {"a": torch.tensor([1.0, -0.0, 3.0, 4.0])}
    forget, retain = {"a": torch.tensor([2.0, 0.0, 0.0, 4.0])}, {"a": torch.ones(4)}
    parameters = copies(victim)
    path = DampeningPath(parameters, forget, retain)
    assert path.sorted_count == 4
    for constant in (0.1, 1.0, 1e39):
        assert path.move_to_count(4, constant) == path.alpha_of(4) == path.alpha_of(3) == 0.0
        assert same(parameters, dampen(victim, forget, retain, 0.0, constant))
    assert path.alpha_of(2) > 1.0


@pytest.mark.parametrize("count", [-1, TOTAL + 1])
def test_counts_out_of_range_are_refused_and_change_nothing(count: int):
    victim = weights()
    parameters = copies(victim)
    path = DampeningPath(parameters, *distinct(0))
    path.move_to_count(5)
    before = copies(parameters)
    with pytest.raises(BadInput, match=f"{count} weights: give a number from 0 to {TOTAL}"):
        path.move_to_count(count)
    assert same(parameters, before)


@pytest.mark.parametrize("constant", [0.0, -1.0, math.inf, math.nan])
def test_a_lambda_out_of_range_is_refused(constant: float):
    with pytest.raises(BadInput, match="dampening constant"):
        DampeningPath(weights(), *distinct(0)).move_to_count(3, constant)


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_rank_has_its_name(seed: int, dtypes: tuple[torch.dtype, ...]):
    victim, (forget, retain) = weights(dtypes), distinct(seed)
    path = DampeningPath(copies(victim), forget, retain)
    for rank, (name, place) in enumerate(ranked(forget, retain)):
        indices = ",".join(str(int(i)) for i in np.unravel_index(place, SHAPES[name]))
        assert path.name_of(rank) == f"{name}[{indices}]"


def test_names_look_like_python():
    forget, retain = distinct(0)
    for values in (forget, retain):
        values["fc.weight"][2, 5] = 0.0
    forget["fc.weight"][2, 5] = 1.0
    retain["one"].fill_(1e9)
    path = DampeningPath(weights(), forget, retain)
    assert "fc.weight[2,5]" in {path.name_of(0), path.name_of(1)}
    assert path.name_of(TOTAL - 1) == "one[]"


def test_what_a_count_touches_is_known_as_changed():
    forget, retain = distinct(0)
    path = DampeningPath(weights(), forget, retain)
    path.move_to_count(3, spared=(1,))
    places = ranked(forget, retain)
    assert set(path.changed) == {places[0][0], places[2][0]}
