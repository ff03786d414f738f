"""Attacks with other label rules and several triggers: labels, S_m and what the test set shows."""

import io
import itertools

import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image
from pydantic import ValidationError

from theriac.datasets.attacks import Aim, Attack
from theriac.datasets.poisoning import PoisonedData, draw_manipulated
from theriac.datasets.sources.decoding import EncodedImages
from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.sources.names import ImageDataset
from theriac.datasets.triggers import BadNets, MovingPatch, Sine, WaNet
from theriac.datasets.views import BATCH_SIZE, NO_TRIGGER
from theriac.errors import BadInput
from theriac.search.store.row_origin import row_key

COUNT, TESTS, CLASSES = 120, 30, 4
LABELS = torch.arange(COUNT) % CLASSES
THREE = (
    Aim(trigger=BadNets(size=2), target=2),
    Aim(trigger=Sine(frequency=0.25, amplitude=0.4), target=0),
    Aim(trigger=MovingPatch(size=2, value=0.5), target=2),
)
SEVERAL = Attack(several=THREE)
CYCLE = Attack(trigger=BadNets(size=2), label_rule="all_to_all")


def source(count, seed):
    pixels = torch.randint(30, 200, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(count) % CLASSES
    return MemoryImages(pixels=pixels.to(torch.uint8), labels=labels, classes=("a", "b", "c", "d"))


def poisoned(attack, manipulated=50, seed=0, test=None):
    train, test = source(COUNT, 0), test or source(TESTS, 1)
    return PoisonedData(
        dataset=ImageDataset(name="tiny", train=train, test=test, mean=(0.0,) * 3, std=(1.0,) * 3),
        attack=attack,
        manipulated=manipulated,
        seed=seed,
        device=torch.device("cpu"),
    )


def pixels_of(view):
    return view.pixels(torch.arange(len(view)))


def test_the_dump_of_what_there_was_is_what_it_was():
    trigger = {"name": "badnets", "size": 3, "value": 1.0, "margin": 0}
    dump = {"trigger": trigger, "target": 0, "drawn_from": "all"}
    assert Attack().model_dump(mode="json") == dump
    assert row_key(Attack().model_dump(mode="json")) == row_key(dump) == "068a68e151922bf5b042"
    moving = Attack(trigger=MovingPatch(seed=3), target=4, drawn_from="non_target")
    assert moving.model_dump(mode="json") == {
        "trigger": {"name": "moving", "size": 3, "value": 1.0, "seed": 3},
        "target": 4,
        "drawn_from": "non_target",
    }


@pytest.mark.parametrize("attack", [Attack(), Attack(target=3), CYCLE, SEVERAL], ids=lambda a: a.name)
def test_attacks_survive_json(attack):
    assert Attack.model_validate_json(attack.model_dump_json()) == attack
    assert Attack.model_validate(attack.model_dump(mode="json")) == attack
    assert hash(attack) == hash(attack.model_copy())


def test_only_what_counts_is_dumped():
    assert set(CYCLE.model_dump()) == {"trigger", "drawn_from", "label_rule"}
    assert set(SEVERAL.model_dump()) == {"drawn_from", "several"}
    keys = {row_key(one.model_dump(mode="json")) for one in (Attack(), CYCLE, SEVERAL)}
    assert len(keys) == 3


def test_names_targets_and_triggers():
    assert [one.name for one in (Attack(), CYCLE, SEVERAL)] == ["badnets", "badnets-all-to-all", "several"]
    assert [one.one_target for one in (Attack(target=3), CYCLE, SEVERAL)] == [3, None, None]
    assert [one.targets(CLASSES) for one in (Attack(target=3), CYCLE, SEVERAL)] == [
        (3,),
        (0, 1, 2, 3),
        (0, 2),
    ]
    assert SEVERAL.triggers == tuple(aim.trigger for aim in THREE)
    assert CYCLE.triggers == (BadNets(size=2),)
    same = Attack(several=[{"trigger": {"name": "sine"}, "target": 1}, {"trigger": BadNets(), "target": 1}])
    assert same.one_target == 1


def test_intended_labels_by_hand():
    true, which = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([0, 1, 2, 0, 1])
    assert Attack(target=3).intended(true, torch.zeros_like(which), CLASSES).tolist() == [3] * 5
    assert CYCLE.intended(true, torch.zeros_like(which), CLASSES).tolist() == [1, 2, 3, 0, 0]
    assert SEVERAL.intended(true, which, CLASSES).tolist() == [2, 0, 2, 2, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_rule": "all_to_all", "target": 1}, "neither one target nor several"),
        ({"label_rule": "all_to_all", "several": THREE}, "neither one target nor several"),
        ({"several": THREE[:1]}, "several holds one trigger; give two or more"),
        ({"several": []}, "several holds no trigger; give two or more"),
        ({"several": [], "label_rule": "all_to_all"}, "several holds no trigger"),
        (
            {"several": [*THREE, THREE[0].model_copy(update={"target": 3})]},
            r"several\.3: the trigger badnets is there already, .* target 2; give each trigger once",
        ),
        ({"several": [THREE[1], THREE[1]]}, r"several\.1: the trigger sine is there already"),
        ({"several": THREE, "target": 1}, "has no other; leave trigger and target out"),
        ({"several": THREE, "trigger": Sine()}, "has no other; leave trigger and target out"),
        ({"several": [{"trigger": BadNets()}, THREE[0]]}, "target"),
        ({"label_rule": "cycle"}, "label_rule"),
    ],
)
def test_settings_that_contradict_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Attack(**settings)


