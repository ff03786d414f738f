"""Searching the hyperparameters of methods that train: rows, instalments, failures, winners."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from theriac.errors import BadInput
from theriac.search.given.batches import as_batches
from theriac.search.given.samples import HeldSamples, as_samples
from theriac.search.harm import LEAST_TARGET
from theriac.search.training.settings import TuneSettings
from theriac.search.training.spaces import Choice, Range
from theriac.search.training.tuning import Tuning
from theriac.tests.poisoned import accuracy_of, poisoned_digits
from theriac.unlearning.methods.gradient_ascent import GradientAscent
from theriac.unlearning.methods.unlearner import Known

POISONED = poisoned_digits()
CPU = torch.device("cpu")
PIXELS = ((0.0,), (1.0,))
RATES = {"learning_rate": Range(low=1e-4, high=3e-2, log=True)}
FEW = {"steps": 20, "record_every": 20}
GENTLE: dict[str, Any] = {"method": "npo", "space": {"learning_rate": Range(low=8e-3, high=2e-2, log=True)}}
"""Forgets the found poison and keeps the target class, which plain ascent wipes out."""


def tuning(model: nn.Module | None = None, **settings: Any) -> Tuning:
    extra = {name: settings.pop(name) for name in ("measure", "kept", "seed") if name in settings}
    usual = {} if settings.get("search") else {"samples": 5, "parameters": FEW, "space": RATES}
    chosen = TuneSettings(**{"method": "ga", **usual, **settings})
    known = Known(forget=HeldSamples(*POISONED.found, PIXELS), retain=HeldSamples(*POISONED.rest, PIXELS))
    forget, retain = (as_batches(data, name="set", device=CPU) for data in (POISONED.found, POISONED.rest))
    return Tuning(model or POISONED.model, known, forget, retain, chosen, **extra)


def without_time(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in ("seconds", "trace")} for row in rows]


@pytest.fixture(scope="module")
def whole() -> list[dict]:
    return tuning().carry_on([])


def test_every_setting_is_a_row_and_the_default_comes_first(whole: list[dict]):
    assert len(whole) == 5
    drawn = [json.loads(row["parameters"]) for row in whole]
    assert drawn[0] == {**FEW, "learning_rate": GradientAscent().learning_rate}
    assert len({row["learning_rate"] for row in drawn}) == 5
    assert all(row["status"] in ("done", "collapsed") and 0 <= row["agreement"] <= 1 for row in whole)
    assert all(len(json.loads(row["trace"])) == 1 for row in whole)


def test_the_winner_forgets_and_is_at_hand():
    search = tuning(**GENTLE)
    found = search.conclude(search.carry_on([]))
    assert found.status == "stopped"
    assert found.chosen is not None
    assert found.chosen["score"] == max(row["score"] for row in found.rows if row["status"] != "collapsed")
    assert found.chosen["forget_accuracy"] < 0.6 * found.examined.forget_accuracy
    model = search.model(found.chosen)
    assert accuracy_of(model, POISONED.found) == pytest.approx(found.chosen["forget_accuracy"])
    assert accuracy_of(POISONED.model, POISONED.found) > 0.95, "the victim must stay as it is"


def test_the_model_that_is_given_out_is_the_one_that_was_judged(monkeypatch: pytest.MonkeyPatch):
    search = tuning(**GENTLE)
    found = search.conclude(search.carry_on([]))
    assert found.chosen is not None
    monkeypatch.setattr(Tuning, "_run", lambda *_: pytest.fail("it was trained again"))
    assert accuracy_of(search.model(found.chosen), POISONED.found) == found.chosen["forget_accuracy"]


def test_instalments_and_restarts_give_the_same_rows(whole: list[dict]):
    rows: list = []
    while len(rows) < 5:
        rows = json.loads(json.dumps([*rows, *tuning().carry_on(rows, 0, 2)]))
    assert without_time(rows) == without_time(whole)
    assert tuning().carry_on(whole) == []


def test_a_round_in_any_order_gives_what_one_worker_gives():
    alone = tuning(together=3, samples=6).carry_on([])
    first = [tuning(together=3, samples=6).carry_on([], skip, 1)[0] for skip in (2, 0, 1)]
    history = [first[1], first[2], first[0]]
    assert without_time(history) == without_time(alone[:3])
    last = [tuning(together=3, samples=6).carry_on(history, skip, 4) for skip in (1, 0)]
    assert without_time(last[0]) == without_time(alone[4:]), "the rest of a round can be skipped to"
    assert without_time(last[1]) == without_time(alone[3:])
    start = tuning(together=3, samples=6).start
    assert start.place(history, 2) == 5
    assert start.place(history[:2], 1) is None
    assert start.place(alone) is None


class Kept:
    """Rows in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, dict] = {}

    def find(self, parameters: dict) -> dict | None:
        return self.rows.get(json.dumps(parameters))

    def put(self, parameters: dict, row: dict) -> None:
        self.rows[json.dumps(parameters)] = row


def test_what_was_run_before_is_not_run_again(monkeypatch: pytest.MonkeyPatch):
    kept = Kept()
    rows = tuning(kept=kept, samples=3).carry_on([])
    monkeypatch.setattr(Tuning, "_judged", lambda *_: pytest.fail("it was run again"))
    assert tuning(kept=kept, samples=3).carry_on([]) == rows


