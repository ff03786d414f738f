"""Devices by name: one of this machine, or one line before any work."""

from __future__ import annotations

import pytest
import torch

from theriac.cluster.devices import choose_device, usable_kinds
from theriac.errors import BadInput


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("only_cpu")
@pytest.mark.parametrize("name", ["auto", "cpu", "cpu:0"])
def test_the_cpu_is_always_there(name: str) -> None:
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.usefixtures("only_cpu")
@pytest.mark.parametrize(
    "name", ["mps", "xla", "meta", "hpu", "cuda", "cuda:9", "cuda:-1", "banana", "", "cpu "]
)
def test_what_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(BadInput, match=r"device '.*cpu") as refused:
        choose_device(name)
    assert repr(name) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_gpus_and_mps_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert usable_kinds() == ["cpu", "cuda", "mps"]
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("mps").type == "mps"
    with pytest.raises(BadInput, match="sees 2 CUDA GPUs"):
        choose_device("cuda:2")
    with pytest.raises(BadInput, match="'meta': this machine has none; give auto or cpu or cuda or mps"):
        choose_device("meta")
