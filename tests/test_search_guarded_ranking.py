"""Suspicion grows where more responds, and ends where nobody is left."""

from __future__ import annotations

import pytest
import torch

from theriac.search.given.batches import as_batches
from theriac.search.guarded import responses as responding
from theriac.search.guarded.groups import Responses, Suspicion
from theriac.search.guarded.ranking import Accused
from theriac.search.guarded.responses import look_again, look_for_suspects
from theriac.search.importance_for import importance_for
from theriac.search.settings import heal_settings
from theriac.tests.poisoned import poisoned_digits
from theriac.unlearning.precision import Arithmetic

POISONED = poisoned_digits()
CPU = torch.device("cpu")
SETTINGS = heal_settings(search="guarded")
FOUND = as_batches(POISONED.found, name="forget set", device=CPU)
RETAIN = as_batches(POISONED.rest, name="retain set", device=CPU)


def test_who_is_suspected_later_joins_those_before():
    five = RETAIN.select(torch.arange(5))
    first = Accused(believed=FOUND, target=five, suspected=torch.tensor([False, True, False, False, True]))
    grown = first.grown(torch.tensor([True, False, True]))
    assert grown.suspected.tolist() == [True, True, False, True, True]
    assert first.suspected.tolist() == [False, True, False, False, True]
    assert (len(grown.suspects or ()), len(grown.clean or ())) == (4, 1)
    everybody = grown.grown(torch.tensor([True]))
    assert everybody.clean is None


def test_poison_that_was_overlooked_is_found_again_and_nobody_else():
    zeros = (POISONED.rest[1] == 0).nonzero().flatten()
    rest = RETAIN.select(zeros)
    poison = torch.cat([(x[..., 6:, 6:] == 1).all((1, 2, 3)) for x, _ in rest])
    pair = tuple(importance_for(SETTINGS, POISONED.model, one) for one in (FOUND, RETAIN))
    new = look_again(POISONED.model, FOUND, rest, (pair[0], pair[1]), 1.0, Arithmetic())
    assert 0 < int(poison.sum()) < len(zeros)
    assert torch.equal(new, poison)


def test_a_label_of_which_nobody_is_left_is_passed_over():
    others = RETAIN.select((POISONED.rest[1] == 4).nonzero().flatten())
    pair = tuple(importance_for(SETTINGS, POISONED.model, one) for one in (FOUND, RETAIN))
    new = look_again(POISONED.model, FOUND, others, (pair[0], pair[1]), 1.0, Arithmetic())
    assert new.shape == (len(others),)
    assert not new.any()


@pytest.mark.parametrize(("apart", "looks"), [(True, 1), (False, 2)])
def test_where_all_has_fallen_at_the_first_look_and_nothing_is_apart_there_is_a_second(
    monkeypatch: pytest.MonkeyPatch, apart: bool, looks: int
):
    falls = list[float]()

    def suspected(retain: Responses, forget: Responses, classes: int) -> Suspicion:
        falls.append(float(forget.falls.mean()))
        nobody, everybody = torch.zeros(len(retain.falls)).bool(), torch.ones(len(forget.falls)).bool()
        return Suspicion(retain=nobody, forget=everybody, separation=2.0, apart=apart)

    monkeypatch.setattr(responding, "suspect", suspected)
    monkeypatch.setattr(responding, "FALL", -1.0)
    zeros = RETAIN.select((POISONED.rest[1] == 0).nonzero().flatten())
    pair = tuple(importance_for(SETTINGS, POISONED.model, one) for one in (FOUND, RETAIN))
    seen = look_for_suspects(POISONED.model, FOUND, zeros, (pair[0], pair[1]), 1.0, Arithmetic())
    assert seen.apart == apart
    assert len(falls) == looks
    assert falls == sorted(falls)
