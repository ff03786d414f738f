from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from theriac.datasets.triggers import (
    TRIGGERS,
    AnyTrigger,
    BadNets,
    MovingPatch,
    Sine,
    parse_trigger,
)
from theriac.datasets.triggers.base import Trigger, _layers
from theriac.datasets.triggers.warps import _places
from theriac.errors import BadInput
from theriac.tests.trigger_table import TABLE, write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="module", params=list(TABLE))
def trigger(request, pictures) -> Trigger:
    return TABLE[request.param](pictures)


def batch(count, height=9, width=11, channels=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, height, width, generator=generator).to(dtype)


def test_the_table_covers_every_trigger(pictures):
    assert {type(build(pictures)) for build in TABLE.values()} == set(TRIGGERS.values())
    assert all(kind.model_fields["name"].default == name for name, kind in TRIGGERS.items())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 8, 13), (1, 40, 17)])
def test_every_trigger_shows_on_images_of_any_shape(trigger, shape):
    images = batch(3, shape[1], shape[2], shape[0])
    result = trigger(images, torch.arange(3))
    assert result.shape == images.shape
    assert ((result >= 0) & (result <= 1)).all()
    assert (result != images).flatten(1).any(1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_shape_dtype_range_and_purity(trigger, dtype, channels, count):
    images = batch(count, channels=channels, dtype=dtype)
    index = torch.arange(count)
    before, before_index = images.clone(), index.clone()
    result = trigger(images, index)
    assert result.shape == images.shape
    assert result.dtype == dtype
    assert torch.equal(images, before)
    assert torch.equal(index, before_index)
    assert not count or result.data_ptr() != images.data_ptr()
    assert ((result >= 0) & (result <= 1)).all()


@settings(max_examples=10, deadline=None)
@given(
    order=st.permutations(range(6)),
    cut=st.integers(0, 6),
    start=st.integers(0, 2**40),
    height=st.integers(6, 12),
    width=st.integers(6, 12),
)
def test_a_sample_does_not_depend_on_its_batch(trigger, order, cut, start, height, width):
    images, index = batch(6, height, width), start + torch.arange(6)
    whole = trigger(images, index)
    assert torch.equal(trigger(images, index), whole)
    order = torch.tensor(order)
    parts = [trigger(images[rows], index[rows]) for rows in (order[:cut], order[cut:])]
    assert torch.equal(torch.cat(parts), whole[order])


def test_memory_layout_and_views_do_not_matter(trigger):
    images, index = batch(4), torch.arange(4)
    expected = trigger(images, index)
    assert torch.equal(trigger(images.to(memory_format=torch.channels_last), index), expected)
    expanded = images[:1].expand(4, -1, -1, -1)
    assert torch.equal(trigger(expanded, index)[0], expected[0])


def test_bad_calls_are_refused(trigger):
    with pytest.raises(BadInput, match=r"torch.uint8 \(2, 3, 9, 11\); give float"):
        trigger((batch(2) * 255).to(torch.uint8), torch.arange(2))
    with pytest.raises(BadInput, match=r"\(3, 9, 11\); give float"):
        trigger(batch(1)[0], torch.arange(3))
    with pytest.raises(BadInput, match="one index a sample"):
        trigger(batch(2), torch.arange(3))


def test_triggers_are_frozen_values_that_survive_json(trigger):
    assert parse_trigger(trigger.model_dump()) == trigger
    assert type(trigger).model_validate_json(trigger.model_dump_json()) == trigger
    assert TypeAdapter(AnyTrigger).validate_json(trigger.model_dump_json()) == trigger
    assert hash(trigger) == hash(trigger.model_copy())
    with pytest.raises(ValidationError, match="frozen"):
        trigger.name = "other"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("badnets", BadNets()),
        ({"name": "badnets", "size": 4, "margin": 1}, BadNets(size=4, margin=1)),
        ("moving", MovingPatch()),
        ({"name": "sine", "amplitude": 0.2}, Sine(amplitude=0.2)),
    ],
)
def test_parse_trigger(given, expected):
    assert parse_trigger(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "badnet",
            r"unknown trigger name 'badnet'; choose one of badnets, .*; did you mean badnets\?",
        ),
        ({"size": 3}, "unknown trigger name None; choose one of badnets, moving"),
        ({"name": ["sine"]}, r"unknown trigger name \['sine'\]"),
        ({"name": "sine", "size": 3}, "trigger sine: size = 3: Extra .*settings are frequency, amplitude"),
        ({"name": "badnets", "size": 0}, "trigger badnets: size = 0: .*greater than or equal to 1"),
        ({"name": "badnets", "value": 1.5}, "value = 1.5: .*less than or equal to 1"),
        ({"name": "badnets", "margin": -1}, "margin = -1"),
        ({"name": "moving", "seed": -1}, "seed = -1"),
        ({"name": "moving", "value": float("nan")}, "value = nan"),
        ({"name": "sine", "frequency": 0}, "frequency = 0"),
        ({"name": "sine", "frequency": 0.6}, "frequency = 0.6"),
        ({"name": "sine", "amplitude": 0}, "amplitude = 0"),
        ({"name": "sine", "amplitude": "loud"}, "amplitude = 'loud'"),
        ({"name": "blend", "alpha": 0}, "alpha = 0"),
        ({"name": "blend", "alpha": 1.1}, "alpha = 1.1"),
        ({"name": "additive", "file": "x.png", "scale": 101}, "x.png: No such file"),
        ("additive", "trigger additive needs file"),
        ("masked", "trigger masked needs file"),
        ({"name": "trojan_square", "size": 0}, "size = 0"),
        ({"name": "trojan_square", "corner": "middle"}, "corner = 'middle': .*'top_left'"),
        ({"name": "trojan_watermark", "strokes": 0}, "strokes = 0"),
        ({"name": "trojan_watermark", "ring": 0.6}, "ring = 0.6"),
        ({"name": "trojan_watermark", "thickness": 0}, "thickness = 0"),
        ({"name": "trojan_watermark", "opacity": 0}, "opacity = 0"),
        ({"name": "l0", "pixels": 0}, "pixels = 0"),
        ({"name": "l0", "mode": "xor"}, "mode = 'xor'"),
        ({"name": "l0", "amplitude": 0}, "amplitude = 0"),
        ({"name": "l2", "norm": 0}, "norm = 0"),
        ({"name": "l2", "norm": float("inf")}, "norm = inf"),
        ({"name": "smooth", "cutoff": 1}, "cutoff = 1"),
        ({"name": "smooth", "amplitude": 1.5}, "amplitude = 1.5"),
        ({"name": "wanet", "grid": 1}, "grid = 1"),
        ({"name": "wanet", "strength": 0}, "strength = 0"),
        ({"name": "semantic", "cutoff": 1}, "cutoff = 1"),
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        parse_trigger(given)


