"""Test images that are given away: disjoint from what is reported on, nested, reproducible."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from theriac.datasets.splits import HeldBack, split_test
from theriac.errors import BadInput


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 3))
def test_parts_are_disjoint_and_whole(count: int, clean: int, selection: int, seed: int):
    held_back = HeldBack(clean=clean, selection=selection)
    if clean + selection >= count:
        with pytest.raises(BadInput, match="leave none to report on"):
            split_test(count, held_back, seed)
        return
    split = split_test(count, held_back, seed)
    assert (len(split.clean), len(split.selection)) == (clean, selection)
    everything = torch.cat([split.clean, split.selection, split.reported])
    assert everything.sort().values.tolist() == list(range(count))
    assert split.reported.tolist() == sorted(split.reported.tolist())


def test_fewer_clean_images_are_a_part_of_more_and_seeds_differ():
    few, many = (set(split_test(100, HeldBack(clean=n), 0).clean.tolist()) for n in (10, 40))
    assert few < many
    assert few != set(split_test(100, HeldBack(clean=10), 1).clean.tolist())
    assert len(split_test(100, HeldBack(), 0).reported) == 100
