import io

import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from theriac.datasets.augmentation import augment
from theriac.datasets.sources.decoding import EncodedImages, in_memory
from theriac.datasets.sources.images import MemoryImages, on_device
from theriac.datasets.triggers import BadNets, MovingPatch, Sine
from theriac.datasets.views import BATCH_SIZE, View, seeded_generator

COUNT = 23
MEAN, STD = (0.25, 0.5, 0.75), (0.5, 0.25, 2.0)
CPU = torch.device("cpu")


def memory_source(count=COUNT, channels=3, side=8):
    pixels = torch.randint(0, 256, (count, channels, side, side), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 4
    return MemoryImages(pixels=pixels.to(torch.uint8), labels=labels, classes=("a", "b", "c", "d"))


def view_of(source, positions=None, triggered=None, trigger=None, **settings):
    positions = torch.arange(len(source)) if positions is None else torch.as_tensor(positions)
    everything = {
        "source": source,
        "positions": positions,
        "labels": (positions * 7) % 4,
        "which": torch.where(positions % 3 == 0 if triggered is None else torch.as_tensor(triggered), 0, -1),
        "triggers": (MovingPatch(size=2) if trigger is None else trigger,),
        "mean": MEAN,
        "std": STD,
        "device": CPU,
    }
    return View(**{**everything, **settings})


def all_of(view):
    batches = list(view)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def test_batches_come_in_order_and_the_last_may_be_shorter():
    view = view_of(memory_source(), batch_size=10)
    assert [len(y) for _, y in view] == [10, 10, 3]
    assert [len(y) for _, y in view.batched(COUNT)] == [COUNT]
    assert [len(x) for x, _ in view.batched(23 - 1)] == [22, 1]
    assert len(view) == COUNT
    assert view_of(memory_source()).batch_size == BATCH_SIZE == 512
    x, y = all_of(view)
    assert torch.equal(y, view.labels)
    assert all(torch.equal(first, second) for first, second in zip(all_of(view), (x, y), strict=True))


def test_pixels_are_scaled_and_normalised_by_channel():
    source = memory_source()
    view = view_of(source, positions=[5, 2, 5], triggered=[False] * 3)
    x, y = view.batch(torch.tensor([2, 1]))
    scaled = source.pixels[[5, 2]].double() / 255
    expected = torch.stack([(scaled[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)
    torch.testing.assert_close(x.double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(view.pixels(torch.tensor([2, 1])).double(), scaled, atol=1e-7, rtol=0)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert y.tolist() == [5 * 7 % 4, 2 * 7 % 4]


def test_grey_images_have_one_channel():
    view = view_of(memory_source(channels=1), mean=(0.5,), std=(0.5,))
    assert next(iter(view))[0].shape == (COUNT, 1, 8, 8)


@pytest.mark.parametrize("trigger", [BadNets(size=2), MovingPatch(size=2), Sine()])
def test_the_trigger_is_on_the_triggered_samples_alone(trigger):
    source = memory_source()
    view = view_of(source, trigger=trigger)
    plain = source.pixels.float() / 255
    expected = torch.where(view.triggered[:, None, None, None], trigger(plain, torch.arange(COUNT)), plain)
    assert torch.equal(view.pixels(torch.arange(COUNT)), expected)


def test_the_trigger_comes_after_augmentation_and_before_normalisation():
    source = memory_source(count=200)
    trigger = MovingPatch(size=2)
    view = view_of(source, trigger=trigger)
    rows = torch.arange(200)
    x, _ = view.batch(rows, "crop_flip", seeded_generator(0, "test"))
    moved = augment(source.pixels.float() / 255, "crop_flip", seeded_generator(0, "test"))
    expected = torch.where(view.triggered[:, None, None, None], trigger(moved, rows), moved)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(x, (expected - mean) / std)


def test_augmentation_without_a_generator_follows_the_global_seed():
    view = view_of(memory_source())
    rows = torch.arange(COUNT)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(view.pixels(rows, "crop"))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@given(
    positions=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=40),
    batch_size=st.integers(1, 45),
    data=st.data(),
)
def test_a_sample_looks_the_same_in_any_selection_and_batch(positions, batch_size, data):
    view = view_of(memory_source())
    whole = view.pixels(torch.arange(COUNT))
    rows = torch.tensor(positions)
    part = view.select(rows)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    x, y = all_of(part.batched(batch_size))
    assert torch.equal(x, ((whole - mean) / std)[rows])
    assert torch.equal(y, view.labels[rows])
    again = torch.tensor(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1)))
    assert torch.equal(part.select(again).pixels(torch.arange(len(again))), whole[rows[again]])


def test_the_trigger_sees_positions_in_the_dataset():
    trigger = MovingPatch(size=2)
    source = MemoryImages(
        pixels=torch.zeros(64, 3, 8, 8, dtype=torch.uint8), labels=torch.zeros(64).long(), classes=("a",)
    )
    positions = torch.arange(63, 20, -2)
    view = view_of(source, positions=positions, triggered=[True] * len(positions), trigger=trigger)
    bright = view.pixels(torch.arange(len(positions)))[:, 0]
    places = torch.stack([bright[:, 0, 0], bright[:, 0, -1], bright[:, -1, 0], bright[:, -1, -1]], dim=1)
    assert torch.equal(places.argmax(1), trigger.corners(positions))
    assert places.sum() == len(positions)


def test_selection_by_mask_and_by_number_agree():
    view = view_of(memory_source())
    mask = torch.arange(COUNT) % 5 == 1
    by_mask, by_number = view.select(mask), view.select(mask.nonzero().flatten())
    for part in (by_mask, by_number):
        assert part.positions.tolist() == [1, 6, 11, 16, 21]
        assert torch.equal(part.labels, view.labels[mask])
        assert torch.equal(part.triggered, view.triggered[mask])
        assert torch.equal(part.true_labels, view.source.labels[mask])
    assert view.select(torch.tensor([3, 3])).positions.tolist() == [3, 3]


@pytest.mark.parametrize("nothing", [torch.zeros(COUNT, dtype=torch.bool), torch.tensor([]).long()])
def test_an_empty_view_has_no_batches(nothing):
    view = view_of(memory_source()).select(nothing)
    assert len(view) == 0
    assert list(view) == []
    assert view.pixels(torch.tensor([]).long()).shape == (0, 3, 8, 8)


def test_a_view_without_trigger_is_clean():
    source = memory_source()
    view = view_of(source, triggered=[False] * COUNT)
    clean = View(**{**vars(view), "triggers": ()})
    assert torch.equal(clean.pixels(torch.arange(COUNT)), source.pixels.float() / 255)


def test_the_source_is_never_changed():
    source = memory_source()
    before = source.pixels.clone()
    view = view_of(source, triggered=[True] * COUNT, trigger=BadNets(size=3))
    list(view)
    view.pixels(torch.arange(COUNT), "crop_flip")
    assert torch.equal(source.pixels, before)


def lazy_source(reads):
    def read(position):
        reads.append(position)
        buffer = io.BytesIO()
        Image.fromarray(memory_source().pixels[position].permute(1, 2, 0).numpy()).save(buffer, "PNG")
        return buffer.getvalue()

    labels = memory_source().labels
    return EncodedImages(read=read, name=str, labels=labels, classes=("a", "b", "c", "d"), size=(8, 8))


def test_a_lazy_source_decodes_the_batch_asked_for_and_gives_the_same():
    reads: list[int] = []
    lazy = view_of(lazy_source(reads), batch_size=10)
    batches = iter(lazy)
    assert reads == []
    next(batches)
    assert sorted(reads) == list(range(10))
    expected = all_of(view_of(memory_source(), batch_size=10))
    held = view_of(in_memory(lazy.source), batch_size=10)
    for view in (lazy, held):
        assert all(torch.equal(a, b) for a, b in zip(all_of(view), expected, strict=True))


def test_pixels_are_taken_from_the_device_they_lie_on():
    """The meta device refuses to give pixels back, so this fails if a batch goes through the CPU."""
    source = on_device(memory_source(), "meta")
    assert isinstance(source, MemoryImages)
    assert source.pixels.device.type == "meta"
    assert source.labels.device == CPU
    x, y = next(iter(view_of(source, device=torch.device("meta"))))
    assert (x.device.type, y.device.type) == ("meta", "meta")
    assert x.shape == (COUNT, 3, 8, 8)
    lazy = lazy_source([])
    assert on_device(lazy, "meta") is lazy
    assert next(iter(view_of(lazy, device=torch.device("meta"))))[0].device.type == "meta"


def test_seeded_generators_depend_on_seed_and_purpose_alone():
    def draws(*given):
        return torch.randint(0, 2**31, (4,), generator=seeded_generator(*given)).tolist()

    assert draws(0, "a") == draws(0, "a")
    assert len({tuple(draws(seed, purpose)) for seed in range(5) for purpose in "ab"}) == 10
    before = torch.get_rng_state()
    draws(0, "a")
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_generators_never_change_between_versions():
    assert seeded_generator(0, "manipulated").initial_seed() == 7034311945148965261


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["none", "crop_flip"])
def test_the_same_on_a_gpu(kind):
    rows = torch.arange(COUNT)
    here = view_of(memory_source())
    there = view_of(on_device(memory_source(), "cuda"), device=torch.device("cuda"))
    (x, y), (other_x, other_y) = (view.batch(rows, kind, seeded_generator(0, "t")) for view in (here, there))
    assert other_x.is_cuda
    torch.testing.assert_close(other_x.cpu(), x, atol=1e-6, rtol=0)
    assert torch.equal(other_y.cpu(), y)
