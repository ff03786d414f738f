"""Some rows of a set of samples."""

from __future__ import annotations

import pytest
import torch

from theriac.datasets.samples import Selected, split
from theriac.tests.poisoned_conv import clean


def test_rows_in_their_order() -> None:
    rows = torch.tensor([7, 3, 3, 290])
    some = Selected(samples=clean(), rows=rows)
    x, y = clean().batch(rows)
    assert len(some) == 4
    ((all_x, all_y),) = list(some)
    assert torch.equal(all_x, x)
    assert torch.equal(all_y, y)
    assert torch.equal(some.batch(torch.tensor([3, 0]))[0], x[[3, 0]])
    assert (some.mean, some.std, some.device) == (clean().mean, clean().std, clean().device)
    cropped = some.batch(torch.arange(4), "crop", torch.Generator().manual_seed(0))[0]
    expected = clean().batch(rows, "crop", torch.Generator().manual_seed(0))[0]
    assert torch.equal(cropped, expected)
    assert not torch.equal(cropped, x)


@pytest.mark.parametrize(("share", "held"), [(0.2, 60), (1e-6, 1), (1 - 1e-6, 299)])
def test_a_split_has_two_parts(share: float, held: int) -> None:
    one, other = split(clean(), share, torch.Generator().manual_seed(0))
    assert (len(one), len(other)) == (held, 300 - held)
    assert sorted([*one.rows.tolist(), *other.rows.tolist()]) == list(range(300))
    again, _ = split(clean(), share, torch.Generator().manual_seed(1))
    assert again.rows.tolist() != one.rows.tolist()
