"""`theriac.heal` as a model owner uses it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import theriac
from theriac.datasets.local import load_images
from theriac.datasets.views import plain_view
from theriac.errors import BadInput
from theriac.search.heal import Healing
from theriac.tests.poisoned import accuracy_of, poisoned_digits

POISONED = poisoned_digits()


def heal(**overrides: Any) -> Healing:
    arguments: dict[str, Any] = {
        "model": POISONED.model,
        "forget": POISONED.found,
        "retain": POISONED.rest,
        **overrides,
    }
    return theriac.heal(arguments.pop("model"), **arguments)


def test_the_victim_is_poisoned_enough_for_these_tests():
    assert accuracy_of(POISONED.model, POISONED.clean) > 0.9
    assert accuracy_of(POISONED.model, POISONED.triggered()) < 0.3


@pytest.mark.parametrize("method", ["ssd", "lf", "xlf"])
def test_it_heals(method: str):
    healing = heal(method=method)
    assert healing.status == "stopped"
    assert accuracy_of(healing.model, POISONED.triggered()) > 0.65
    assert accuracy_of(healing.model, POISONED.clean) > accuracy_of(POISONED.model, POISONED.clean) - 0.05
    found, rho = accuracy_of(healing.model, POISONED.found), healing.settings["rho"]
    assert found <= rho * accuracy_of(POISONED.model, POISONED.found)
    assert healing.metrics["forget_accuracy"] == pytest.approx(found)


def test_the_report_is_consistent():
    healing = heal()
    last, metrics = healing.trace[-1], healing.metrics
    assert last["alpha"] == healing.alpha
    assert last["crossed"] is True
    assert metrics["steps"] == len(healing.trace)
    assert metrics["dampened"] == last["dampened"] > 0
    assert metrics["forget_count"] == 40
    assert metrics["retain_accuracy"] == pytest.approx(accuracy_of(healing.model, POISONED.rest))
    assert metrics["retain_accuracy_before"] == pytest.approx(accuracy_of(POISONED.model, POISONED.rest))
    assert set(metrics["seconds"]) == {"check", "importance", "search", "report"}
    changed = sum(
        int((new != old).sum())
        for new, old in zip(healing.model.parameters(), POISONED.model.parameters(), strict=True)
    )
    assert changed <= metrics["dampened"]


def test_the_input_is_not_mutated():
    model = copy.deepcopy(POISONED.model).train()
    next(model.parameters()).requires_grad_(False)
    before = copy.deepcopy(model)
    healing = heal(model=model)
    assert all(m.training for m in model.modules())
    assert all(m.training for m in healing.model.modules())
    for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(old, new), name
        assert new.grad is None
        assert old.requires_grad == new.requires_grad
    assert [p.requires_grad for p in healing.model.parameters()] == [
        p.requires_grad for p in before.parameters()
    ]


@pytest.mark.parametrize("method", ["ssd", "xlf"])
@pytest.mark.parametrize("search", ["ptn", "guarded"])
def test_frozen_parameters_are_dampened_like_others(search: str, method: str):
    expected = heal(search=search, method=method)
    for count in (1, 4):
        model = copy.deepcopy(POISONED.model)
        for parameter in list(model.parameters())[:count]:
            parameter.requires_grad_(False)
        healing = heal(model=model, search=search, method=method)
        assert (healing.status, healing.alpha) == (expected.status, expected.alpha)
        assert same_weights(healing.model, expected.model)
        flags = [[p.requires_grad for p in one.parameters()] for one in (model, healing.model)]
        assert flags[0] == flags[1] == [False] * count + [True] * (4 - count)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_is_kept(dtype: torch.dtype):
    healing = heal(model=copy.deepcopy(POISONED.model).to(dtype))
    assert healing.status == "stopped"
    assert {p.dtype for p in healing.model.parameters()} == {dtype}


def test_half_precision_weights_that_are_not_dampened_stay_bit_for_bit():
    model = copy.deepcopy(POISONED.model).to(torch.float16)
    healing = heal(model=model)
    changed = sum(
        int((a != b).sum()) for a, b in zip(model.parameters(), healing.model.parameters(), strict=True)
    )
    assert 0 < changed <= healing.metrics["dampened"]


class Pairs(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


FORMS = {
    "dataset": lambda x, y: Pairs(x, y),
    "tensor dataset": lambda x, y: TensorDataset(x, y),
    "shuffling loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=100, shuffle=True),
    "loader that drops": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=30, drop_last=True),
    "list of samples": lambda x, y: list(zip(x, y, strict=True)),
    "list of batches": lambda x, y: list(zip(x.split(64), y.split(64), strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_gives_the_same_healing(form: str):
    wrap = FORMS[form]
    healing, expected = heal(forget=wrap(*POISONED.found), retain=wrap(*POISONED.rest)), heal()
    assert healing.alpha == pytest.approx(expected.alpha, rel=1e-5)
    assert healing.metrics["retain_count"] == expected.metrics["retain_count"]
    assert healing.metrics["dampened"] == pytest.approx(expected.metrics["dampened"], abs=1)


def test_batch_size_is_part_of_batch_importances_only():
    alphas = {size: heal(granularity="batch", batch_size=size).alpha for size in (64, 512)}
    assert alphas[64] != pytest.approx(alphas[512], rel=1e-3)
    samples = {size: heal(granularity="sample", batch_size=size).alpha for size in (64, 512)}
    assert samples[64] == pytest.approx(samples[512], rel=1e-5)


def test_no_stop_gives_the_victims_weights_back():
    healing = heal(max_steps=1)
    assert (healing.status, healing.alpha) == ("no_stop", None)
    assert same_weights(healing.model, POISONED.model)
    assert healing.metrics["forget_accuracy"] == healing.metrics["forget_accuracy_before"]
    assert healing.metrics["agreement"] == 1.0


def test_a_collapse_is_reported_and_not_applied():
    healing = heal(collapse_share=1e-4, rho=0.0)
    assert healing.status == "collapsed"
    assert healing.alpha is not None
    assert same_weights(healing.model, POISONED.model)
    assert healing.metrics["forget_accuracy"] < healing.metrics["forget_accuracy_before"]


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_small_pieces_of_the_forget_set_stop_where_it_as_a_whole_does():
    whole, pieces = heal(rho=0.2), heal(rho=0.2, piece=3)
    assert same_weights(whole.model, pieces.model)
    assert (whole.status, whole.alpha) == (pieces.status, pieces.alpha)
    assert [step["s"] for step in whole.trace] == [step["s"] for step in pieces.trace]
    assert None not in [step["forget_accuracy"] for step in whole.trace]
    known = [step["forget_accuracy"] for step in pieces.trace]
    assert None in known[:-1]
    assert known[-1] == whole.trace[-1]["forget_accuracy"]


def test_the_report_on_part_of_retain():
    whole, part = heal(), heal(compared=150)
    assert same_weights(whole.model, part.model)
    assert part.metrics["retain_count"] == whole.metrics["retain_count"]
    names = ("retain_accuracy_before", "other_accuracy", "agreement", "target_rate")
    differences = [abs(whole.metrics[name] - part.metrics[name]) for name in names]
    assert 0 < max(differences) < 0.15
    assert (part.metrics["retain_accuracy"] * 150) % 1 == pytest.approx(0, abs=1e-9)


def test_importances_in_bfloat16_heal_as_well():
    healing = heal(precision="bfloat16")
    assert healing.status == "stopped"
    assert not same_weights(healing.model, heal().model)
    assert accuracy_of(healing.model, POISONED.triggered()) > 0.65
    assert accuracy_of(healing.model, POISONED.clean) > accuracy_of(POISONED.model, POISONED.clean) - 0.05


def test_automatic_rho_is_reported_as_a_number():
    healing = heal(rho="auto")
    assert 0.1 < healing.settings["rho"] < 0.3
    assert healing.status == "stopped"


def test_progress_covers_every_phase():
    seen: dict[str, list[tuple[int, int | None]]] = {}
    heal(progress=lambda phase, done, total: seen.setdefault(phase, []).append((done, total)))
    assert set(seen) == {"check", "importance of forget", "importance of retain", "search", "report"}
    count = len(POISONED.rest[1])
    assert seen["importance of retain"][-1] == seen["check"][-1] == seen["report"][-1] == (count, count)


def test_no_progress_is_none():
    assert heal(progress=None, max_steps=1).metrics["steps"] == 1


def test_a_seed_of_numpy_is_a_seed():
    given = {**TRAINS, "parameters": {"steps": 1}}
    one, other = heal(**given, seed=np.int64(3)), heal(**given, seed=3)
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))


@pytest.mark.parametrize("form", ["a pair", "a pair with a number", "a mapping"])
def test_one_found_image_needs_no_batch(form: str):
    alone = {"a pair": (X[0], Y[0]), "a pair with a number": (X[0], 0), "a mapping": {"x": X[0], "y": Y[0]}}
    healing = heal(forget=alone[form], max_steps=3)
    assert healing.metrics["forget_count"] == 1
    assert healing.trace == heal(forget=(X[:1], Y[:1]), max_steps=3).trace


def test_save(tmp_path: Path):
    healing = heal()
    folder = healing.save(tmp_path / "new" / "healed")
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weights[name], p) for name, p in healing.model.named_parameters())
    report = json.loads((folder / "healing.json").read_text())
    assert report["status"] == "stopped"
    assert report["alpha"] == healing.alpha
    assert len(report["trace"]) == healing.metrics["steps"]


def test_save_says_when_it_cannot_write(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="choose a folder you may write to"):
        heal().save(tmp_path / "file")


X, Y = POISONED.found
RX, RY = POISONED.rest


def weights_with_nan() -> nn.Module:
    model = copy.deepcopy(POISONED.model)
    with torch.no_grad():
        next(model.parameters())[0, 0] = float("nan")
    return model


def images_with_nan() -> torch.Tensor:
    images = RX.clone()
    images[7] = float("inf")
    return images


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(RX, RY, strict=True))


TRAINS = {"method": "ga", "search": "fixed"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "empty forget": ({"forget": (X[:0], Y[:0])}, "forget set is empty"),
    "empty list": ({"forget": []}, "forget set is empty"),
    "empty dataset": ({"forget": TensorDataset(X[:0], Y[:0])}, "forget set is empty"),
    "exchanged": ({"forget": POISONED.rest, "retain": POISONED.found}, "check whether the two are exchanged"),
    "label too large": ({"forget": (X, Y + 10)}, "label 10 at position 0 is out of range.*0 to 9"),
    "negative label": ({"retain": (RX, RY - 1)}, "label -1 .*out of range"),
    "nan weights": ({"model": weights_with_nan()}, r"'1.weight' holds NaN"),
    "nan images": ({"retain": (images_with_nan(), RY)}, "retain set: sample 7 of a batch holds NaN"),
    "no logits": ({"model": nn.Sequential(POISONED.model, nn.Flatten(0))}, "must return logits"),
    "no parameters": ({"model": nn.Flatten()}, "parameters lie on no device"),
    "generator": ({"retain": ((a, b) for a, b in zip(RX, RY, strict=True))}, "read only once"),
    "streaming loader": ({"retain": DataLoader(Stream())}, "no fixed order"),
    "no labels": ({"forget": [X[0], X[1]]}, "instead of .x, y."),
    "float labels": ({"forget": (X, Y.float())}, "labels are torch.float32"),
    "not tensors": ({"forget": [("a.png", 0)]}, "images are str, not tensors"),
    "a path": ({"forget": "found/"}, "'found/' is a path, .*load_sets"),
    "nothing iterable": ({"forget": 3}, "int holds no samples"),
    "lengths differ": ({"forget": (X, Y[:-1])}, "with labels"),
    "mixed size": ({"forget": [(X[0], 0), (X[0, :, 1:], 0)]}, "mixed size"),
    "mixed size in a dataset": ({"forget": Pairs([X[0], X[0, :, 1:]], Y[:2])}, "mixed size"),
    "true labels": ({"forget": (X, (Y + 1) % 10)}, "nothing to unlearn"),
    "unknown method": (
        {"method": "xxl"},
        "unknown method 'xxl'; choose one of ssd, lf, xlf.*did you mean 'xlf'",
    ),
    "unknown setting": ({"ro": 0.1}, "unknown setting 'ro'; the valid ones are .*rho"),
    "rho out of range": ({"rho": 1.5}, "rho.* = 1.5"),
    "bad granularity": ({"granularity": "both"}, "granularity = 'both'"),
    "bad batch size": ({"batch_size": 0}, "batch_size = 0"),
    "huge batch size": ({"batch_size": 2**63}, "batch_size = 9223372036854775808: .*less than or equal to"),
    "seed that is no whole number": ({**TRAINS, "seed": 1.5}, "seed = 1.5: give a whole number from 0 to"),
    "seed that is text": ({**TRAINS, "seed": "a"}, "seed = 'a': give a whole number"),
    "seed that is a truth value": ({**TRAINS, "seed": True}, "seed = True: give a whole number"),
    "negative seed": ({**TRAINS, "seed": -1}, "seed = -1: give a whole number"),
    "huge seed": ({**TRAINS, "seed": 2**64}, "seed = 18446744073709551616: give a whole number"),
    "progress that is no function": ({"progress": 3}, "progress = 3: it cannot be called; .*or None"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case: str):
    overrides, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        heal(**overrides)


def test_a_sampler_that_repeats_is_refused():
    sampler = torch.utils.data.WeightedRandomSampler([1.0] * len(RY), len(RY))
    with pytest.raises(BadInput, match="may repeat or leave"):
        heal(retain=DataLoader(TensorDataset(RX, RY), sampler=sampler))


def test_a_model_that_cannot_be_copied_is_refused():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

    with pytest.raises(BadInput, match=r"cannot be copied \(no copies\)"):
        heal(model=nn.Sequential(nn.Flatten(), Stubborn(64, 10)))


def test_images_on_disk_heal_like_tensors(tmp_path: Path):
    for name, (x, y) in {"found": POISONED.found, "rest": POISONED.rest}.items():
        for i, (image, label) in enumerate(zip(x, y.tolist(), strict=True)):
            folder = tmp_path / name / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{i}.png")
    rest = load_images(tmp_path / "rest", channels=1)
    found = load_images(tmp_path / "found", channels=1, classes=rest.classes)
    healing = heal(forget=plain_view(found), retain=plain_view(rest))
    expected = heal()
    assert healing.status == "stopped"
    assert healing.metrics["retain_count"] == expected.metrics["retain_count"]
    assert healing.alpha == pytest.approx(expected.alpha, rel=0.05)
