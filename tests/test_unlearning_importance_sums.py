"""The algebra of importances and their files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from theriac.errors import BadInput
from theriac.tests.importance_models import data, make
from theriac.unlearning.importance.estimate import Importance, estimate_importance
from theriac.unlearning.kinds import GRANULARITIES, KINDS

estimate: Any = estimate_importance


def assert_equal_up_to_rounding(a: Importance, b: Importance) -> None:
    assert (a.count, a.kind, a.granularity, a.exponent) == (b.count, b.kind, b.granularity, b.exponent)
    assert a.total.keys() == b.total.keys()
    for name, value in a.total.items():
        scale = b.total[name].max().item()
        torch.testing.assert_close(value, b.total[name], rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_sum_is_the_importance_of_both_sets(kind: str, granularity: str) -> None:
    model, batches = make("convnet"), data(10)
    a, b, both = (
        estimate(model, part, kind=kind, granularity=granularity)
        for part in (batches[:1], batches[1:], batches)
    )
    assert_equal_up_to_rounding(a + b, both)


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_is_the_importance_of_the_rest(kind: str) -> None:
    model, batches = make("convnet"), data(10)
    whole, part, rest = (estimate(model, some, kind=kind) for some in (batches, batches[2:], batches[:2]))
    assert_equal_up_to_rounding(whole - part, rest)
    assert (whole - part).count == 8


def importance(value: float = 1.0, count: int = 2, **others: Any) -> Importance:
    plain: dict[str, Any] = {"kind": "xlf", "granularity": "sample", **others}
    total = {"w": torch.full((2, 3), value, dtype=torch.float64), "b": torch.ones(3, dtype=torch.float64)}
    return Importance(total=total, count=count, **plain)


def test_the_mean_is_over_the_count() -> None:
    mean = importance(3.0, count=4).mean()
    assert mean["w"].dtype == torch.float32
    assert mean["w"].unique().tolist() == [0.75]
    assert mean["b"].unique().tolist() == [0.25]


def test_rounding_never_makes_a_difference_negative() -> None:
    rest = importance(1.0, count=3) - importance(1.0 + 1e-15, count=2)
    assert (rest.total["w"] == 0).all()


def test_operands_are_not_changed() -> None:
    a, b = importance(2.0, count=5), importance(1.0)
    _ = a + b, a - b, a * 3
    assert (a.total["w"] == 2).all()
    assert (b.total["w"] == 1).all()


def test_what_cannot_be_combined() -> None:
    plain = importance(count=5)
    for other in (importance(kind="lf"), importance(granularity="batch"), importance(exponent=3.0)):
        for combine in (Importance.__add__, Importance.__sub__):
            with pytest.raises(BadInput, match="are different quantities; they cannot be combined"):
                combine(plain, other)
    batch = importance(count=5, granularity="batch")
    with pytest.raises(BadInput, match="granularity 'batch' cannot be subtracted"):
        batch - importance(granularity="batch")
    for count in (5, 6):
        with pytest.raises(BadInput, match=f"{count} samples cannot be taken from 5"):
            plain - importance(count=count)


def test_importances_of_different_models() -> None:
    plain = importance(count=5)
    fewer = replace(importance(), total={"w": torch.ones(2, 3)})
    with pytest.raises(BadInput, match="parameter 'b' is in only one of them"):
        plain + fewer
    other = replace(importance(), total={"w": torch.ones(2, 3), "b": torch.ones(1)})
    with pytest.raises(BadInput, match=r"parameter 'b' has shape \(3,\) in one and \(1,\) in the other"):
        plain - other


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_is_at_least_one(count: int) -> None:
    with pytest.raises(BadInput, match=f"importances of {count} terms"):
        importance(count=count)


@pytest.mark.parametrize("settings", [{}, {"kind": "fim", "granularity": "batch"}, {"exponent": 0.1}])
def test_a_file_reads_back_bit_for_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    written = estimate(make("resnet9"), data(6), **settings)
    written.save(tmp_path / "i.safetensors")
    read = Importance.load(tmp_path / "i.safetensors")
    assert (read.count, read.kind, read.granularity, read.exponent) == (
        written.count,
        written.kind,
        written.granularity,
        written.exponent,
    )
    assert read.total.keys() == written.total.keys()
    for name, value in written.total.items():
        assert read.total[name].dtype == value.dtype
        assert torch.equal(read.total[name], value)


def test_sums_that_are_not_contiguous_can_be_saved(tmp_path: Path) -> None:
    turned = replace(importance(), total={"w": torch.arange(6.0).reshape(2, 3).T})
    turned.save(tmp_path / "i.safetensors")
    assert torch.equal(Importance.load(tmp_path / "i.safetensors").total["w"], turned.total["w"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "i.safetensors"
    with pytest.raises(BadInput, match=r"importances .*i.safetensors: cannot be read \(.*compute them again"):
        Importance.load(path)
    importance().save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadInput, match="cannot be read"):
        Importance.load(path)
    path.write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be read"):
        Importance.load(path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(BadInput, match=r"is not a file of importances \(theriac-importance-1\)"):
        Importance.load(path)
    save_file({"w": torch.ones(2)}, path, metadata={"format": "theriac-importance-1", "count": "many"})
    with pytest.raises(BadInput, match="damaged header"):
        Importance.load(path)