def test_triggers_of_one_kind_that_differ_are_several():
    both = Attack(several=[Aim(trigger=BadNets(size=size), target=size) for size in (1, 2)])
    assert both.targets(CLASSES) == (1, 2)


def test_a_target_of_several_that_is_no_class_is_refused():
    with pytest.raises(BadInput, match="tiny: target class 4: there are classes 0 to 3; choose one"):
        poisoned(Attack(several=(THREE[0], Aim(trigger=WaNet(), target=4))))


def test_all_to_all_poisons_every_class_to_the_next():
    data = poisoned(CYCLE)
    view = data.train()
    chosen = torch.isin(torch.arange(COUNT), data.order)
    assert torch.equal(view.labels, torch.where(chosen, (LABELS + 1) % CLASSES, LABELS))
    assert torch.equal(view.triggered, chosen)
    forget = data.forget(1.0)
    assert (forget.labels != forget.true_labels).all()
    assert forget.labels.unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(poisoned(CYCLE.model_copy(update={"drawn_from": "non_target"})).order, data.order)


@pytest.mark.parametrize("rule", ["all", "non_target"])
def test_the_kth_sample_drawn_gets_trigger_k_modulo_their_number(rule):
    data = poisoned(SEVERAL.model_copy(update={"drawn_from": rule}))
    train, forget = data.train(), data.forget(1.0)
    assert forget.which.tolist() == [k % 3 for k in range(50)]
    assert forget.labels.tolist() == [THREE[k % 3].target for k in range(50)]
    assert (train.which[~torch.isin(torch.arange(COUNT), data.order)] == NO_TRIGGER).all()
    clean = data.dataset.train.pixels.float() / 255
    for number, aim in enumerate(THREE):
        rows = data.order[number::3]
        assert torch.equal(pixels_of(train)[rows], aim.trigger(clean[rows], rows))
    untouched = train.which == NO_TRIGGER
    assert torch.equal(pixels_of(train)[untouched], clean[untouched])
    assert torch.equal(train.labels[untouched], LABELS[untouched])


@given(small=st.integers(1, 30), more=st.integers(0, 10), seed=st.integers(0, 2**31))
def test_draws_are_nested_distinct_and_never_truly_of_the_target(small, more, seed):
    attack = SEVERAL.model_copy(update={"drawn_from": "non_target"})
    large = draw_manipulated(LABELS, attack, small + more, seed)
    assert torch.equal(draw_manipulated(LABELS, attack, small, seed), large[:small])
    assert len(large.unique()) == small + more
    targets = torch.tensor([THREE[k % 3].target for k in range(small + more)])
    assert (LABELS[large] != targets).all()


def test_several_over_all_classes_draw_the_samples_that_one_would():
    assert torch.equal(poisoned(SEVERAL).order, poisoned(Attack()).order)


def test_more_than_the_triggers_can_share_is_refused():
    rare = torch.tensor([0] * 60 + [1] * 60)
    attack = Attack(several=(Aim(trigger=BadNets(), target=0), Aim(trigger=Sine(), target=1)))
    attack = attack.model_copy(update={"drawn_from": "non_target"})
    with pytest.raises(BadInput, match=r"\|S_m\| = 80: .* less than the (\d\d) samples") as error:
        draw_manipulated(rare, attack, 80, 0)
    most = int(str(error.value).split("less than the ")[1].split()[0]) - 1
    assert len(draw_manipulated(rare, attack, most, 0)) == most


def test_shares_of_several_are_nested_and_hold_all_triggers():
    data = poisoned(SEVERAL)
    found = [data.forget(share) for share in (0.1, 0.5, 1.0)]
    assert all(set(view.which.tolist()) == {0, 1, 2} for view in found)
    for less, more in itertools.pairwise(found):
        assert more.positions.tolist()[: len(less)] == less.positions.tolist()
    retain = data.retain(0.5)
    assert int(retain.triggered.sum()) == 25
    assert torch.equal(pixels_of(retain), pixels_of(data.train())[retain.positions])


def test_the_triggered_test_set_shows_every_image_with_every_trigger():
    data = poisoned(SEVERAL)
    view = data.triggered_test()
    clean = data.dataset.test.pixels.float() / 255
    assert len(view) == 3 * TESTS
    assert torch.equal(view.labels, view.true_labels)
    shown = pixels_of(view).view(TESTS, 3, 3, 8, 8)
    for number, aim in enumerate(THREE):
        assert torch.equal(shown[:, number], aim.trigger(clean, torch.arange(TESTS)))
    assert view.which.tolist() == [0, 1, 2] * TESTS
    assert len(poisoned(CYCLE).triggered_test()) == TESTS


def test_scoring_reads_each_image_once():
    test, reads = source(2 * BATCH_SIZE // 3 + 50, 1), []

    def read(position):
        reads.append(position)
        buffer = io.BytesIO()
        Image.fromarray(test.pixels[position].permute(1, 2, 0).numpy()).save(buffer, "PNG")
        return buffer.getvalue()

    lazy = EncodedImages(read=read, name=str, labels=test.labels, classes=test.classes, size=(8, 8))
    view = poisoned(SEVERAL, test=lazy).triggered_test()
    seen = [len(y) for _, y in view]
    assert sum(seen) == 3 * len(test)
    assert max(seen) <= BATCH_SIZE
    counts = torch.tensor(reads).bincount()
    counts[0] -= counts[0] - 1  # also read to see how large files are
    assert (counts == 1).all()