@pytest.mark.parametrize("name", [name for name, kind in TRIGGERS.items() if "seed" in kind.model_fields])
def test_another_seed_is_another_trigger(name):
    images, index = batch(20, 16, 16), torch.arange(20)
    first, again, other = (parse_trigger({"name": name, "seed": seed})(images, index) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(BadInput, match="seed = -1"):
        parse_trigger({"name": name, "seed": -1})


def test_random_state_elsewhere_does_not_matter(trigger):
    images, index = batch(2, 14, 12), torch.arange(2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    result = trigger(images, index)
    assert torch.equal(torch.get_rng_state(), state)
    fresh = type(trigger).model_validate(trigger.model_dump())
    torch.manual_seed(6)
    _layers.cache_clear()
    _places.cache_clear()
    assert torch.equal(fresh(images, index), result)


def test_the_union_is_told_apart_by_name():
    class Holder(BaseModel):
        model_config = ConfigDict(extra="forbid")
        trigger: AnyTrigger

    assert Holder.model_validate({"trigger": {"name": "moving", "seed": 3}}).trigger == MovingPatch(seed=3)
    with pytest.raises(ValidationError, match="badnets"):
        Holder.model_validate({"trigger": {"name": "blond"}})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu(trigger):
    images, index = batch(40), 2**33 + torch.arange(40)
    result = trigger(images.cuda(), index)
    assert result.is_cuda
    torch.testing.assert_close(result.cpu(), trigger(images, index), atol=1e-5, rtol=0)
