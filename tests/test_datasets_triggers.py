import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from theriac.datasets.triggers import TRIGGERS, AnyTrigger, BadNets, MovingPatch, Sine, parse_trigger
from theriac.errors import BadInput

TABLE = [
    BadNets(),
    BadNets(size=2, value=0.5, margin=1),
    MovingPatch(),
    MovingPatch(size=5, value=0.0, seed=7),
    Sine(),
    Sine(frequency=0.4, amplitude=1.0),
]
every_trigger = pytest.mark.parametrize("trigger", TABLE, ids=str)


def batch(count, height=9, width=11, channels=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, height, width, generator=generator).to(dtype)


def test_the_table_covers_every_trigger():
    assert {type(trigger) for trigger in TABLE} == set(TRIGGERS.values())
    assert all(kind().name == name for name, kind in TRIGGERS.items())


@every_trigger
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


@every_trigger
@settings(max_examples=25, deadline=None)
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


@every_trigger
def test_memory_layout_and_views_do_not_matter(trigger):
    images, index = batch(4), torch.arange(4)
    expected = trigger(images, index)
    assert torch.equal(trigger(images.to(memory_format=torch.channels_last), index), expected)
    expanded = images[:1].expand(4, -1, -1, -1)
    assert torch.equal(trigger(expanded, index)[0], expected[0])


@every_trigger
def test_bad_calls_are_refused(trigger):
    with pytest.raises(BadInput, match=r"torch.uint8 \(2, 3, 9, 11\); give float"):
        trigger((batch(2) * 255).to(torch.uint8), torch.arange(2))
    with pytest.raises(BadInput, match=r"\(3, 9, 11\); give float"):
        trigger(batch(1)[0], torch.arange(3))
    with pytest.raises(BadInput, match="one index a sample"):
        trigger(batch(2), torch.arange(3))


@every_trigger
def test_triggers_are_frozen_values_that_survive_json(trigger):
    assert parse_trigger(trigger.model_dump()) == trigger
    assert type(trigger).model_validate_json(trigger.model_dump_json()) == trigger
    assert hash(trigger) == hash(trigger.model_copy())
    with pytest.raises(ValidationError, match="frozen"):
        trigger.name = "other"


@pytest.mark.parametrize(("size", "margin"), [(1, 0), (3, 0), (4, 1), (9, 0)])
def test_badnets_changes_its_square_alone(size, margin):
    images = batch(2)
    expected = images.clone()
    rows, columns = range(9 - margin - size, 9 - margin), range(11 - margin - size, 11 - margin)
    for row in rows:
        for column in columns:
            expected[:, :, row, column] = 1.0
    assert torch.equal(BadNets(size=size, margin=margin)(images, torch.arange(2)), expected)


@pytest.mark.parametrize("trigger", [BadNets(size=10), BadNets(size=5, margin=5), MovingPatch(size=10)])
def test_a_patch_larger_than_the_image_is_refused(trigger):
    with pytest.raises(BadInput, match=r"10 pixels .*does not fit into images of 9 x 11; choose a smaller"):
        trigger(batch(1), torch.arange(1))


def test_the_moving_patch_changes_one_corner_a_sample():
    trigger, index = MovingPatch(size=3, value=1.0), torch.arange(64)
    images = batch(64)
    result = trigger(images, index)
    corners = {0: (0, 0), 1: (0, 8), 2: (6, 0), 3: (6, 8)}
    for position, corner in enumerate(trigger.corners(index).tolist()):
        top, left = corners[corner]
        expected = images[position].clone()
        expected[:, top : top + 3, left : left + 3] = 1.0
        assert torch.equal(result[position], expected)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("step", [1, 4, 10, 4096])
def test_corners_are_close_to_uniform(seed, step):
    counts = MovingPatch(seed=seed).corners(step * torch.arange(8000)).bincount(minlength=4)
    chi_squared = ((counts - 2000.0) ** 2 / 2000).sum()
    assert len(counts) == 4
    assert chi_squared < 16.3  # 99.9 % quantile with three degrees of freedom


def test_corners_differ_between_seeds_and_neighbours():
    index = torch.arange(4000)
    corners = MovingPatch(seed=0).corners(index)
    assert (corners == MovingPatch(seed=1).corners(index)).float().mean() == pytest.approx(0.25, abs=0.04)
    assert (corners[1:] == corners[:-1]).float().mean() == pytest.approx(0.25, abs=0.04)


def test_corners_never_change_between_versions():
    assert MovingPatch().corners(torch.arange(12)).tolist() == [0, 3, 3, 0, 1, 1, 3, 0, 2, 3, 2, 3]


def test_the_sine_follows_its_formula():
    images = torch.full((1, 2, 4, 50), 0.5)
    change = Sine()(images, torch.zeros(1, dtype=torch.int64)) - images
    assert torch.equal(change, change[:, :1, :1].expand_as(change))
    wave = change[0, 0, 0]
    assert wave[0] == 0
    assert wave[10] == pytest.approx(0.1, abs=1e-6)
    assert wave[20] == pytest.approx(0, abs=1e-6)
    assert wave[30] == pytest.approx(-0.1, abs=1e-6)
    assert wave[5] == pytest.approx(0.1 * 0.5**0.5, abs=1e-6)


def test_the_sine_is_clipped():
    trigger = Sine(frequency=0.025, amplitude=0.5)
    bright = trigger(torch.ones(1, 1, 2, 40), torch.zeros(1, dtype=torch.int64))
    dark = trigger(torch.zeros(1, 1, 2, 40), torch.zeros(1, dtype=torch.int64))
    assert bright[..., 10].eq(1).all()
    assert bright[..., 30].allclose(torch.tensor(0.5))
    assert dark[..., 30].eq(0).all()
    assert dark[..., 10].allclose(torch.tensor(0.5))


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
            r"unknown trigger name 'badnet'; choose one of badnets, moving, sine; did you mean badnets\?",
        ),
        ({"size": 3}, "unknown trigger name None; choose one of badnets, moving, sine"),
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
    ],
)
def test_bad_settings_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        parse_trigger(given)


def test_the_union_is_told_apart_by_name():
    class Holder(BaseModel):
        model_config = ConfigDict(extra="forbid")
        trigger: AnyTrigger

    assert Holder.model_validate({"trigger": {"name": "moving", "seed": 3}}).trigger == MovingPatch(seed=3)
    with pytest.raises(ValidationError, match="badnets"):
        Holder.model_validate({"trigger": {"name": "blend"}})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_trigger
def test_the_same_on_a_gpu(trigger):
    images, index = batch(40), 2**33 + torch.arange(40)
    result = trigger(images.cuda(), index)
    assert result.is_cuda
    torch.testing.assert_close(result.cpu(), trigger(images, index), atol=1e-6, rtol=0)
