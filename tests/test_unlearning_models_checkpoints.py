"""State dicts from the files that people have, and their way into a model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.unlearning.models.checkpoints import load_into, load_weights


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def test_checkpoints_of_every_kind(tmp_path: Path) -> None:
    state = small().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "b.pth")
    torch.save({"model": state, "epoch": 3}, tmp_path / "c.ckpt")
    torch.save(nn.DataParallel(small()).state_dict(), tmp_path / "d.pt")
    assert same(load_weights(tmp_path / "a.safetensors"), state)
    assert same(load_weights(str(tmp_path / "a.pt")), state)
    assert same(load_weights(tmp_path / "b.pth"), state)
    assert same(load_weights(tmp_path / "c.ckpt"), state)
    assert load_weights(tmp_path / "d.pt").keys() == state.keys()


def test_a_layer_that_is_called_module_keeps_its_name(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(2), "head.weight": torch.ones(3)}
    torch.save(state, tmp_path / "a.pt")
    assert same(load_weights(tmp_path / "a.pt"), state)


def test_a_pickled_model_needs_trust(tmp_path: Path) -> None:
    model = small()
    torch.save(model, tmp_path / "a.pt")
    torch.save({"model": model}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(BadInput, match=r"cannot be read as plain tensors.*trust.*--trust-pickle"):
            load_weights(tmp_path / name)
        assert same(load_weights(tmp_path / name, trust_pickle=True), model.state_dict())


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the pickle was run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"w": Bomb()}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match="cannot be read as plain tensors"):
        load_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 cut off"])
def test_files_that_are_no_checkpoints(content: bytes, trust: bool, tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadInput, match=rf"weights .*{name}: not a checkpoint"):
            load_weights(path, trust_pickle=trust)


def test_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    for path in (
        tmp_path / "none.pt",
        tmp_path / "none.safetensors",
        tmp_path / "\0",
        tmp_path / ("x" * 999),
    ):
        with pytest.raises(
            BadInput, match=r"no such file; give a .safetensors file or a torch.save checkpoint"
        ):
            load_weights(path)
    with pytest.raises(BadInput, match=r"it is a folder, not a checkpoint; give a .safetensors file"):
        load_weights(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(BadInput, match=r"folder, .* give the file in it, such as .*pytorch_model\.bin"):
        load_weights(tmp_path)


@pytest.mark.parametrize("content", [{}, {"w": 3}, [torch.ones(2)], torch.ones(2), {"state_dict": {}}])
def test_a_checkpoint_without_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(BadInput, match=r"holds no state dict \(name -> tensor\)"):
        load_weights(tmp_path / "a.pt")


def test_weights_that_do_not_fit() -> None:
    state = small().state_dict()
    model = small()
    load_into(model, state, "a.pt")
    assert same(model.state_dict(), state)
    with pytest.raises(
        BadInput, match=r"weights a.pt do not fit Sequential: Missing key.*\"0.bias\".*model name"
    ):
        load_into(small(), {k: v for k, v in state.items() if k != "0.bias"}, "a.pt")
    with pytest.raises(BadInput, match=r'Unexpected key.*"2.weight"'):
        load_into(small(), {**state, "2.weight": torch.ones(1)}, "a.pt")
    with pytest.raises(BadInput, match=r"size mismatch for 0.weight.*number of classes"):
        load_into(small(), {**state, "0.weight": torch.ones(4, 2)}, "a.pt")


def saved(content: object, path: Path) -> dict[str, Tensor]:
    """What is read of a checkpoint that holds ``content``."""
    torch.save(content, path)
    return load_weights(path)


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    state = small().state_dict()
    save_file(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.safetensors")
    torch.save(state, tmp_path / "c", _use_new_zipfile_serialization=False)
    for name in ("a.pt", "b.safetensors", "c"):
        assert same(load_weights(tmp_path / name), state)


@pytest.mark.parametrize(
    "nested",
    [
        lambda state: {"model_state_dict": state, "optimizer": {"state": {}, "param_groups": [{}]}},
        lambda state: {"checkpoint": {"model": state}, "epoch": 3},
        lambda state: {"ema": state},
        lambda state: {"my weights": state, "loss": 0.5},
        lambda state: {"state_dict": state, "args": argparse.Namespace(epochs=3)},
        lambda state: under("_orig_mod.module.", state),
    ],
)
def test_usual_nests_and_wrappers_are_unpacked(
    nested: Callable[[dict[str, Tensor]], object], tmp_path: Path
) -> None:
    state = small().state_dict()
    assert same(saved(nested(state), tmp_path / "a.pt"), state)


def test_averaged_weights_beside_others_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = small().state_dict()
    assert same(saved({"model": state, "ema": {**state, "0.bias": torch.ones(3)}}, tmp_path / "a.pt"), state)
    assert "'model' is taken; the averaged weights under 'ema' are not" in caplog.text


def test_several_models_in_a_checkpoint_are_named(tmp_path: Path) -> None:
    state = small().state_dict()
    with pytest.raises(BadInput, match=r"holds several mappings \('generator', 'critic'\); save the state"):
        saved({"generator": state, "critic": state}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match=r"hold several models of this kind, under student\. and teacher\."):
        load_into(small(), {**under("student.", state), **under("teacher.", state)}, "a.pt")


def test_an_entry_that_is_no_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no state dict .*'epoch' is int; save the state dict"):
        saved({**small().state_dict(), "epoch": 3}, tmp_path / "a.pt")


@pytest.mark.parametrize("prefix", ["model.", "net.", "backbone.", "_orig_mod.model.", "some.thing."])
def test_any_prefix_of_all_names_is_dropped(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    state = {name: torch.rand(value.shape).to(value) for name, value in small().state_dict().items()}
    model = small()
    load_into(model, under(prefix, state), "a.pt")
    assert same(model.state_dict(), state)
    assert not caplog.records
    load_into(model, {**under(prefix, state), "loss.weight": torch.ones(3)}, "a.pt")
    assert (
        f"only what begins with {prefix} is taken; 1 others are left out, such as loss.weight" in caplog.text
    )


def test_a_prefix_of_some_names_is_shown() -> None:
    state = under("backbone.", small().state_dict())
    state["head.bias"] = state.pop("backbone.0.bias")
    with pytest.raises(BadInput, match=r'Missing key.*"0\.bias".*Unexpected key.*"backbone\.0\.weight"'):
        load_into(small(), state, "a.pt")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "0.weight",
            torch.ones(3, 2, dtype=torch.int8),
            "is torch.int8, but the model has torch.float32; give",
        ),
        ("0.weight", torch.ones(3, 2, dtype=torch.bool), "is torch.bool"),
        ("0.weight", torch.ones(3, 2, dtype=torch.complex64), "is torch.complex64"),
        ("0.weight", torch.ones(3, 2, device="meta"), "has no values"),
        ("0.weight", torch.ones(3, 2).to_sparse(), "is torch.sparse_coo"),
        ("0.bias", torch.ones(1).expand(10**12), "size mismatch for 0.bias"),
    ],
)
def test_entries_without_usable_values_are_named(name: str, value: Tensor, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        load_into(small(), {**small().state_dict(), name: value}, "a.pt")


def test_half_precision_is_taken() -> None:
    state = small().state_dict()
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    load_into(small(), half, "a.pt")


def test_what_does_not_fit_is_told_apart() -> None:
    model, state = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.Conv2d(1, 4, 3)).state_dict()
    with pytest.raises(BadInput, match=r"the number of channels is 1 in the checkpoint and 3 in the data"):
        load_into(model, state, "a.pt")
    state = nn.Sequential(nn.Conv2d(3, 100, 3)).state_dict()
    with pytest.raises(BadInput, match=r"the number of classes is 100 .* and 4 in the data \(--num-classes"):
        load_into(model, state, "a.pt")


def test_torch_does_not_advise(tmp_path: Path) -> None:
    torch.save({"state_dict": small().state_dict(), "path": tmp_path}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match=r"it holds pathlib\.\w+, a Python object") as error:
        load_weights(tmp_path / "a.pt")
    assert "weights_only" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header", [b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,39999999996]}}', b"{"]
)
def test_a_header_that_lies_is_refused(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BadInput, match=r"not a (readable safetensors file|checkpoint)"):
        load_weights(tmp_path / "a.safetensors")


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    with pytest.raises(BadInput, match="it is a named pipe, not a regular file"):
        load_weights(tmp_path / "pipe.pt")
    with pytest.raises(BadInput, match="it is a device, not a regular file"):
        load_weights(tmp_path / "zero.pt")
    with (tmp_path / "sparse.pt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInput, match=r"it has 1\.02e\+03 GiB, and at most 64 GiB are read"):
        load_weights(tmp_path / "sparse.pt")
