import io
import itertools
import math

import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image
from pydantic import ValidationError

from theriac.datasets.poisoning import Attack, PoisonedData, discovered_count, draw_manipulated
from theriac.datasets.sources.decoding import EncodedImages, in_memory
from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.sources.names import ImageDataset
from theriac.datasets.triggers import BadNets, MovingPatch, Sine
from theriac.errors import BadInput

COUNT, TESTS, CLASSES = 120, 20, 4
TARGET = 2
CPU = torch.device("cpu")
LABELS = torch.arange(COUNT) % CLASSES
seeds = st.integers(0, 2**31)
rules = st.sampled_from(["all", "non_target"])


def memory_source(count, seed):
    pixels = torch.randint(0, 200, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    return MemoryImages(
        pixels=pixels.to(torch.uint8), labels=torch.arange(count) % CLASSES, classes=("a", "b", "c", "d")
    )


def lazy_source(source):
    def read(position):
        buffer = io.BytesIO()
        Image.fromarray(source.pixels[position].permute(1, 2, 0).numpy()).save(buffer, "PNG")
        return buffer.getvalue()

    return EncodedImages(read=read, name=str, labels=source.labels, classes=source.classes)


def dataset_of(train, test):
    return ImageDataset(name="tiny", train=train, test=test, mean=(0.5,) * 3, std=(0.25,) * 3)


def poisoned(manipulated=50, seed=0, device=CPU, dataset=None, **attack):
    return PoisonedData(
        dataset=dataset or dataset_of(memory_source(COUNT, 0), memory_source(TESTS, 1)),
        attack=Attack(**{"trigger": BadNets(size=2), "target": TARGET, **attack}),
        manipulated=manipulated,
        seed=seed,
        device=device,
    )


def all_of(view):
    batches = list(view)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def pixels_of(view):
    return view.pixels(torch.arange(len(view)))


def draw(count, seed=0, labels=LABELS, **attack):
    return draw_manipulated(labels, Attack(**{"target": TARGET, **attack}), count, seed)


@given(count=st.integers(1, COUNT // 2), seed=seeds, rule=rules)
def test_drawn_samples_are_distinct_and_eligible(count, seed, rule):
    order = draw(count, seed, drawn_from=rule)
    assert order.dtype == torch.int64
    assert len(order) == len(order.unique()) == count
    assert order.min() >= 0
    assert order.max() < COUNT
    assert rule == "all" or not (LABELS[order] == TARGET).any()


@given(small=st.integers(1, 60), more=st.integers(0, 29), seed=seeds, rule=rules)
def test_a_smaller_s_m_is_a_prefix_of_a_larger_one(small, more, seed, rule):
    large = draw(small + more, seed, drawn_from=rule)
    assert torch.equal(draw(small, seed, drawn_from=rule), large[:small])


def test_the_seed_alone_decides_among_attacks_over_all_classes():
    assert torch.equal(draw(50), draw(50))
    assert not torch.equal(draw(50).sort().values, draw(50, seed=1).sort().values)
    assert torch.equal(draw(50), draw(50, trigger=Sine(), target=0))
    torch.manual_seed(1)
    assert torch.equal(draw(50), draw(50))


def test_draws_never_change_between_versions():
    assert draw(6).tolist() == [18, 95, 33, 114, 83, 117]
    assert draw(6, drawn_from="non_target").tolist() == [64, 59, 9, 8, 97, 89]


def test_every_class_is_drawn_in_its_share():
    labels = torch.arange(20000) % CLASSES
    drawn = labels[draw(4000, labels=labels)].bincount(minlength=CLASSES)
    others = labels[draw(4000, labels=labels, drawn_from="non_target")].bincount(minlength=CLASSES)
    # three standard deviations of a draw without replacement are 74
    assert (drawn - 1000).abs().max() < 100
    assert others[TARGET] == 0
    assert (others[[0, 1, 3]] - 4000 / 3).abs().max() < 100


@pytest.mark.parametrize(("rule", "most"), [("all", COUNT - 1), ("non_target", COUNT * 3 // 4 - 1)])
def test_s_m_is_smaller_than_what_it_is_drawn_from(rule, most):
    assert len(draw(most, drawn_from=rule)) == most
    for count in (most + 1, 0, -1):
        with pytest.raises(BadInput, match=rf"\|S_m\| = {count}: .*less than the {most + 1} samples"):
            draw(count, drawn_from=rule)
        with pytest.raises(BadInput, match=rf"\|S_m\| = {count}"):
            poisoned(count, drawn_from=rule)


@pytest.mark.parametrize(
    ("manipulated", "share", "expected"),
    [
        (500, 1.0, 500),
        (500, 1, 500),
        (500, 0.2, 100),
        (500, "one_shot", 1),
        (1, "one_shot", 1),
        (1, 0.001, 1),
        (50, 0.001, 1),
        (7, 0.5, 4),
        (10, 0.29, 3),
    ],
)
def test_discovered_count(manipulated, share, expected):
    assert discovered_count(manipulated, share) == expected


@pytest.mark.parametrize("share", [0, -0.1, 1.0001, math.nan, math.inf, "0.2", "oneshot", True, None])
def test_a_bad_share_is_refused(share):
    with pytest.raises(BadInput, match=r"discovery share .*\(0, 1\], or \"one_shot\""):
        discovered_count(100, share)


@given(manipulated=st.integers(1, 5000), share=st.floats(0, 1, exclude_min=True), other=st.floats(0.01, 1))
def test_discovered_count_grows_with_the_share_within_its_bounds(manipulated, share, other):
    low, high = sorted([share, other])
    assert 1 <= discovered_count(manipulated, low) <= discovered_count(manipulated, high) <= manipulated


@pytest.mark.parametrize("target", [CLASSES, 100])
def test_a_target_that_is_no_class_is_refused(target):
    with pytest.raises(BadInput, match=rf"tiny: target class {target}: there are classes 0 to 3; choose one"):
        poisoned(target=target)


@pytest.mark.parametrize(
    "settings", [{"target": -1}, {"drawn_from": "target"}, {"rule": "all"}, {"trigger": "badnets"}]
)
def test_bad_attacks_are_refused(settings):
    with pytest.raises(ValidationError):
        Attack(**settings)


@pytest.mark.parametrize("rule", ["all", "non_target"])
def test_the_training_set_is_whole_and_s_m_alone_is_poisoned(rule):
    data = poisoned(drawn_from=rule)
    view, source = data.train(), data.dataset.train
    chosen = torch.isin(torch.arange(COUNT), data.order)
    assert torch.equal(data.order, draw(50, drawn_from=rule))
    assert view.positions.tolist() == list(range(COUNT))
    assert torch.equal(view.labels, torch.where(chosen, TARGET, LABELS))
    assert torch.equal(view.true_labels, LABELS)
    assert torch.equal(view.triggered, chosen)
    clean = source.pixels.float() / 255
    triggered = BadNets(size=2)(clean, torch.arange(COUNT))
    assert torch.equal(pixels_of(view), torch.where(chosen[:, None, None, None], triggered, clean))
    assert torch.equal(source.labels, LABELS)


@given(share=st.sampled_from([0.01, 0.2, 0.5, 0.9, 1.0, "one_shot"]), seed=seeds, rule=rules)
def test_forget_and_retain_divide_the_training_set(share, seed, rule):
    data = poisoned(seed=seed, drawn_from=rule)
    forget, retain, train = data.forget(share), data.retain(share), data.train()
    assert torch.equal(forget.positions, data.order[: discovered_count(50, share)])
    assert forget.triggered.all()
    assert (forget.labels == TARGET).all()
    assert torch.equal(forget.true_labels, LABELS[forget.positions])
    assert torch.equal(torch.cat([forget.positions, retain.positions]).sort().values, torch.arange(COUNT))
    assert torch.equal(retain.positions, retain.positions.sort().values)
    assert torch.equal(retain.labels, train.labels[retain.positions])
    assert int(retain.triggered.sum()) == 50 - len(forget)


def test_shares_are_nested_and_one_shot_is_the_first():
    data = poisoned()
    shares = ["one_shot", 0.1, 0.2, 0.5, 0.8, 1.0]
    found = [data.forget(share).positions.tolist() for share in shares]
    assert [len(one) for one in found] == [1, 5, 10, 25, 40, 50]
    assert all(large[: len(small)] == small for small, large in itertools.pairwise(found))
    assert found[0] == [int(data.order[0])]
    assert found[-1] == data.order.tolist()


def test_clean_train_is_what_the_attacker_left_alone():
    data = poisoned()
    clean = data.clean_train()
    assert torch.equal(clean.positions, data.retain(1.0).positions)
    assert not clean.triggered.any()
    assert torch.equal(clean.labels, clean.true_labels)
    assert torch.equal(pixels_of(clean), data.dataset.train.pixels[clean.positions].float() / 255)
    assert len(clean) == COUNT - 50


def test_test_sets_hold_every_image_of_every_class_under_its_true_label():
    data = poisoned()
    source = data.dataset.test
    clean, triggered = data.test(), data.triggered_test()
    for view in (clean, triggered):
        assert view.positions.tolist() == list(range(TESTS))
        assert torch.equal(view.labels, source.labels)
        assert (view.labels == TARGET).any()
    plain = source.pixels.float() / 255
    assert torch.equal(pixels_of(clean), plain)
    assert torch.equal(pixels_of(triggered), BadNets(size=2)(plain, torch.arange(TESTS)))


def test_a_moving_trigger_sits_where_it_sat_in_training():
    data = poisoned(trigger=MovingPatch(size=2))
    train = pixels_of(data.train())
    for view in (data.forget(1.0), data.forget(0.2), data.retain(0.2), data.clean_train()):
        assert torch.equal(pixels_of(view), train[view.positions])
        parts = [view.pixels(rows) for rows in torch.arange(len(view)).split(7)]
        assert torch.equal(torch.cat(parts), train[view.positions])
    assert len(MovingPatch(size=2).corners(data.order).unique()) == 4


def test_views_are_normalised_and_on_the_device():
    x, y = all_of(poisoned().train())
    torch.testing.assert_close(x, (pixels_of(poisoned().train()) - 0.5) / 0.25)
    assert torch.equal(y, poisoned().train().labels)


def views_of(data):
    return [
        data.train(),
        data.forget(0.5),
        data.retain("one_shot"),
        data.clean_train(),
        data.test(),
        data.triggered_test(),
    ]


@pytest.mark.parametrize("hold", [lambda source: source, in_memory], ids=["lazy", "in memory"])
def test_encoded_images_give_the_same_views(hold):
    train, test = (lazy_source(memory_source(count, seed)) for count, seed in ((COUNT, 0), (TESTS, 1)))
    data = poisoned(dataset=dataset_of(hold(train), hold(test)))
    for view, expected in zip(views_of(data), views_of(poisoned()), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(all_of(view.batched(9)), all_of(expected), strict=True))


def test_decoded_pixels_move_to_the_device_once_and_labels_stay():
    clean = dataset_of(memory_source(COUNT, 0), lazy_source(memory_source(TESTS, 1)))
    data = poisoned(dataset=clean, device=torch.device("meta"), trigger=MovingPatch(size=2))
    assert data.dataset.train.pixels.device.type == "meta"
    assert clean.train.pixels.device == CPU
    assert data.dataset.test is clean.test
    assert data.train().source is data.forget(0.5).source
    for view in views_of(data):
        assert view.positions.device == view.labels.device == view.true_labels.device == CPU
        x, y = all_of(view)
        assert (x.device.type, y.device.type) == ("meta", "meta")
        assert x.shape == (len(view), 3, 8, 8)


def test_on_the_cpu_the_pixels_are_not_copied():
    clean = dataset_of(memory_source(COUNT, 0), memory_source(TESTS, 1))
    data = poisoned(dataset=clean)
    assert data.dataset.train.pixels.data_ptr() == clean.train.pixels.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu():
    data = poisoned(device=torch.device("cuda"), trigger=MovingPatch(size=2))
    assert data.dataset.train.pixels.is_cuda
    for view, expected in zip(views_of(data), views_of(poisoned(trigger=MovingPatch(size=2))), strict=True):
        for one, other in zip(all_of(view), all_of(expected), strict=True):
            torch.testing.assert_close(one.cpu(), other, atol=1e-6, rtol=0)
