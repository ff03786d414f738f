"""S_f as it is read, kept and cut into pieces."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.search.forget_set import ForgetSet

X, Y = torch.randn(10, 6), torch.arange(10)
BYTES = X.nbytes + Y.nbytes
MODEL = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 10)).eval().requires_grad_(False)


class Source:
    """Batches of four that count how often they are read; every time in the same buffer."""

    def __init__(self) -> None:
        self.read, self.buffer = 0, torch.empty(4, 6)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.read += 1
        for x, y in zip(X.split(4), Y.split(4), strict=True):
            yield self.buffer[: len(x)].copy_(x), y


def together(found: ForgetSet) -> tuple[Tensor, Tensor]:
    x, y = zip(*((x.clone(), y) for x, y in found), strict=True)
    return torch.cat(x), torch.cat(y)


@pytest.mark.parametrize("memory", [None, BYTES, BYTES - 1, 0])
@pytest.mark.parametrize("piece", [None, 3, 100])
def test_all_samples_come_in_order(memory: int | None, piece: int | None) -> None:
    source = Source()
    found = ForgetSet(source, MODEL, piece=piece, memory=memory)
    for _ in range(3):
        x, y = together(found)
        assert torch.equal(x, X)
        assert torch.equal(y, Y)
    kept = memory in (None, BYTES)
    assert source.read == (1 if kept else 4 if memory else 3)
    assert found.held_bytes == (BYTES if kept else 0)
    assert [len(y) for _, y in found] == {None: [4, 4, 2], 3: [3, 1, 3, 1, 2], 100: [4, 4, 2]}[piece]


def test_kept_pieces_are_the_same_tensors_whatever_becomes_of_the_batches() -> None:
    batches = [(X.clone(), Y.clone())]
    found = ForgetSet(batches, MODEL, piece=5)
    first = list(found)
    batches[0][0].zero_()
    batches.clear()
    assert all(a is b for one, two in zip(first, found, strict=True) for a, b in zip(one, two, strict=True))
    assert torch.equal(together(found)[0], X)


def test_images_are_kept_as_the_model_takes_them() -> None:
    half = nn.Linear(6, 4).half()
    assert next(iter(ForgetSet([(X, Y)], half)))[0].dtype == torch.float16
    assert next(iter(ForgetSet([(X.byte(), Y)], half)))[0].dtype == torch.uint8
    assert next(iter(ForgetSet([(X.half(), Y)], MODEL)))[0].dtype == torch.float32
    assert ForgetSet([(X.half(), Y)], MODEL, memory=BYTES - 1).held_bytes == 0


def test_images_that_the_model_writes_into_are_read_anew(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    found = ForgetSet(source, MODEL, piece=2)
    with caplog.at_level(logging.DEBUG, logger="theriac.search.forget_set"):
        for times in range(1, 4):
            for (x, _), expected in zip(found, X.split(2), strict=True):
                assert torch.equal(x, expected)
                x.mul_(2)
            assert source.read == times
    assert caplog.text.count("the model writes into its images") == 1


def test_passes_over_kept_pieces_are_remembered() -> None:
    found = ForgetSet([(X, Y)], MODEL, piece=5)
    outputs = []
    for _ in range(2):
        for number, (x, _) in enumerate(found):
            with torch.no_grad(), found.recalling(number, {}):
                outputs.append(MODEL(x))
    assert outputs[0] is outputs[2]
    assert outputs[1] is outputs[3]
    assert found.held_bytes > BYTES
    found.release()
    assert found.held_bytes == BYTES


def test_bad_input() -> None:
    with pytest.raises(BadInput, match="piece 0"):
        ForgetSet([(X, Y)], MODEL, piece=0)
    with pytest.raises(BadInput, match="memory -1"):
        ForgetSet([(X, Y)], MODEL, memory=-1)
