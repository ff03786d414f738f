"""Two groups of responses are told apart, one is not torn in two, and the probe is fair."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from theriac.search.inputs import Batches, as_batches
from theriac.search.probe import LEAST_SEPARATION, Suspicion, draw_probe, suspect, take, together

SEEDS = st.integers(0, 2**31 - 1)
SHARES = st.sampled_from([0.01, 0.05, 0.3, 0.5, 0.8])


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


def nothing_suspected(suspicion: Suspicion) -> bool:
    return not suspicion.retain.any() and bool(suspicion.forget.all())


@given(seed=SEEDS, share=SHARES, found=st.sampled_from([1, 5, 100]))
def test_hidden_poison_is_told_from_the_rest(seed: int, share: float, found: int):
    falls, poisoned = mixed(seed, 600, share)
    suspicion = suspect(falls, normal(seed + 2, found, 10.0))
    assert torch.equal(suspicion.retain, poisoned)
    assert suspicion.forget.all()
    assert suspicion.separation >= LEAST_SEPARATION


@given(seed=SEEDS, share=SHARES, wrong=st.sampled_from([0.1, 0.5, 0.8]))
def test_wrongly_flagged_samples_are_not_believed(seed: int, share: float, wrong: float):
    falls, poisoned = mixed(seed, 600, share)
    flagged, poison = mixed(seed + 5, 40, 1 - wrong)
    suspicion = suspect(falls, flagged)
    assert torch.equal(suspicion.retain, poisoned)
    assert torch.equal(suspicion.forget, poison)


@given(seed=SEEDS)
def test_where_all_poison_was_found_only_the_found_are_of_the_group(seed: int):
    falls, _ = mixed(seed, 600, 0.0)
    suspicion = suspect(falls, normal(seed + 2, 60, 10.0))
    assert not suspicion.retain.any()
    assert suspicion.forget.all()
    assert suspicion.separation >= LEAST_SEPARATION


@given(seed=SEEDS, scale=st.sampled_from([1e-6, 1.0, 1e6]), shift=st.sampled_from([-3.0, 0.0, 3.0]))
def test_the_unit_of_the_falls_plays_no_part(seed: int, scale: float, shift: float):
    falls, _ = mixed(seed, 300, 0.1)
    found = normal(seed + 2, 5, 10.0)
    one, other = suspect(falls, found), suspect(scale * (falls + shift), scale * (found + shift))
    assert torch.equal(one.retain, other.retain)
    assert one.separation == pytest.approx(other.separation, rel=1e-3)


@given(seed=SEEDS, found=st.sampled_from([1, 5, 100]))
def test_one_normal_group_is_one(seed: int, found: int):
    suspicion = suspect(normal(seed, 600, 1.0), normal(seed + 1, found, 1.0))
    assert nothing_suspected(suspicion)
    assert suspicion.separation < LEAST_SEPARATION


@given(seed=SEEDS, found=st.sampled_from([1, 5, 100]))
def test_one_exponential_group_is_one(seed: int, found: int):
    generator = torch.Generator().manual_seed(seed)
    falls, flagged = (torch.empty(n).exponential_(generator=generator) for n in (2000, found))
    assert nothing_suspected(suspect(falls, flagged))


def test_a_wrongly_flagged_sample_does_not_condemn_hidden_poison_it_has_nothing_to_do_with():
    falls, _ = mixed(0, 600, 0.3)
    assert nothing_suspected(suspect(falls, torch.tensor([0.0])))


@pytest.mark.parametrize("count", [0, 1, 600])
def test_equal_falls_are_one_group(count: int):
    suspicion = suspect(torch.full((count,), 2.0), torch.full((3,), 2.0))
    assert nothing_suspected(suspicion)
    assert suspicion.separation == 0.0
    assert (len(suspicion.retain), len(suspicion.forget)) == (count, 3)


def test_groups_without_any_spread_are_two():
    suspicion = suspect(torch.tensor([0.0, 0.0, 0.0, 4.0]), torch.tensor([4.0]))
    assert suspicion.retain.tolist() == [False, False, False, True]
    assert suspicion.separation == float("inf")


LABELS = torch.arange(2000) % 10
WRONG = torch.arange(2000) % 7 == 0
PREDICTIONS = torch.where(WRONG, (LABELS + 1) % 10, LABELS)


def test_a_probe_holds_samples_that_the_victim_believes():
    probe = draw_probe(PREDICTIONS, LABELS, torch.tensor([3]), target=50, other=100)
    assert (len(probe.target), len(probe.other)) == (50, 100)
    assert (LABELS[probe.target] == 3).all()
    assert (LABELS[probe.other] != 3).all()
    for positions in (probe.target, probe.other):
        assert not WRONG[positions].any()
        assert torch.equal(positions, positions.unique())


def test_the_rate_is_of_all_that_is_believed():
    probe = draw_probe(PREDICTIONS, LABELS, torch.tensor([3, 4, 5]), target=1, other=1)
    believed = ~WRONG
    among = believed & ((LABELS >= 3) & (LABELS <= 5))
    assert probe.target_rate == pytest.approx(int(among.sum()) / int(believed.sum()))


def test_a_probe_is_the_same_every_time_and_not_the_first_samples():
    one, again = (draw_probe(PREDICTIONS, LABELS, torch.tensor([3]), target=50, other=100) for _ in range(2))
    assert torch.equal(one.target, again.target)
    assert torch.equal(one.other, again.other)
    assert not torch.equal(one.other, ((LABELS != 3) & ~WRONG).nonzero().flatten()[:100])
    assert int(one.other.max()) > 1500


def test_all_there_are_where_there_are_no_more():
    probe = draw_probe(PREDICTIONS, LABELS, torch.tensor([3]), target=10**6, other=10**6)
    assert torch.equal(torch.cat([probe.target, probe.other]).sort().values, (~WRONG).nonzero().flatten())


@pytest.mark.parametrize(
    ("targets", "target", "other", "rate"), [([0], 5, 0, 1.0), ([1], 0, 5, 0.0), ([0, 1], 5, 0, 1.0)]
)
def test_a_sort_that_does_not_occur(targets: list[int], target: int, other: int, rate: float):
    labels = torch.zeros(5).long()
    probe = draw_probe(labels, labels, torch.tensor(targets), target=10, other=10)
    assert (len(probe.target), len(probe.other), probe.target_rate) == (target, other, rate)


@pytest.mark.parametrize("count", [0, 5])
def test_a_victim_that_believes_nothing_gives_an_empty_probe(count: int):
    labels = torch.zeros(count).long()
    probe = draw_probe(labels + 1, labels, torch.tensor([0]), target=10, other=10)
    assert (len(probe.target), len(probe.other), probe.target_rate) == (0, 0, 0.0)
    assert probe.target.dtype == torch.int64


def test_take():
    samples: Batches = as_batches(
        (torch.arange(6.0).reshape(6, 1), torch.arange(6)), name="retain set", device=torch.device("cpu")
    )
    assert take(samples, torch.zeros(0).long()) is None
    taken = take(samples, torch.tensor([1, 4]))
    assert taken is not None
    assert torch.cat([y for _, y in taken]).tolist() == [1, 4]


def test_suspicions_of_several_targets_each_know_their_own_class():
    one = Suspicion(
        retain=torch.tensor([True, False]), forget=torch.tensor([True]), separation=3.0, apart=True
    )
    other = Suspicion(
        retain=torch.tensor([False]), forget=torch.tensor([True, False]), separation=1.0, apart=False
    )
    both = together({4: one, 7: other}, torch.tensor([7, 4, 7]), torch.tensor([4, 7, 4]))
    assert both.retain.tolist() == [True, False, False]
    assert both.forget.tolist() == [True, True, False]
    assert (both.separation, both.apart) == (1.0, True)