def test_a_run_that_diverges_is_a_row_and_the_search_goes_on():
    kept = Kept()
    broken = tuning(
        parameters={**FEW, "clip": 1e6},
        space={"learning_rate": Choice(choices=(1.0, 1e-3))},
        samples=4,
        method="npo",
        model=Overflowing(),
        kept=kept,
    )
    rows = broken.carry_on([])
    statuses = [row["status"] for row in rows]
    assert "failed" in statuses
    failed = rows[statuses.index("failed")]
    assert "NotFinite" in failed["error_message"]
    assert set(failed) == {"parameters", "status", "error_message", "seconds"}
    assert all(row["status"] != "failed" for row in kept.rows.values()), "memory may suffice the next time"
    found = broken.conclude(rows)
    assert len(found.rows) == 4
    assert found.rows[statuses.index("failed")]["score"] is None


class Overflowing(nn.Module):
    """The poisoned model, whose logits become infinite once its weights have moved far."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = poisoned_digits().model
        self.start = [p.detach().clone() for p in self.inner.parameters()]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.inner.parameters(), self.start, strict=True)
        far = sum(float((p.detach() - s).norm()) for p, s in pairs) > 20
        logits: torch.Tensor = self.inner(x)
        return logits + (logits.sum() * 1e38 * 1e38 if far and torch.is_grad_enabled() else 0)


def test_collapsed_candidates_only_win_where_there_is_no_other():
    everything = tuning(**GENTLE, collapse_drop=0.999, collapse_share=1.0)
    rows = everything.carry_on([])
    found = everything.conclude(rows)
    assert found.status == "stopped"
    wrecked = [{**row, "status": "collapsed"} for row in rows]
    assert everything.conclude(wrecked).status == "collapsed"
    best = found.winner
    assert best is not None
    rows[best] = {**rows[best], "status": "collapsed"}
    assert everything.conclude(rows).winner != best


def test_ascent_that_wipes_out_the_target_class_is_collapsed():
    rows = tuning(search="fixed", parameters={**FEW, "learning_rate": 0.004}).carry_on([])
    assert rows[0]["target_kept"] < LEAST_TARGET
    assert rows[0]["status"] == "collapsed"


def test_no_stop_where_the_victim_as_it_is_does_better():
    useless = tuning(space={"learning_rate": Range(low=1e-8, high=1e-7, log=True)}, samples=2, pareto=True)
    rows = useless.carry_on([])
    worse = [{**row, "agreement": 0.1} for row in rows]
    found = useless.conclude(worse)
    assert (found.status, found.chosen) == ("no_stop", None)
    assert found.rows[0]["pareto"] is True


def test_all_failed_is_said():
    search = tuning(samples=1)
    row = {"parameters": "{}", "status": "failed", "error_message": "x", "seconds": 0.0}
    assert search.conclude([row]).status == "failed"


def test_a_fixed_search_is_one_run():
    fixed = TuneSettings(method="ga", search="fixed", parameters={**FEW, "learning_rate": 0.01})
    assert fixed.setting_count == 1
    search = tuning(**fixed.model_dump())
    rows = search.carry_on([])
    assert json.loads(rows[0]["parameters"]) == {**FEW, "learning_rate": 0.01}
    assert search.conclude(rows).status == ("collapsed" if rows[0]["status"] == "collapsed" else "done")


def test_an_oracle_takes_what_is_best_on_what_it_sees():
    seen = iter([0.2, 0.9, 0.4])
    columns = {"selection_clean_accuracy": 0.9}
    oracle = tuning(
        **GENTLE,
        objective="oracle",
        samples=2,
        measure=lambda model: {**columns, "selection_healed_raw": next(seen)},
    )
    found = oracle.conclude(oracle.carry_on([]))
    assert found.winner == 1
    assert found.chosen is not None
    assert found.chosen["score"] == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"parameters": {"learning_rat": 1.0}}, "learning_rat"),
        ({"parameters": {"learning_rate": -1.0}}, "learning_rate"),
        ({"space": {"nonsense": RATES["learning_rate"]}}, "unknown hyperparameter 'nonsense'"),
        ({"space": {"learning_rate": Range(low=0.1, high=7.0)}}, "learning_rate"),
        ({"search": "fixed", "samples": 3}, "does not use this"),
        ({"method": "magic"}, "method"),
        ({"together": 0}, "together"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict, said: str):
    with pytest.raises(ValueError, match=said):
        TuneSettings(**{"method": "ga", **wrong})


def test_samples_of_any_form():
    x, y = POISONED.found
    samples = as_samples((x, y), name="found", device=CPU)
    rows = torch.tensor([3, 1])
    assert torch.equal(samples.batch(rows)[0], x[rows])
    normalised = as_samples(((x - 0.5) / 0.25, y), name="found", device=CPU, normalisation=((0.5,), (0.25,)))
    generator = torch.Generator().manual_seed(0)
    crops = normalised.batch(rows, "crop", generator)[0] * 0.25 + 0.5
    expected = samples.batch(rows, "crop", torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(crops, expected)
    with pytest.raises(BadInput, match=r"give mean=\.\.\. and std=\.\.\."):
        as_samples(((x - 0.5) / 0.25, y), name="found", device=CPU)
