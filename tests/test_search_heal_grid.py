"""`theriac.heal(..., search="grid")` against plain dampening, and what a user gets to see of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import theriac
from theriac.errors import BadInput
from theriac.search.given.batches import as_batches, random_part
from theriac.search.grid.pairs import GoelGrid
from theriac.search.heal import Healing
from theriac.tests.poisoned import accuracy_of, poisoned_digits
from theriac.unlearning.dampening.rule import dampen
from theriac.unlearning.importance.estimate import estimate_importance

POISONED = poisoned_digits()
FOUND, REST = POISONED.found, POISONED.rest
SMALL: dict[str, Any] = {"alphas": (1.0, 5.0, 1e30), "relative_lambdas": (0.1, 1.0)}


def heal(**settings: Any) -> Healing:
    arguments = {"forget": FOUND, "retain": REST, "search": "grid", **settings}
    return theriac.heal(POISONED.model, **arguments)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(("method", "alphas"), [("ssd", GoelGrid().alphas), ("xlf", (2.0, 4.0, 8.0, 16.0))])
def test_it_heals(method: str, alphas: tuple[float, ...]):
    healing = heal(method=method, alphas=alphas)
    assert healing.status == "stopped"
    assert accuracy_of(healing.model, POISONED.triggered()) > 0.65
    assert accuracy_of(healing.model, POISONED.clean) > accuracy_of(POISONED.model, POISONED.clean) - 0.1
    assert healing.metrics["forget_accuracy"] == pytest.approx(accuracy_of(healing.model, FOUND))


def test_it_takes_the_pair_that_plain_dampening_ranks_highest():
    healing = heal(method="ssd")
    rest = as_batches(REST, name="retain set", device=torch.device("cpu"), batch_size=5000)
    (held_out,) = random_part(rest, 1000)
    assert len(held_out[1]) == 1000 < len(REST[1])
    forget, retain = (estimate_importance(POISONED.model, [data], kind="fim") for data in (FOUND, REST))
    victim, model, scores = dict(POISONED.model.named_parameters()), copy.deepcopy(POISONED.model), {}
    before = accuracy_of(POISONED.model, held_out) - accuracy_of(POISONED.model, FOUND)
    for pair in GoelGrid().pairs():
        model.load_state_dict(dampen(victim, forget, retain, *pair))
        scores[pair] = accuracy_of(model, held_out) - accuracy_of(model, FOUND) - before
    found = {(row["alpha"], row["dampening_constant"]): row["score"] for row in healing.trace}
    assert list(found) == list(scores)
    assert list(found.values()) == pytest.approx(list(scores.values()), abs=1e-9)
    assert healing.alpha is not None
    assert healing.dampening_constant is not None
    winner = (healing.alpha, healing.dampening_constant)
    assert scores[winner] == pytest.approx(max(scores.values()), abs=1e-9)
    model.load_state_dict(dampen(victim, forget, retain, *winner))
    pairs = zip(model.parameters(), healing.model.parameters(), strict=True)
    assert all(torch.allclose(expected, healed, rtol=1e-4) for expected, healed in pairs)


def test_the_report_is_consistent(tmp_path: Path):
    healing = heal(held_out=200, **SMALL)
    metrics, trace = healing.metrics, healing.trace
    assert metrics["steps"] == len(trace) == 6
    names = ("alpha", "dampening_constant", "dampened", "forget_accuracy", "held_out_accuracy", "score")
    assert all(tuple(row) == names for row in trace)
    best = max(trace, key=lambda row: row["score"])
    assert (healing.alpha, healing.dampening_constant) == (best["alpha"], best["dampening_constant"])
    assert {name: metrics[name] for name in names[2:]} == {name: best[name] for name in names[2:]}
    assert metrics["held_out_count"] == 200
    assert metrics["score"] == pytest.approx(
        metrics["forget_accuracy_before"]
        - metrics["forget_accuracy"]
        + metrics["held_out_accuracy"]
        - metrics["held_out_accuracy_before"]
    )
    assert "walked_back" not in metrics
    assert healing.settings["search"] == "grid"
    assert not {"rho", "s_step", "dampening_constant"} & set(healing.settings)
    saved = json.loads((healing.save(tmp_path) / "healing.json").read_text())
    assert saved["dampening_constant"] == healing.dampening_constant
    assert saved["trace"] == list(trace)


def test_all_of_retain_is_held_out_where_there_is_no_more():
    healing = heal(held_out=10**6, **SMALL)
    assert healing.metrics["held_out_count"] == len(REST[1])
    assert healing.metrics["held_out_accuracy"] == pytest.approx(healing.metrics["retain_accuracy"])
    assert healing.metrics["held_out_accuracy_before"] == healing.metrics["retain_accuracy_before"]


def test_where_no_pair_is_better_the_victims_weights_come_back():
    healing = heal(alphas=(1e30,))
    assert (healing.status, healing.alpha, healing.dampening_constant) == ("no_stop", None, None)
    assert same_weights(healing.model, POISONED.model)
    assert healing.metrics["score"] == 0.0
    assert healing.metrics["held_out_accuracy"] == healing.metrics["held_out_accuracy_before"]
    assert healing.metrics["forget_accuracy"] == healing.metrics["forget_accuracy_before"]
    assert healing.metrics["agreement"] == 1.0
    assert len(healing.trace) == 5


def test_a_collapse_is_reported_and_not_applied():
    healing = heal(collapse_share=1e-4, **SMALL)
    assert healing.status == "collapsed"
    assert healing.alpha is not None
    assert same_weights(healing.model, POISONED.model)
    assert healing.metrics["forget_accuracy"] < healing.metrics["forget_accuracy_before"]


def test_the_answer_is_the_same_every_time_and_for_every_batch_size():
    first, again, other = heal(held_out=300), heal(held_out=300), heal(held_out=300, batch_size=64)
    assert first.trace == again.trace
    assert (first.alpha, first.dampening_constant) == (other.alpha, other.dampening_constant)
    assert [row["score"] for row in first.trace] == pytest.approx(
        [row["score"] for row in other.trace], abs=0.02
    )


def test_progress_knows_the_number_of_pairs():
    seen: dict[str, list[tuple[int, int | None]]] = {}
    heal(progress=lambda phase, done, total: seen.setdefault(phase, []).append((done, total)), **SMALL)
    assert seen["search"] == [(number, 6) for number in range(1, 7)]
    assert set(seen) == {"check", "importance of forget", "importance of retain", "search", "report"}


def test_a_forget_set_that_the_model_does_not_believe_is_refused():
    with pytest.raises(BadInput, match="nothing to unlearn"):
        heal(forget=(FOUND[0], (FOUND[1] + 1) % 10))
