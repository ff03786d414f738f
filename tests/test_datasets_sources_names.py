import io
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision import datasets as tv

from theriac.datasets.sources import names as sources
from theriac.datasets.sources.decoding import EncodedImages
from theriac.datasets.sources.digits import load_digits
from theriac.datasets.sources.images import ImageSource, MemoryImages
from theriac.datasets.sources.names import (
    DATASETS,
    ImageDataset,
    MissingDataset,
    available,
    data_folder,
    load_dataset,
)
from theriac.errors import BadInput


def array(value, height=8, width=8):
    return np.full((height, width, 3), value, dtype=np.uint8)


def write_image(path, value, height=8, width=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array(value, height, width)).save(path)


def write_parquet(path, labels, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = []
    for label in labels:
        buffer = io.BytesIO()
        Image.fromarray(array(label)).save(buffer, "PNG")
        images.append(buffer.getvalue())
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, path)


def write_folders(folder, splits=("train", "test"), classes=("cat", "dog"), size=8):
    for split in splits:
        for value, name in enumerate(classes):
            write_image(folder / split / name / "1.png", value, size, size)


def write_cifar(folder, monkeypatch, kind, names, label_key):
    """The files that torchvision unpickles, and checksums that fit them."""
    base = folder / kind.base_folder
    base.mkdir(parents=True)
    for number, (name, _) in enumerate(kind.train_list + kind.test_list):
        rows = np.full((2, 3072), number, dtype=np.uint8)
        rows[:, :1024] = 200
        rows[:, 1024:2048] = np.repeat(np.arange(32), 32)
        (base / name).write_bytes(pickle.dumps({"data": rows, label_key: [number, 0]}))
    (base / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: names}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, _: (base / path).is_file())


def all_images(source):
    return source.images(torch.arange(len(source)))


