"""What a guarded search looks at, and what its steps are measured by."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theriac.search.dampening_run import Operation
from theriac.search.given.batches import as_batches
from theriac.search.guarded import problem as guarded_problem, ranking
from theriac.search.guarded.bystanders import belief
from theriac.search.guarded.driver import GuardedSearching
from theriac.search.guarded.machine import GuardedState, Probes
from theriac.search.guarded.problem import GuardedProblem
from theriac.search.guarded.start import GuardedStart
from theriac.search.settings import heal_settings
from theriac.search.sweep.victim_parts import problem_sort
from theriac.tests.poisoned import accuracy_of, poisoned_digits
from theriac.unlearning.inference import logits_and_labels
from theriac.unlearning.kinds import Precision

Pair = tuple[Tensor, Tensor]

POISONED = poisoned_digits()
CPU = torch.device("cpu")
TARGET = 0


def operation(found: Pair = POISONED.found, rest: Pair = POISONED.rest, **settings: Any) -> Operation:
    chosen = heal_settings(search="guarded", **settings)
    forget, retain = (
        as_batches(data, name=name, device=CPU, batch_size=chosen.batch_size)
        for name, data in (("forget set", found), ("retain set", rest))
    )
    return Operation(copy.deepcopy(POISONED.model), forget, retain, chosen)


@cache
def searching() -> GuardedSearching:
    """One for many tests: a search keeps nothing between calls but where its weights are."""
    found = operation().searching
    assert isinstance(found, GuardedSearching)
    return found


def problem_of(operation: Operation) -> GuardedProblem:
    problem = operation.problem
    assert isinstance(problem, GuardedProblem)
    return problem


@cache
def problem() -> GuardedProblem:
    return problem_of(operation())


@cache
def rows() -> list[dict[str, Any]]:
    """Of a whole search."""
    return searching().carry_on([])


def joined(batches: list[Pair]) -> Pair:
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_hidden_poison_is_suspected_and_nothing_else_is():
    watched = problem().watched
    assert (watched.found, watched.doubted, watched.suspects) == (40, 0, 40)
    x, y = joined(watched.suspected)
    assert len(y) == 80
    assert (x[..., 6:, 6:] == 1).all()
    assert (y == TARGET).all()


def test_the_rest_of_the_probe_is_clean():
    watched = problem().watched
    (tx, ty), (_, oy) = joined(watched.target), joined(watched.other)
    assert (ty == TARGET).all()
    assert (oy != TARGET).all()
    assert not (tx[..., 6:, 6:] == 1).all((1, 2, 3)).any()
    assert 0.9 <= accuracy_of(POISONED.model, (tx, ty)) < 1.0  # they are nudged
    believed = POISONED.model(POISONED.rest[0]).argmax(1) == POISONED.rest[1]
    own = believed & (POISONED.rest[1] == TARGET)
    assert watched.target_rate == pytest.approx(int(own.sum()) / int(believed.sum()))


def test_sizes_say_what_is_watched():
    probes, watched = problem().probes, problem().watched
    counts = [sum(len(y) for _, y in part) for part in (watched.suspected, watched.target, watched.other)]
    assert [probes.suspected, probes.target, probes.other] == counts
    assert probes.target_rate == watched.target_rate
    assert 1000 < probes.limit <= problem().parameter_count


def test_the_sizes_of_the_probe_are_settings():
    small = problem_of(operation(probe_target=60, probe_other=17))
    assert small.probes.other == 17
    assert small.watched.suspects < 40
    assert small.probes.target <= 60 - small.watched.suspects


@pytest.mark.parametrize(
    ("precision", "own", "measured"),
    [("float32", "same", "float32"), ("bfloat16", "same", "bfloat16"), ("float32", "bfloat16", "bfloat16")],
)
def test_the_precision_of_the_probe_is_that_of_the_importances_or_its_own(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, own: str, measured: Precision
):
    looks = list[Precision]()

    def noted(look: Callable[..., Any], *given: Any) -> Any:
        looks.append(given[-1].precision)
        return look(*given)

    for module, name in ((guarded_problem, "look_for_suspects"), (ranking, "look_again")):
        monkeypatch.setattr(module, name, partial(noted, getattr(module, name)))
    one, reduced = problem_of(operation(precision=precision, probe_precision=own)), list[bool]()
    one.dampened_to(0).register_forward_pre_hook(lambda *_: reduced.append(torch.is_autocast_enabled("cpu")))
    one.measure(50, (), flips=True)
    assert len(looks) >= 2
    assert {*looks} == {measured}
    assert {*reduced} == {measured == "bfloat16"}


def test_searches_that_measure_alike_share_a_problem():
    same, own, other = (
        problem_sort(heal_settings(search="guarded", **given))
        for given in (
            {"precision": "bfloat16"},
            {"precision": "bfloat16", "probe_precision": "bfloat16"},
            {"precision": "bfloat16", "probe_precision": "float32"},
        )
    )
    assert same == own != other


def test_a_step_is_measured_as_it_says():
    count, left_out = 200, (0, 3, 150)
    healed, target, other, harm = problem().measure(count, left_out, flips=True)
    model, watched = copy.deepcopy(problem().dampened_to(count, left_out)), problem().watched
    assert healed == pytest.approx(1 - accuracy_of(model, joined(watched.suspected)))
    lost = list[float]()
    for share, batches in ((target, watched.target), (other, watched.other)):
        (victim, labels), (logits, _) = (logits_and_labels(one, batches) for one in (POISONED.model, model))
        right, mistaken = victim.argmax(1) == labels, logits.argmax(1) != labels
        assert share == pytest.approx(float(mistaken[right].double().mean()), abs=1e-12)
        lost.append(float((belief(victim, labels) - belief(logits, labels)).mean()))
    assert harm == pytest.approx(max(0, watched.target_rate * lost[0] + (1 - watched.target_rate) * lost[1]))
    assert 0 < healed <= 1
    assert problem().measure(count, left_out, flips=False) == (healed, None, None, None)


def test_what_is_left_out_keeps_its_weight_and_has_a_name():
    left_out = (0, 3, 150)
    some = copy.deepcopy(problem().dampened_to(200, left_out).state_dict())
    everything = copy.deepcopy(problem().dampened_to(200).state_dict())
    victim, kept = POISONED.model.state_dict(), set()
    for name, value in victim.items():
        for place in (some[name] != everything[name]).nonzero().tolist():
            kept.add(f"{name}[{','.join(map(str, place))}]")
            assert some[name][tuple(place)] == value[tuple(place)]
    assert kept == {problem().name_of(rank) for rank in left_out}


def test_a_step_on_all_of_the_found_poison():
    evaluation = problem().evaluate_count(200, (0, 3, 150, 199))
    assert evaluation.dampened == 196
    assert evaluation.alpha == problem().alpha_of(200) > problem().alpha_of(201)
    model = problem().dampened_to(200, (0, 3, 150, 199))
    assert evaluation.forget_accuracy == pytest.approx(accuracy_of(model, POISONED.found))


def test_wrongly_flagged_samples_are_neither_measured_nor_counted_in_the_ranking():
    x, y = POISONED.rest
    wrong = (torch.arange(len(y)) >= 40) & (y == TARGET)
    wrong &= wrong.cumsum(0) <= 40
    flagged = (torch.cat([POISONED.found[0], x[wrong]]), torch.cat([POISONED.found[1], y[wrong]]))
    doubting = problem_of(operation(flagged, (x[~wrong], y[~wrong])))
    assert (doubting.watched.found, doubting.watched.doubted) == (80, 40)
    assert (joined(doubting.watched.suspected)[0][..., 6:, 6:] == 1).all()
    assert torch.equal(
        doubting.dampened_to(0).state_dict()["1.weight"], POISONED.model.state_dict()["1.weight"]
    )
    first = [{one.name_of(rank) for rank in range(50)} for one in (doubting, problem())]
    assert len(first[0] & first[1]) >= 45


def test_where_retain_holds_no_sample_of_the_class_only_others_are_watched():
    x, y = POISONED.rest
    rest = (x[y != TARGET], y[y != TARGET])
    alone = problem_of(operation(rest=rest))
    assert (alone.probes.target, alone.probes.target_rate, alone.watched.suspects) == (0, 0.0, 0)
    assert alone.probes.suspected == 40
    assert alone.measure(50, (), flips=True)[1] == 0.0


def test_the_victim_is_not_changed():
    before = copy.deepcopy(POISONED.model.state_dict())
    one = operation()
    one.conclude(one.carry_on([]))
    assert all(torch.equal(value, POISONED.model.state_dict()[name]) for name, value in before.items())


def test_rows_are_scalars_that_survive_json():
    assert all(set(row) == {"healed", "flips_target", "flips_other", "harm"} for row in rows())
    assert json.loads(json.dumps(rows())) == rows()
    assert rows()[0]["flips_target"] is None
    assert rows()[-1]["flips_target"] is not None


def test_a_search_carried_on_from_any_prefix_gives_the_same_rows():
    fresh = GuardedSearching(searching().start, problem(), 1.0)
    for length in range(len(rows()) + 1):
        assert fresh.carry_on(rows()[:length]) == rows()[length:]
    assert fresh.carry_on(rows()[:2], count=3) == rows()[2:5]
    assert fresh.carry_on(rows()[:2], count=0) == []


def test_steps_in_any_order_are_measured_alike():
    state = searching().start.after(rows())
    walked = [step for step in state.trace if step.verdict != "scouted"]
    for step in reversed(walked):
        measured = problem().measure(step.count, step.left_out, flips=True)
        assert measured == (step.healed, step.flips_target, step.flips_other, step.harm)


def test_nothing_can_be_skipped():
    with pytest.raises(ValueError, match="none can be skipped"):
        searching().carry_on([], skip=1)


def test_progress_counts_all_steps():
    seen: list[int] = []
    searching().carry_on(rows()[:4], progress=seen.append)
    assert seen == list(range(5, len(rows()) + 1))


def test_the_search_can_be_followed_from_afar():
    start = searching().start
    again = GuardedStart.model_validate_json(start.model_dump_json())
    assert again == start
    places = [again.place(rows()[:length]) for length in range(len(rows()) + 1)]
    assert places == [*range(len(rows())), None]
    assert again.place(rows()[:2], 1) is None
    assert again.needed(rows() + rows()) == len(rows())
    assert isinstance(again.after(rows()), GuardedState)
    assert isinstance(again.probes, Probes)


def test_what_was_found():
    finding = searching().finding(rows())
    state = searching().start.after(rows())
    assert finding.status == "stopped"
    assert finding.step == searching().start.search.chosen(state)
    assert finding.step is not None
    assert finding.chosen is not None
    trace = finding.rows()
    assert [row["status"] for row in trace] == [step.verdict for step in state.trace]
    number = state.trace.index(finding.step)
    chosen = trace[number]
    assert (chosen["alpha"], chosen["dampened"]) == (finding.chosen.alpha, finding.chosen.dampened)
    stop = copy.deepcopy(finding.at_the_stop(problem()))
    assert same_weights(stop, finding.model_of(problem(), number, chosen))
    assert accuracy_of(stop, POISONED.found) == pytest.approx(finding.chosen.forget_accuracy)
    columns, metrics = finding.columns(), finding.metrics()
    assert columns["flat"][0] <= columns["alpha"] <= columns["flat"][1]
    assert columns["steps"] == len(rows())
    assert metrics["suspected_healed"] == finding.step.healed
    assert 0 <= metrics["harm"] == columns["harm"] == chosen["harm"] < metrics["harm_at_most"] < 0.05
    watched = problem().watched
    suspected = watched.target_rate * watched.suspects / watched.looked_at
    assert 0.01 < suspected < 0.1
    assert metrics["harm_if_wrong"] == pytest.approx(metrics["harm_at_most"] + suspected)
    assert list(finding.beyond_the_stop(problem(), 5)) == []


def test_what_was_found_before_half_was_healed_is_nothing():
    finding = searching().finding(rows()[:2])
    assert (finding.status, finding.chosen, finding.dampening_constant) == ("no_stop", None, None)
    assert same_weights(finding.at_the_stop(problem()), POISONED.model)
    columns = finding.columns()
    assert (columns["alpha"], columns["dampened"], columns["flat"], columns["left_out"]) == (
        None,
        0,
        None,
        "",
    )
    assert (finding.metrics()["harm"], finding.metrics()["harm_at_most"]) == (None, None)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
