"""Every ordinary way to pass data gives the tensors' answer; every mistake in them is one line."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import theriac
from theriac.datasets.local import load_images, load_sets
from theriac.datasets.views import plain_view
from theriac.errors import BadInput
from theriac.search.heal import Healing
from theriac.tests.poisoned import poisoned_digits
from theriac.tests.ways_to_pass_data import ANYWHERE, AT_READING, IN_SAMPLES, SINGLE, STACKED, WAYS, Samples

POISONED = poisoned_digits()
COUNT = 200
GA: dict[str, Any] = {"method": "ga", "search": "fixed", "parameters": {"steps": 2}}


def samples(pair: tuple[torch.Tensor, torch.Tensor], count: int) -> Samples:
    return [(x, int(y)) for x, y in zip(pair[0][:count], pair[1][:count], strict=True)]


FOUND, REST = samples(POISONED.found, 20), samples(POISONED.rest, COUNT)


def heal(way: Callable[[Samples], Any], rest: Samples = REST, **settings: Any) -> Healing:
    return theriac.heal(POISONED.model, forget=way(FOUND), retain=way(rest), **settings)


@functools.cache
def expected(method: str) -> Healing:
    return heal(WAYS["tensors"], **(GA if method == "ga" else {}))


@pytest.mark.parametrize("way", WAYS)
def test_the_answer_is_that_of_tensors(way: str) -> None:
    healing = heal(WAYS[way])
    assert (healing.status, healing.metrics["retain_count"]) == ("stopped", COUNT)
    assert healing.metrics["forget_count"] == len(FOUND)
    assert healing.alpha == pytest.approx(expected("xlf").alpha, rel=1e-4)
    for found, right in zip(healing.model.parameters(), expected("xlf").model.parameters(), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "way", ["arrays", "Dataset", "loader, shuffled", "stream", "loader of ready batches"]
)
def test_the_answer_of_a_method_that_trains_is_that_of_tensors(way: str) -> None:
    healing = heal(WAYS[way], **GA)
    for found, right in zip(healing.model.parameters(), expected("ga").model.parameters(), strict=True):
        assert torch.equal(found, right)


def check_refused(way: str, wrong: Samples, said: str, **settings: Any) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        heal_with_wrong_retain(way, wrong, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(("retain set: ", "importance data: "))
    assert "; " in message, "a remedy"


def heal_with_wrong_retain(way: str, wrong: Samples, **settings: Any) -> None:
    theriac.heal(POISONED.model, forget=POISONED.found, retain=WAYS[way](wrong), **settings)


@pytest.mark.parametrize("mistake", ANYWHERE)
@pytest.mark.parametrize("way", WAYS)
def test_a_mistake_in_values_is_one_line(way: str, mistake: str) -> None:
    make, said = ANYWHERE[mistake]
    check_refused(way, make(REST), said)


@pytest.mark.parametrize(
    ("way", "mistake"),
    [
        (way, mistake)
        for way in SINGLE
        for mistake in IN_SAMPLES
        if not (way.startswith("rows with") and mistake == "three parts")  # other columns are none of ours
    ],
)
def test_a_mistake_in_samples_is_one_line(way: str, mistake: str) -> None:
    make, said = IN_SAMPLES[mistake]
    check_refused(way, make(REST), said)


@pytest.mark.parametrize("mistake", AT_READING)
@pytest.mark.parametrize("way", [way for way in SINGLE if way != "samples in a list"])
def test_a_mistake_at_reading_is_one_line(way: str, mistake: str) -> None:
    make, said = AT_READING[mistake]
    check_refused(way, make(REST), said)


@pytest.mark.parametrize("mistake", [*ANYWHERE, *IN_SAMPLES])
def test_methods_that_train_say_it_before_they_begin(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theriac.search.training.tuning.Tuning._run", lambda *_: pytest.fail("it has begun"))
    make, _ = {**ANYWHERE, **IN_SAMPLES}[mistake]
    check_refused("Dataset", make(REST), "^retain set: ", **GA)


@pytest.mark.parametrize("way", STACKED)
def test_nothing_in_it_is_one_line(way: str) -> None:
    empty = (POISONED.rest[0][:0], POISONED.rest[1][:0]) if way == "tensors" else emptied(way)
    with pytest.raises(BadInput, match="retain set is empty; give at least one sample"):
        theriac.heal(POISONED.model, POISONED.found, empty)


def emptied(way: str) -> Any:
    return {
        "tensors in a list": [POISONED.rest[0][:0], POISONED.rest[1][:0]],
        "arrays": tuple(one[:0].numpy() for one in POISONED.rest),
        "columns by name": {"image": POISONED.rest[0][:0], "label": POISONED.rest[1][:0]},
        "TensorDataset": torch.utils.data.TensorDataset(*(one[:0] for one in POISONED.rest)),
    }.get(way, [])


NAMES = tuple(f"digit {label}" for label in range(10))


def write_folders(folder: Path, chosen: Samples) -> Path:
    for number, (image, label) in enumerate(chosen):
        place = folder / NAMES[label]
        place.mkdir(parents=True, exist_ok=True)
        place.joinpath(f"{number:04}.png").write_bytes(png(image))
    return folder


def png(image: torch.Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray((image[0] * 255).round().byte().numpy()).save(file, "png")
    return file.getvalue()


def write_parquet(folder: Path, chosen: Samples) -> Path:
    folder.mkdir(parents=True)
    images, labels = [png(image) for image, _ in chosen], [label for _, label in chosen]
    pq.write_table(pa.table({"image": images, "label": labels}), folder / "images.parquet")
    return folder


WRITERS = {"folders": write_folders, "Parquet": write_parquet}


@pytest.mark.parametrize("kind", WRITERS)
def test_files_give_the_answer_of_tensors(kind: str, tmp_path: Path) -> None:
    found, rest = (
        WRITERS[kind](tmp_path / name, chosen) for name, chosen in (("found", FOUND), ("rest", REST))
    )
    rounded = [[((x * 255).round() / 255, y) for x, y in chosen] for chosen in (FOUND, REST)]
    healing = theriac.heal(POISONED.model, **load_sets(forget=found, retain=rest, channels=1))
    right = theriac.heal(POISONED.model, *map(WAYS["tensors"], rounded))
    assert healing.status == right.status == "stopped"
    assert healing.metrics["retain_count"] == COUNT
    assert healing.alpha == pytest.approx(right.alpha, rel=1e-3)


ON_DISK: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "a path": (lambda found, rest: {"forget": found, "retain": rest}, "is a path, .*load_sets"),
    "each set by itself": (
        lambda found, rest: {
            name: plain_view(load_images(path, channels=1))
            for name, path in (("forget", found), ("retain", rest))
        },
        "class 0 is 'digit 7' in the forget set and 'digit 0' in the retain set; .*load_sets",
    ),
    "three means": (
        lambda found, rest: load_sets(forget=found, retain=rest, channels=1, mean=(0.4, 0.5, 0.6)),
        "mean has 3 numbers and the images have 1 channels",
    ),
    "no such class": (
        lambda found, rest: load_sets(forget=found, retain=rest, channels=1, classes=NAMES[:7]),
        "digit 7 is none of the 7 classes",
    ),
    "three channels": (lambda found, rest: load_sets(forget=found, retain=rest), "cannot take images"),
    "no such folder": (lambda found, rest: load_sets(forget=found / "x", retain=rest), "does not exist"),
    "normalised twice": (
        lambda found, rest: {
            **load_sets(forget=found, retain=rest, channels=1),
            "mean": 0.5,
            "std": 0.5,
            **GA,
        },
        "Views know how their images were normalised",
    ),
}


@pytest.mark.parametrize("mistake", ON_DISK)
def test_a_mistake_with_folders_is_one_line(mistake: str, tmp_path: Path) -> None:
    found = write_folders(tmp_path / "found", [(x, 7) for x, _ in FOUND])
    rest = write_folders(tmp_path / "rest", REST)
    make, said = ON_DISK[mistake]
    with pytest.raises(BadInput, match=said) as caught:
        theriac.heal(POISONED.model, **make(found, rest))
    assert "\n" not in str(caught.value)