def first_pixels(source):
    return all_images(source)[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("image_size", [None, 8, 20])
def test_digits_are_real_images_with_a_fixed_split(image_size):
    dataset = load_dataset("digits", image_size=image_size)
    side = image_size or 16
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    assert dataset.shape == (1, side, side)
    assert dataset.classes == tuple("0123456789")
    shares = [source.labels.bincount() / len(source) for source in (dataset.train, dataset.test)]
    assert (shares[0] - shares[1]).abs().max() < 0.002
    again = load_dataset("digits", image_size=image_size)
    assert torch.equal(all_images(again.train), all_images(dataset.train))
    assert torch.equal(again.test.labels, dataset.test.labels)


def test_digits_hold_every_original_image_once():
    from sklearn.datasets import load_digits as original

    train, test = load_digits(image_size=8)
    pixels = torch.cat([train.pixels, test.pixels]).flatten(1).float()
    labels = torch.cat([train.labels, test.labels]).float()
    ours = torch.cat([pixels, labels[:, None]], 1)
    grey, targets = original(return_X_y=True)
    theirs = np.column_stack([np.rint(grey * 255 / 16), targets])
    assert np.array_equal(np.unique(ours.numpy(), axis=0), np.unique(theirs, axis=0))
    assert len(ours) == len(theirs)


def test_digits_constants_describe_the_images():
    dataset = load_dataset("digits")
    pixels = all_images(dataset.train).float() / 255
    assert pixels.mean().item() == pytest.approx(dataset.mean[0], abs=1e-3)
    assert pixels.std().item() == pytest.approx(dataset.std[0], abs=1e-3)
    assert pixels.max() == 1


@pytest.mark.parametrize("train", ["train.parquet", "train-00000-of-00001.parquet", "train/a.parquet"])
@pytest.mark.parametrize("test", ["test.parquet", "val/a.parquet", "validation-00000-of-00001.parquet"])
def test_parquet_layouts(tmp_path, train, test):
    write_parquet(tmp_path / "cifar10" / train, [0, 1, 2])
    write_parquet(tmp_path / "cifar10" / test, [1, 0])
    dataset = load_dataset("cifar10", root=tmp_path)
    assert first_pixels(dataset.train) == [0, 1, 2]
    assert dataset.test.labels.tolist() == [1, 0]
    assert dataset.classes == ("0", "1", "2")
    assert isinstance(dataset.train, MemoryImages)


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_class_folders(tmp_path, test):
    write_folders(tmp_path / "cifar10", splits=("train", test))
    dataset = load_dataset("cifar10", root=str(tmp_path))
    assert dataset.classes == ("cat", "dog")
    assert dataset.shape == (3, 8, 8)
    assert first_pixels(dataset.test) == [0, 1]


def test_parquet_comes_before_folders_before_torchvision(tmp_path, monkeypatch):
    folder = tmp_path / "cifar10"
    names = [f"name {label}" for label in range(10)]
    write_cifar(folder, monkeypatch, tv.CIFAR10, names, "labels")
    assert load_dataset("cifar10", root=tmp_path).classes == tuple(names)
    write_folders(folder)
    assert load_dataset("cifar10", root=tmp_path).classes == ("cat", "dog")
    write_parquet(folder / "train.parquet", [0, 1, 2])
    write_parquet(folder / "test.parquet", [0])
    assert load_dataset("cifar10", root=tmp_path).classes == ("0", "1", "2")


def test_large_sets_stay_lazy_and_have_the_usual_size(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "in_memory", lambda source, progress: source)
    write_folders(tmp_path / "imagenet", splits=("train", "val"), size=30)
    dataset = load_dataset("imagenet", root=tmp_path)
    assert isinstance(dataset.train, EncodedImages)
    assert dataset.shape == (3, 224, 224)
    assert dataset.train.images(torch.tensor([1])).shape == (1, 3, 224, 224)
    assert load_dataset("imagenet", root=tmp_path, image_size=16).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("name", "kind", "count", "label_key", "train_labels"),
    [
        ("cifar10", tv.CIFAR10, 10, "labels", [0, 0, 1, 0, 2, 0, 3, 0, 4, 0]),
        ("cifar100", tv.CIFAR100, 100, "fine_labels", [0, 0]),
    ],
)
def test_torchvision_cifar(tmp_path, monkeypatch, name, kind, count, label_key, train_labels):
    names = [f"name {label}" for label in range(count)]
    write_cifar(tmp_path / name, monkeypatch, kind, names, label_key)
    dataset = load_dataset(name, root=tmp_path)
    assert dataset.classes == tuple(names)
    assert dataset.shape == (3, 32, 32)
    assert dataset.train.labels.tolist() == train_labels
    assert dataset.test.labels.tolist() == [len(train_labels) // 2, 0]
    assert (all_images(dataset.train)[:, 0] == 200).all()
    assert (all_images(dataset.test)[:, 1] == torch.arange(32)[:, None]).all()
    assert (all_images(dataset.test)[:, 2] == len(train_labels) // 2).all()
    assert load_dataset(name, root=tmp_path, image_size=16).shape == (3, 16, 16)


def test_torchvision_cifar_with_a_wrong_checksum(tmp_path):
    (tmp_path / "cifar10" / "cifar-10-batches-py").mkdir(parents=True)
    (tmp_path / "cifar10" / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"torchvision cannot read .*cifar10 .*delete that folder and fetch"):
        load_dataset("cifar10", root=tmp_path)


def test_torchvision_gtsrb(tmp_path):
    base = tmp_path / "gtsrb" / "gtsrb"
    write_image(base / "GTSRB" / "Training" / "00000" / "00000_00000.ppm", 10, 29, 30)
    write_image(base / "GTSRB" / "Training" / "00001" / "00000_00000.ppm", 20, 60, 45)
    (base / "GTSRB" / "Training" / "00001" / "GT-00001.csv").write_text("Filename;ClassId\n")
    write_image(base / "GTSRB" / "Final_Test" / "Images" / "00000.ppm", 30, 33, 40)
    write_image(base / "GTSRB" / "Final_Test" / "Images" / "00001.ppm", 40, 50, 20)
    (base / "GT-final_test.csv").write_text("Filename;Width;ClassId\n00000.ppm;40;16\n00001.ppm;20;42\n")
    dataset = load_dataset("gtsrb", root=tmp_path)
    assert dataset.shape == (3, 32, 32)
    assert len(dataset.classes) == 43
    assert dataset.train.labels.tolist() == [0, 1]
    assert dataset.test.labels.tolist() == [16, 42]
    assert first_pixels(dataset.train) == [10, 20]
    assert first_pixels(dataset.test) == [30, 40]


@pytest.mark.parametrize("place", ["imagenette2", "imagenette2-320", "imagenette2-160"])
def test_torchvision_imagenette(tmp_path, place):
    for split in ("train", "val"):
        write_image(tmp_path / "imagenette" / place / split / "n02102040" / "n02102040_1.JPEG", 60, 40, 50)
        write_image(tmp_path / "imagenette" / place / split / "n01440764" / "n01440764_1.JPEG", 20, 30, 20)
        (tmp_path / "imagenette" / place / split / "n01440764" / "n01440764_1.JPEG").rename(
            tmp_path / "imagenette" / place / split / "n01440764" / "a.jpeg"
        )
    dataset = load_dataset("imagenette", root=tmp_path, image_size=24)
    assert dataset.classes == ("tench", "English springer")
    assert dataset.train.labels.tolist() == [0, 1]
    assert np.allclose(first_pixels(dataset.train), [20, 60], atol=2)
    assert load_dataset("imagenette", root=tmp_path).shape == (3, 224, 224)


def test_the_root_is_the_argument_then_the_variable_then_data(tmp_path, monkeypatch):
    write_folders(tmp_path / "variable" / "cifar10", classes=("a", "b"))
    write_folders(tmp_path / "data" / "cifar10", classes=("c", "d"))
    write_folders(tmp_path / "argument" / "cifar10", classes=("e", "f"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THERIAC_DATA", raising=False)
    assert load_dataset("cifar10").classes == ("c", "d")
    monkeypatch.setenv("THERIAC_DATA", str(tmp_path / "variable"))
    assert load_dataset("cifar10").classes == ("a", "b")
    assert load_dataset("cifar10", root=tmp_path / "argument").classes == ("e", "f")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_a_missing_dataset_says_where_what_and_how(tmp_path, name):
    with pytest.raises(MissingDataset) as caught:
        load_dataset(name, root=tmp_path)
    message = str(caught.value)
    folder = tmp_path / name
    assert f"dataset {name} was not found in {folder} (no such folder)" in message
    for part in ("train.parquet", "train/<class>/", "THERIAC_DATA", f"({str(folder)!r}, "):
        assert part in message
    assert ("register with ImageNet" in message) == (name == "imagenet")
    assert "{" not in message


def test_a_half_missing_dataset_says_what_is_there(tmp_path):
    write_folders(tmp_path / "cifar10", splits=("train",))
    (tmp_path / "cifar10" / "notes.txt").write_text("x")
    with pytest.raises(MissingDataset, match=r"\(it holds notes\.txt, train\)"):
        load_dataset("cifar10", root=tmp_path)


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in ("digits", "imagenet")])
def test_the_fetch_command_is_python_that_names_the_folder(name):
    fetch = sources._remedy(DATASETS[name], sources._folder(DATASETS[name], "some root"))
    assert fetch.startswith('run: python -c "')
    code = fetch.removeprefix('run: python -c "').removesuffix('"')
    compile(code, name, "exec")
    assert f"some root/{name}" in code
    assert "download=True" in code


def test_an_unknown_dataset_lists_the_valid_ones():
    with pytest.raises(BadInput, match=r"'CIFAR-10'; choose one of digits, cifar10.*did you mean cifar10\?"):
        load_dataset("CIFAR-10")
    with pytest.raises(BadInput, match=r"'zzz'; choose one of digits, .*imagenet$"):
        load_dataset("zzz")


def test_a_bad_image_size_comes_before_the_search(tmp_path):
    with pytest.raises(BadInput, match="image_size is -1"):
        load_dataset("cifar10", root=tmp_path, image_size=-1)


def test_splits_must_have_the_same_classes(tmp_path):
    write_folders(tmp_path / "cifar10", splits=("train",), classes=("cat", "dog"))
    write_folders(tmp_path / "cifar10", splits=("test",), classes=("cat", "cow"))
    with pytest.raises(BadInput, match=r"only in training: dog; only in test: cow"):
        load_dataset("cifar10", root=tmp_path)


def test_parquet_splits_must_have_the_same_names(tmp_path):
    write_parquet(tmp_path / "cifar10" / "train.parquet", [0, 1], {"classes": "cat,dog"})
    write_parquet(tmp_path / "cifar10" / "test.parquet", [0, 1], {"classes": "dog,cat"})
    with pytest.raises(BadInput, match="different order; number the labels alike"):
        load_dataset("cifar10", root=tmp_path)


def test_splits_must_have_the_same_shape(tmp_path):
    write_folders(tmp_path / "cifar10", splits=("train",), size=8)
    write_folders(tmp_path / "cifar10", splits=("test",), size=9)
    with pytest.raises(BadInput, match=r"\(3, 8, 8\) and test images \(3, 9, 9\).*give image_size"):
        load_dataset("cifar10", root=tmp_path)
    assert load_dataset("cifar10", root=tmp_path, image_size=8).shape == (3, 8, 8)


def test_mean_and_std_must_fit_the_channels():
    train, test = load_digits()
    with pytest.raises(BadInput, match=r"mean .* for 1 channels; give one number a channel"):
        ImageDataset(name="digits", train=train, test=test, mean=(0.1, 0.2, 0.3), std=(1.0,))


def test_available_lists_every_dataset(tmp_path):
    write_folders(tmp_path / "gtsrb")
    (tmp_path / "cifar100" / "cifar-100-python").mkdir(parents=True)
    listed = {name: (found, detail) for name, found, detail in available(tmp_path)}
    assert list(listed) == list(DATASETS)
    assert {name for name, (found, _) in listed.items() if found} == {"digits", "gtsrb", "cifar100"}
    assert str(tmp_path / "gtsrb" / "train") in listed["gtsrb"][1]
    assert listed["cifar10"][1].startswith(f"not in {tmp_path / 'cifar10'}; run: python")


def test_progress_and_protocol(tmp_path):
    write_folders(tmp_path / "cifar10")
    calls = []
    dataset = load_dataset("cifar10", root=tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(2, 2), (2, 2)]
    assert isinstance(dataset.train, ImageSource)
    assert pickle.loads(pickle.dumps(dataset)).classes == dataset.classes


def test_every_specification_is_consistent():
    for name, spec in DATASETS.items():
        assert spec.name == name
        assert len(spec.mean) == len(spec.std)
        assert all(0 < value < 1 for value in spec.mean + spec.std)


def test_the_data_folder_is_the_one_given_else_the_variable_else_data(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("THERIAC_DATA", raising=False)
    assert data_folder() == Path("data")
    monkeypatch.setenv("THERIAC_DATA", "~/there")
    assert data_folder() == Path.home() / "there"
    assert data_folder("here") == Path("here")
