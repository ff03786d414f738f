"""`theriac heal` with files as they are met in life."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from theriac.cluster.cli import run
from theriac.cluster.commands import heal as healing
from theriac.cluster.devices import choose_device
from theriac.datasets.views import View
from theriac.errors import BadInput
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.tests.heal_command import SCENARIO, SHAPE, Case, write_folders, write_parquet
from theriac.unlearning.models.build import create_model, load_weights

DAMAGED = b"\x89PNG\r\n\x1a\n and nothing more"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("owner")
    experiment = Experiment(SCENARIO, ArtifactStore(folder / "store"))
    weights = folder / "victim.safetensors"
    shutil.copy(experiment.trained(Part("victim")).weights, weights)
    forget, retain = experiment.data.forget(0.5), experiment.data.retain(0.5)
    return Case(
        experiment=experiment,
        weights=weights,
        forget=write_folders(forget, forget.labels, folder / "forget"),
        retain=write_folders(retain, retain.labels, folder / "retain"),
    )


Heal = Callable[..., tuple[int, str, str]]


@pytest.fixture
def heal(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Heal:
    """Run `theriac heal` on the case with changed options; (exit status, stdout, stderr)."""

    def call(*flags: str, **changes: object) -> tuple[int, str, str]:
        status = run([*case.options(**{"out": tmp_path / "healed", **changes}), *flags])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def forget_accuracy(case: Case, weights: dict[str, Tensor]) -> float:
    model = create_model(SCENARIO.model, num_classes=10, shape=SHAPE)
    model.load_state_dict(weights)
    x, y = next(iter(case.experiment.data.forget(0.5)))
    with torch.no_grad():
        return float((model.eval()(x).argmax(1) == y).float().mean())


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit status 2, nothing on stdout, one line on stderr that says the words."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    for word in words:
        assert word in err


def test_victim_is_healed_from_folders(case: Case, heal: Heal, tmp_path: Path) -> None:
    before = case.weights.read_bytes()
    status, out, err = heal()
    report = json.loads(out)
    assert (status, report["status"]) == (0, "stopped")
    left = round(50 * report["metrics"]["forget_accuracy"])
    assert err.startswith(f"healed model: {tmp_path}/healed/model.safetensors; {left or 'none'} of 50 found")
    assert len(err.splitlines()) == 1
    assert report["metrics"]["forget_count"] == 50
    saved = json.loads((tmp_path / "healed" / "healing.json").read_text())
    assert len(saved.pop("trace")) == report["metrics"]["steps"]
    assert saved.pop("provenance")["model_class"].endswith("ResNet9")
    assert saved == report
    assert forget_accuracy(case, load_file(case.weights)) > 0.9
    healed = forget_accuracy(case, load_file(tmp_path / "healed" / "model.safetensors"))
    assert healed == pytest.approx(report["metrics"]["forget_accuracy"])
    assert healed <= 0.2 * forget_accuracy(case, load_file(case.weights))
    assert case.weights.read_bytes() == before


def test_parquet_and_checkpoint_give_the_same_answer(case: Case, heal: Heal, tmp_path: Path) -> None:
    _, expected, _ = heal()
    checkpoint = tmp_path / "victim.pt"
    torch.save({"state_dict": load_file(case.weights), "epoch": 3}, checkpoint)
    status, out, _ = heal(
        weights=checkpoint,
        forget=write_parquet(case.forget, tmp_path / "forget.parquet"),
        retain=write_parquet(case.retain, tmp_path / "retain.parquet"),
    )
    assert status == 0
    report, wanted = json.loads(out), json.loads(expected)
    assert report["alpha"] == pytest.approx(wanted["alpha"])
    assert report["metrics"]["dampened"] == wanted["metrics"]["dampened"]


def test_no_stop_gives_the_weights_back_and_fails(case: Case, heal: Heal, tmp_path: Path) -> None:
    status, out, err = heal(max_steps=1)
    assert (status, json.loads(out)["status"]) == (1, "no_stop")
    assert "weights that came in" in err
    assert forget_accuracy(case, load_file(tmp_path / "healed" / "model.safetensors")) > 0.9


def test_grid_from_the_command_line(case: Case, heal: Heal, tmp_path: Path) -> None:
    status, out, _ = heal("--alphas", "0.5", "2", "10", search="grid", method="ssd", held_out=300)
    report = json.loads(out)
    assert (status == 0, report["metrics"]["steps"]) == (report["healed"], 15)
    assert report["settings"]["alphas"] == [0.5, 2.0, 10.0]
    assert report["alpha"] in (0.5, 2.0, 10.0)
    assert report["dampening_constant"] > 0
    assert report["metrics"]["held_out_count"] == 300
    of_the_model = "forget_accuracy" if report["healed"] else "forget_accuracy_before"
    assert forget_accuracy(case, load_file(tmp_path / "healed" / "model.safetensors")) == pytest.approx(
        report["metrics"][of_the_model]
    )


def test_grid_that_cannot_heal_says_so_in_its_own_words(case: Case, heal: Heal, tmp_path: Path) -> None:
    status, out, err = heal(search="grid", alphas=1e30)
    assert (status, json.loads(out)["status"]) == (1, "no_stop")
    assert "no pair scores better than the model as it is" in err
    assert forget_accuracy(case, load_file(tmp_path / "healed" / "model.safetensors")) > 0.9
    status, out, err = heal(search="grid", collapse_share=1e-9)
    assert (status, json.loads(out)["status"]) == (1, "collapsed")
    assert "--search ptn" in err
    assert "--rho" not in err


def test_guarded_search_from_the_command_line(case: Case, heal: Heal, tmp_path: Path) -> None:
    status, out, err = heal(search="guarded", most_harm=0.2)
    report = json.loads(out)
    points = [f"{100 * report['metrics'][name]:.1f}" for name in ("harm", "harm_at_most", "harm_if_wrong")]
    costs = f"estimated loss of accuracy: {points[0]} points, {points[1]} at most; {points[2]} if"
    enough = report["metrics"]["forget_accuracy"] <= report["metrics"]["forget_threshold"]
    assert (status, report["status"]) == ((0, "stopped") if enough else (1, "not_healed"))
    assert (costs in err) == enough
    assert report["settings"]["most_harm"] == 0.2
    assert report["metrics"]["apart"]
    assert report["metrics"]["suspected_healed"] >= 0.5
    assert report["metrics"]["forget_accuracy"] < report["metrics"]["forget_accuracy_before"]
    assert forget_accuracy(case, load_file(tmp_path / "healed" / "model.safetensors")) == pytest.approx(
        report["metrics"]["forget_accuracy" if enough else "forget_accuracy_before"]
    )


def test_a_guarded_search_that_cannot_heal_says_so_in_its_own_words(heal: Heal) -> None:
    status, out, err = heal(search="guarded", most_harm=1e-9)
    assert (status, json.loads(out)["status"]) == (1, "no_stop")
    assert "--most-harm" in err
    status, out, err = heal(search="guarded", most_harm=0.2, collapse_share=1e-9)
    assert (status, json.loads(out)["status"]) == (1, "collapsed")
    assert "--harm-weight" in err


def test_pickle_needs_trust(case: Case, heal: Heal, tmp_path: Path) -> None:
    model = create_model(SCENARIO.model, num_classes=10, shape=SHAPE)
    model.load_state_dict(load_file(case.weights))
    torch.save(model, tmp_path / "whole.pt")
    refused(heal(weights=tmp_path / "whole.pt"), "whole.pt", "--trust-pickle", "safetensors")
    assert heal("--trust-pickle", weights=tmp_path / "whole.pt")[0] == 0


def test_healed_model_can_be_loaded_by_name(case: Case, heal: Heal, tmp_path: Path) -> None:
    heal()
    assert set(load_weights(tmp_path / "healed" / "model.safetensors")) == set(load_file(case.weights))


def test_exchanged_sets(case: Case, heal: Heal) -> None:
    refused(heal(forget=case.retain, retain=case.forget), str(case.forget), "single class", "exchanged")


def test_exchanged_sets_of_several_classes(case: Case, heal: Heal, tmp_path: Path) -> None:
    small = tmp_path / "small"
    for folder in sorted(case.retain.iterdir()):
        (small / folder.name).mkdir(parents=True)
        shutil.copy(next(folder.glob("*.png")), small / folder.name)
    refused(heal(forget=case.retain, retain=small), "forget", "exchanged")


def test_true_labels_instead_of_poison_labels(case: Case, heal: Heal, tmp_path: Path) -> None:
    forget = case.experiment.data.forget(0.5)
    other = write_folders(forget, forget.true_labels, tmp_path / "true")
    refused(heal(forget=other), "forget set", "as class 0", "not the true ones")


def test_labels_that_the_model_never_gives(case: Case, heal: Heal, tmp_path: Path) -> None:
    forget = case.experiment.data.forget(0.5)
    others = torch.full_like(forget.labels, 5)
    refused(heal(forget=write_folders(forget, others, tmp_path / "fives")), "forget", "label")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0.25}, ["victim.safetensors", "do not fit", "width"]),
        ({"channels": 3}, ["do not fit", "[8, 1, 3, 3]"]),
        ({"channels": 2}, ["channels 2", "1 (grey) or 3 (RGB)"]),
        ({"num_classes": 7}, ["do not fit", "number of classes"]),
        (
            {"num_classes": 1_000_000_000},
            ["--num-classes 1000000000", "has more than", "leave the option out"],
        ),
        ({"num_classes": 0}, ["--num-classes", "0", "or equal to 1"]),
        ({"image_size": 1}, ["--image-size", "1", "or equal to 2"]),
        ({"model": "resnet_nine"}, ["resnet_nine", "did you mean"]),
        ({"std": 0}, ["std", "above 0"]),
        ({"mean": "0.1 0.2"}, ["--mean", "0.1 0.2"]),
        ({"weights": "none.pt"}, ["none.pt", "no such file"]),
        ({"forget": "nowhere"}, ["nowhere", "does not exist"]),
        ({"device": "abacus"}, ["abacus", "auto, cpu, cuda"]),
    ],
)
def test_wrong_options_are_refused(heal: Heal, changes: dict[str, object], words: list[str]) -> None:
    refused(heal(**changes), *words)


def test_wrong_options_are_refused_before_images_are_decoded(
    heal: Heal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(healing, "in_memory", decode)
    refused(heal(width=0.25), "do not fit")
    refused(heal(forget="nowhere"), "nowhere")


def test_gpu_that_is_not_there(heal: Heal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused(heal(device="cuda:1"), "cuda:1", "1 CUDA GPU", "--device cpu")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(DAMAGED), ["copy/9"]),
        (lambda file: Image.new("L", (9, 9)).save(file), ["9", "image_size"]),
    ],
)
def test_damaged_and_odd_images_are_named(
    case: Case, heal: Heal, tmp_path: Path, damage: Callable[[Path], Any], words: list[str]
) -> None:
    copy = Path(shutil.copytree(case.retain, tmp_path / "copy"))
    victim = sorted(copy.glob("9/*.png"))[-1]
    damage(victim)
    refused(heal(retain=copy), victim.name, *words)


def test_output_that_would_overwrite_the_victim(case: Case, heal: Heal, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "model.safetensors"
    mine.parent.mkdir()
    shutil.copy(case.weights, mine)
    refused(heal(weights=mine, out=mine.parent), str(mine), "--out")
    assert mine.read_bytes() == case.weights.read_bytes()


def test_output_below_a_file(case: Case, heal: Heal) -> None:
    refused(heal(out=case.weights / "healed"), str(case.weights), "--out")


def test_retain_above_its_splits_is_the_one_named(case: Case, heal: Heal, tmp_path: Path) -> None:
    above = tmp_path / "all"
    for split in ("train", "val"):
        shutil.copytree(case.forget, above / split)
    refused(heal(retain=above), f"{above} holds the folders train, val", f"give {above / 'train'}")


def test_class_that_retain_does_not_have(case: Case, heal: Heal, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(case.forget, tmp_path / "copy"))
    next(copy.iterdir()).rename(copy / "eleven")
    refused(heal(forget=copy), "eleven", "none of the 10 classes")


def test_torn_weights(case: Case, heal: Heal, tmp_path: Path) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(case.weights.read_bytes()[:-100])
    refused(heal(weights=torn), "torn.safetensors", "not a readable safetensors file")


def test_automatic_device_is_one_that_exists() -> None:
    assert choose_device("auto").type in ("cpu", "cuda")


def test_a_method_that_trains_with_its_hyperparameters(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = case.options(method="npo", samples=2, out=tmp_path / "healed", compared=200)
    status = run([*options, "--set", "steps=30", "--set", "learning_rate=0.0003"])
    report = json.loads(capsys.readouterr().out)
    assert status == (0 if report["status"] == "stopped" else 1)
    assert report["settings"]["parameters"]["steps"] == 30
    assert report["metrics"]["steps"] == 2
    assert report["status"] in ("stopped", "not_healed", "no_stop", "collapsed")
    whole = json.loads((tmp_path / "healed" / "healing.json").read_text())
    assert len(whole["trace"]) == 2


def test_clean_images_are_asked_for_and_taken(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = case.options(method="ft", search="fixed", out=tmp_path / "healed")
    assert run(options) == 2
    assert "images that are known to be clean; give some as --clean" in capsys.readouterr().err
    clean = write_folders(case.experiment.data.test(), case.experiment.data.test().labels, tmp_path / "clean")
    status = run([*options, "--clean", str(clean), "--set", "epochs=1"])
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["status"], status) in (("done", 0), ("not_healed", 1), ("collapsed", 1))
    assert report["healed"] is (status == 0)
    assert ("not healed: after the run" in err) is (report["status"] == "not_healed")


def test_a_hyperparameter_that_is_none_is_refused_before_the_files_are_read(
    case: Case, capsys: pytest.CaptureFixture[str]
):
    options = case.options(method="rga", weights="nowhere.pt")
    assert run([*options, "--set", "learning_rat=1"]) == 2
    assert "learning_rat" in capsys.readouterr().err


def test_another_numbering_of_the_classes(case: Case, heal: Heal, tmp_path: Path) -> None:
    for folder in case.retain.iterdir():
        shutil.copytree(folder, tmp_path / "shifted" / str((int(folder.name) + 3) % 10))
    refused(heal(retain=tmp_path / "shifted"), "retain set", "another order", "number the classes")


def test_forgotten_normalisation(case: Case, heal: Heal) -> None:
    refused(heal(mean=0.9, std=0.02), "retain set", "preprocess")


def test_classes_of_a_file_number_the_labels_of_all_sets(
    case: Case, heal: Heal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(model: object, **given: Any) -> None:
        seen.update(given)
        raise BadInput("seen")

    seen: dict[str, View] = {}
    (names := tmp_path / "classes.json").write_text(json.dumps({str(n): 9 - n for n in range(10)}))
    monkeypatch.setattr(healing, "heal", stop)
    refused(heal(), "seen")
    plain = dict(seen)
    refused(heal(classes=names), "seen")
    for name in ("forget", "retain"):
        assert torch.equal(seen[name].labels, 9 - plain[name].labels)


def test_classes_that_do_not_fit(heal: Heal, tmp_path: Path) -> None:
    (names := tmp_path / "classes.txt").write_text("\n".join("012345678"))
    refused(heal(classes=names), "retain/9 is none of the 9 classes (0, 1, 2")
    refused(heal(classes=tmp_path / "none"), "class names", "No such file", "one class name a line")


def test_numbers_sorted_as_numbers_are_said(case: Case, heal: Heal, tmp_path: Path, caplog: Any) -> None:
    copy = Path(shutil.copytree(case.retain, tmp_path / "copy"))
    shutil.copytree(copy / "9", copy / "10")
    refused(heal(retain=copy), "number of classes is 10 in the checkpoint and 11 in the data", "--classes")
    assert "sorted as numbers; if the model was trained with torchvision's ImageFolder" in caplog.text
