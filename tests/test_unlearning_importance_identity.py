"""Identities: equal for equal things in any order, different for everything else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from theriac.errors import BadInput
from theriac.tests.importance_models import data, make
from theriac.unlearning.importance.estimate import Importance, estimate_importance
from theriac.unlearning.importance.identity import DataIdentity, model_identity


def number(*batches: tuple[Tensor, Tensor], by_batch: bool = False) -> int:
    identity = DataIdentity(batches=by_batch)
    for x, y in batches:
        identity.add(x, y)
    return identity.number


X, Y = (torch.cat(parts) for parts in zip(*data(12), strict=True))


def test_samples_add_up_in_any_order_and_batching():
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    whole = number((X, Y))
    assert number((X[order], Y[order])) == whole
    assert number((X[:5], Y[:5]), (X[5:], Y[5:])) == whole
    assert (number((X[:5], Y[:5])) + number((X[5:], Y[5:]))) % 2**64 == whole
    assert 0 <= whole < 2**64


def swapped_pixels() -> Tensor:
    x = X.clone()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = X[1, 0, 0, 0], X[0, 0, 0, 0]
    return x


def nudged() -> Tensor:
    x = X.clone()
    x[3, 1, 2, 2] = torch.nextafter(x[3, 1, 2, 2], torch.tensor(9.0))
    return x


CHANGES = {
    "a sample less": (X[1:], Y[1:]),
    "a sample twice": (torch.cat([X, X[:1]]), torch.cat([Y, Y[:1]])),
    "another label": (X, torch.cat([(Y[:1] + 1) % 3, Y[1:]])),
    "labels exchanged": (X, Y.flip(0)),
    "pixels exchanged between samples": (swapped_pixels(), Y),
    "one rounding": (nudged(), Y),
    "mirrored": (X.flip(-1), Y),
    "double precision": (X.double(), Y),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(change: str):
    assert number(CHANGES[change]) != number((X, Y))


def test_batches_know_their_boundaries_and_order_inside_but_not_between():
    first, second = (X[:5], Y[:5]), (X[5:], Y[5:])
    whole = number(first, second, by_batch=True)
    assert number(second, first, by_batch=True) == whole
    assert number((X[:6], Y[:6]), (X[6:], Y[6:]), by_batch=True) != whole
    assert number((X[:5].flip(0), Y[:5].flip(0)), second, by_batch=True) != whole


def test_token_numbers_have_identities_too():
    tokens = torch.arange(12).reshape(4, 3)
    assert number((tokens, Y[:4])) != number((tokens + 1, Y[:4]))


def test_a_model_is_its_names_values_and_buffers():
    model = make("convnet")
    values = dict(model.state_dict())
    same = model_identity({name: value.clone() for name, value in reversed(values.items())})
    assert same == model_identity(values)
    for name in ("conv.weight", "norm.running_mean", "norm.num_batches_tracked"):
        changed = {**values, name: values[name] + 1}
        assert model_identity(changed) != same
    assert model_identity({("x" + name): value for name, value in values.items()}) != same
    assert model_identity({name: value.double() for name, value in values.items()}) != same


@pytest.mark.parametrize("granularity", ["sample", "batch"])
def test_importances_carry_both(granularity, tmp_path):
    model = make("convnet")
    found = estimate_importance(model, data(12), granularity=granularity)
    assert found.model == model_identity(model.state_dict())
    assert found.data == number(*data(12), by_batch=granularity == "batch")
    found.save(tmp_path / "i.safetensors")
    loaded = Importance.load(tmp_path / "i.safetensors")
    assert (loaded.model, loaded.data) == (found.model, found.data)


def test_the_algebra_keeps_identities():
    model, parts = make("convnet"), data(12)
    whole = estimate_importance(model, parts)
    some, rest = estimate_importance(model, parts[:1]), estimate_importance(model, parts[1:])
    assert (some + rest).data == whole.data
    assert (whole - some).data == rest.data
    assert (whole - some).count == rest.count
    assert (some * 3).data == (some + some + some).data
    assert (some * 3).count == 3 * some.count
    unknown = Importance(total=some.total, count=4, kind="xlf", granularity="sample")
    assert (whole - unknown).data is None


def test_importances_of_two_models_are_not_mixed():
    one, other = (estimate_importance(make("convnet", seed), data(4)) for seed in (0, 1))
    with pytest.raises(BadInput, match="importances of different models"):
        one + other


def test_what_is_no_part_cannot_be_subtracted():
    model, parts = make("convnet"), data(12)
    small = estimate_importance(model, parts[:2])
    large = estimate_importance(model, [(parts[2][0] * 100, parts[2][1])])
    with pytest.raises(BadInput, match="larger than the whole"):
        small - large
