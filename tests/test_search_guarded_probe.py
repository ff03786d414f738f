"""The probe is fair, and the same every time."""

from __future__ import annotations

import pytest
import torch

from theriac.search.given.batches import Batches, as_batches
from theriac.search.guarded.probe import draw_probe, take

LABELS = torch.arange(2000) % 10
WRONG = torch.arange(2000) % 7 == 0
PREDICTIONS = torch.where(WRONG, (LABELS + 1) % 10, LABELS)


def test_a_probe_holds_samples_of_the_targets_that_the_victim_believes_and_any_others():
    probe = draw_probe(PREDICTIONS, LABELS, torch.tensor([3]), target=50, other=100)
    assert (len(probe.target), len(probe.other)) == (50, 100)
    assert (LABELS[probe.target] == 3).all()
    assert (LABELS[probe.other] != 3).all()
    assert not WRONG[probe.target].any()
    assert 0 < int(WRONG[probe.other].sum()) < 50
    for positions in (probe.target, probe.other):
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
    assert not torch.equal(one.other, (LABELS != 3).nonzero().flatten()[:100])
    assert int(one.other.max()) > 1500


def test_all_there_are_where_there_are_no_more():
    probe = draw_probe(PREDICTIONS, LABELS, torch.tensor([3]), target=10**6, other=10**6)
    wanted = (~WRONG | (LABELS != 3)).nonzero().flatten()
    assert torch.equal(torch.cat([probe.target, probe.other]).sort().values, wanted)


@pytest.mark.parametrize(
    ("targets", "target", "other", "rate"), [([0], 5, 0, 1.0), ([1], 0, 5, 0.0), ([0, 1], 5, 0, 1.0)]
)
def test_a_sort_that_does_not_occur(targets: list[int], target: int, other: int, rate: float):
    labels = torch.zeros(5).long()
    probe = draw_probe(labels, labels, torch.tensor(targets), target=10, other=10)
    assert (len(probe.target), len(probe.other), probe.target_rate) == (target, other, rate)


@pytest.mark.parametrize("count", [0, 5])
def test_a_victim_that_believes_nothing_gives_no_samples_of_the_targets(count: int):
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
