"""Two groups of responses are told apart, and one is not torn in two."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from theriac.search.guarded.groups import (
    ENOUGH_FOUND,
    FAR,
    MORE_DIVERSE,
    NOBODY,
    Responses,
    Suspicion,
    suspect,
    together,
)

SEEDS = st.integers(0, 2**31 - 1)
SHARES = st.sampled_from([0.01, 0.05, 0.3, 0.5, 0.8])


def spread(count: int, mean: float) -> Tensor:
    """Quantiles of a normal distribution: a few samples of it, none by chance all above its middle."""
    return mean + torch.special.ndtri((torch.arange(count) + 0.5) / count)


def normal(seed: int, count: int, mean: float, deviation: float = 1.0) -> Tensor:
    """Without the one sample in 16,000 that lies further out."""
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return mean + deviation * noise.clamp(-4, 4)


def mixed(seed: int, count: int, share: float, *, apart: float = 10.0) -> tuple[Tensor, Tensor]:
    """Falls of ``count`` samples of which a share is hidden poison, and which those are."""
    poisoned = torch.zeros(count).bool()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    poisoned[order[: round(share * count)]] = True
    falls = torch.where(poisoned, normal(seed, count, apart), normal(seed + 1, count, 0.0))
    return falls, poisoned


def responses(falls: Tensor, runners: Tensor | int = 1) -> Responses:
    return Responses(falls=falls, runners=torch.as_tensor(runners).expand(len(falls)))


def told_apart(retain: Tensor, forget: Tensor) -> Suspicion:
    """By the falls alone: what the model would say instead is always the same."""
    return suspect(responses(retain), responses(forget), 10)


def nothing_suspected(suspicion: Suspicion) -> bool:
    return not suspicion.retain.any() and bool(suspicion.forget.all())


@given(seed=SEEDS, share=SHARES, found=st.sampled_from([1, 5, 100]))
def test_hidden_poison_is_told_from_the_rest(seed: int, share: float, found: int):
    falls, poisoned = mixed(seed, 600, share)
    suspicion = told_apart(falls, normal(seed + 2, found, 10.0))
    assert torch.equal(suspicion.retain, poisoned)
    assert suspicion.forget.all()
    assert suspicion.separation >= FAR


@given(seed=SEEDS, share=SHARES, wrong=st.sampled_from([0.1, 0.5, 0.8]))
def test_wrongly_flagged_samples_are_not_believed(seed: int, share: float, wrong: float):
    falls, poisoned = mixed(seed, 600, share)
    flagged, poison = mixed(seed + 5, 40, 1 - wrong)
    suspicion = told_apart(falls, flagged)
    assert torch.equal(suspicion.retain, poisoned)
    assert torch.equal(suspicion.forget, poison)


@given(seed=SEEDS)
def test_where_all_poison_was_found_only_the_found_are_of_the_group(seed: int):
    falls, _ = mixed(seed, 600, 0.0)
    suspicion = told_apart(falls, normal(seed + 2, 60, 10.0))
    assert not suspicion.retain.any()
    assert suspicion.forget.all()
    assert suspicion.separation >= FAR


@given(seed=SEEDS, scale=st.sampled_from([1e-6, 1.0, 1e6]), shift=st.sampled_from([-3.0, 0.0, 3.0]))
def test_the_unit_of_the_falls_plays_no_part(seed: int, scale: float, shift: float):
    falls, _ = mixed(seed, 300, 0.1)
    found = normal(seed + 2, 5, 10.0)
    one, other = told_apart(falls, found), told_apart(scale * (falls + shift), scale * (found + shift))
    assert torch.equal(one.retain, other.retain)
    assert one.separation == pytest.approx(other.separation, rel=1e-3)


@given(seed=SEEDS, found=st.sampled_from([1, 5, 100]))
def test_one_normal_group_is_one(seed: int, found: int):
    suspicion = told_apart(normal(seed, 600, 1.0), spread(found, 1.0))
    assert nothing_suspected(suspicion)
    assert suspicion.separation < FAR


@given(seed=SEEDS, found=st.sampled_from([1, 5, 100]))
def test_one_exponential_group_is_one(seed: int, found: int):
    falls = torch.empty(2000).exponential_(generator=torch.Generator().manual_seed(seed))
    flagged = -torch.log((torch.arange(found) + 0.5) / found)
    assert nothing_suspected(told_apart(falls, flagged))


def test_a_wrongly_flagged_sample_does_not_condemn_hidden_poison_it_has_nothing_to_do_with():
    falls, _ = mixed(0, 600, 0.3)
    assert nothing_suspected(told_apart(falls, torch.tensor([0.0])))


@pytest.mark.parametrize("count", [0, 1, 600])
def test_equal_falls_are_one_group(count: int):
    suspicion = told_apart(torch.full((count,), 2.0), torch.full((3,), 2.0))
    assert nothing_suspected(suspicion)
    assert suspicion.separation == 0.0
    assert (len(suspicion.retain), len(suspicion.forget)) == (count, 3)


def test_groups_without_any_spread_are_two():
    suspicion = told_apart(torch.tensor([0.0, 0.0, 0.0, 4.0]), torch.tensor([4.0]))
    assert suspicion.retain.tolist() == [False, False, False, True]
    assert suspicion.separation == float("inf")


def test_suspicions_of_several_targets_each_know_their_own_class():
    one = Suspicion(
        retain=torch.tensor([True, False]), forget=torch.tensor([True]), separation=3.0, apart=True
    )
    other = Suspicion(
        retain=torch.tensor([False]), forget=torch.tensor([True, False]), separation=1.0, apart=False
    )
    both = together({4: one, 7: other}, torch.tensor([7, 4, 7]), torch.tensor([4, 7, 4]))
    assert both.retain.tolist() == [True, False, False]
    assert both.forget.tolist() == [False, True, False]
    assert (both.separation, both.apart) == (1.0, True)

    neither = together({7: other}, torch.tensor([7, 7]), torch.tensor([7]))
    assert neither.forget.tolist() == [True, False]


def near(seed: int, share: float = 0.3) -> tuple[Tensor, Tensor]:
    """Falls of two groups that a normal one cut in half could be, and which are of the upper one."""
    falls, poisoned = mixed(seed, 600, share, apart=3.4)
    return falls, poisoned


@given(seed=SEEDS)
def test_groups_that_lie_near_are_two_only_where_the_upper_is_next_to_many_classes(seed: int):
    falls, poisoned = near(seed)
    found, alike = torch.tensor([3.4]), torch.arange(600) % 2 + 1
    many = torch.where(poisoned, torch.arange(600) % 9 + 1, alike)
    assert nothing_suspected(suspect(responses(falls, alike), responses(found), 10))
    seen = suspect(responses(falls, many), responses(found), 10)
    assert seen.apart
    assert float((seen.retain == poisoned).double().mean()) > 0.9


def test_many_classes_are_more_than_those_of_the_lower_group():
    falls, poisoned = mixed(1, 600, 0.3, apart=3.0)
    found = responses(torch.tensor([3.0]))
    for below, apart in ((9, False), (int(6 / MORE_DIVERSE) - 1, True)):
        runners = torch.where(poisoned, torch.arange(600) % 9, torch.arange(600) % below)
        assert suspect(responses(falls, runners), found, 10).apart is apart


def test_with_few_classes_most_of_them_are_many():
    falls, poisoned = mixed(1, 600, 0.3, apart=3.0)
    found = responses(torch.tensor([3.0]))
    runners = torch.where(poisoned, torch.arange(600) % 2 + 1, 1)
    assert suspect(responses(falls, runners), found, 3).apart
    assert not suspect(responses(falls, runners), found, 5).apart


@pytest.mark.parametrize("rest", ["one group", "two groups"])
def test_among_samples_that_did_not_respond_others_are_found_where_there_are_two_groups(rest: str):
    falls, poisoned = mixed(3, 600, 0.2 if rest == "two groups" else 0.0)
    seen = suspect(responses(falls), NOBODY, 10)
    assert torch.equal(seen.retain, poisoned)
    assert seen.apart is (rest == "two groups")
    assert seen.forget.shape == (0,)


def test_a_lone_sample_that_responds_like_no_other_condemns_nothing():
    falls, _ = mixed(0, 600, 0.0)
    assert nothing_suspected(told_apart(falls, torch.tensor([50.0])))
    assert told_apart(falls, torch.full((ENOUGH_FOUND,), 50.0)).apart


@pytest.mark.parametrize(("fall", "believed"), [(4.0, True), (0.0, False)])
def test_a_lone_sample_may_fall_less_than_the_poison_it_leads_to(fall: float, believed: bool):
    falls, poisoned = mixed(0, 600, 0.3)
    seen = told_apart(falls, torch.tensor([fall]))
    assert seen.apart is believed
    assert torch.equal(seen.retain, poisoned & believed)


@given(seed=SEEDS, found=st.sampled_from([10, 50]))
def test_many_found_samples_that_nearly_always_fall_further_are_believed(seed: int, found: int):
    retain = normal(seed, 300, 0.0)
    assert told_apart(retain, spread(found, 2.5)).apart
    assert not told_apart(retain, spread(found, 0.0)).apart


def test_nobody_is_suspected_where_nobody_is_left():
    seen = suspect(NOBODY, NOBODY, 10, known=1.0)
    assert (seen.apart, seen.separation, len(seen.retain), len(seen.forget)) == (False, 0.0, 0, 0)


@pytest.mark.parametrize(("fall", "apart"), [(1.0, True), (60.0, False)])
def test_suspects_fall_like_those_they_are_suspected_for(fall: float, apart: bool):
    falls, poisoned = mixed(3, 600, 0.2)
    seen = suspect(responses(falls), NOBODY, 10, known=fall)
    assert seen.apart is apart
    assert torch.equal(seen.retain, poisoned & apart)
