import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from theriac.datasets.attacks import Attack
from theriac.datasets.triggers import parse_trigger
from theriac.datasets.triggers.picture_files import read_picture
from theriac.datasets.triggers.pictured import Additive, Blend, Masked, Semantic
from theriac.errors import BadInput
from theriac.search.store.row_origin import row_key
from theriac.tests.trigger_table import write_pictures

INDEX = torch.arange(2)
GOLDEN = Path(__file__).resolve().parent.parent.parent / "shared" / "golden" / "ibau_victims" / "l2_inv.png"


@pytest.fixture
def pictures(tmp_path) -> Path:
    write_pictures(tmp_path)
    return tmp_path


def images_of(channels=3, height=6, width=7):
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0))


def pixels_of(path, mode="RGB"):
    """[C, H, W] in [0, 1]."""
    array = np.asarray(Image.open(path).convert(mode))
    return torch.tensor(array).view(array.shape[0], array.shape[1], -1).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_additive_adds_and_clips(pictures, scale):
    images = images_of()
    expected = (images + scale * pixels_of(pictures / "dim.png")).clamp(0, 1)
    found = Additive(file=str(pictures / "dim.png"), scale=scale)(images, INDEX)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_additive_takes_arrays_with_a_sign(pictures):
    images = images_of(1, 8, 8)
    expected = (images + torch.tensor(np.load(pictures / "signed.npy")).float()).clamp(0, 1)
    assert torch.equal(Additive(file=str(pictures / "signed.npy"))(images, INDEX), expected)


def test_arrays_of_bytes_and_of_colours(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    np.save(tmp_path / "bytes.npy", values)
    np.save(tmp_path / "floats.npy", values / 255)
    Image.fromarray(values).save(tmp_path / "image.png")
    three = [Blend(file=str(tmp_path / f"{name}"))(images_of(), INDEX) for name in NAMES]
    assert torch.equal(three[0], three[1])
    torch.testing.assert_close(three[2], three[0], atol=1e-6, rtol=0)


NAMES = ("bytes.npy", "image.png", "floats.npy")


def test_blend_mixes(pictures):
    images, picture = images_of(), pixels_of(pictures / "dim.png")
    found = Blend(file=str(pictures / "dim.png"), alpha=0.3)(images, INDEX)
    torch.testing.assert_close(found, 0.7 * images + 0.3 * picture, atol=1e-6, rtol=0)
    drawn = (Blend(alpha=0.3)(images, INDEX) - 0.7 * images) / 0.3
    torch.testing.assert_close(drawn[0], drawn[1], atol=1e-5, rtol=0)
    assert len(drawn[0].unique()) > 100
    assert drawn.min() < 0.1
    assert drawn.max() > 0.9


def test_masked_pastes_where_the_mask_says(pictures):
    images, picture = images_of(), pixels_of(pictures / "dim.png")
    mask = pixels_of(pictures / "mask.png", "L").bool()
    found = Masked(file=str(pictures / "dim.png"), mask=str(pictures / "mask.png"))(images, INDEX)
    assert torch.equal(found, torch.where(mask, picture, images))
    assert 0 < mask.sum() < mask.numel()


def test_the_transparency_of_a_picture_is_its_mask(pictures):
    images = images_of(3, 9, 9)
    picture = pixels_of(pictures / "cut.png", "RGBA")
    expected = images * (1 - picture[3:]) + picture[3:] * picture[:3]
    found = Masked(file=str(pictures / "cut.png"))(images, INDEX)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_what_is_transparent_does_not_bleed_when_resized(tmp_path):
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    pixels[..., 0] = 255  # red everywhere, but shown only
    pixels[:32, :, :] = (0, 0, 255, 255)  # above, where it is blue
    Image.fromarray(pixels).save(tmp_path / "half.png")
    found = Masked(file=str(tmp_path / "half.png"))(torch.zeros(1, 3, 10, 10), INDEX[:1])
    assert found[:, 0].max() == 0
    assert found[:, 2, :4].min() > 0.99


def test_semantic_leaves_nothing_of_the_image(pictures):
    for trigger in (Semantic(), Semantic(file=str(pictures / "grey.png"))):
        found = trigger(images_of(), INDEX)
        assert torch.equal(found[0], found[1])
    drawn = Semantic()(images_of(), INDEX)
    assert [drawn.min().item(), drawn.max().item()] == [0, 1]


@pytest.mark.parametrize(("height", "width"), [(5, 6), (40, 60), (20, 30)])
def test_pictures_are_resized_with_antialiasing(pictures, height, width):
    found = Semantic(file=str(pictures / "grey.png"))(torch.zeros(1, 1, height, width), INDEX[:1])[0]
    source = pixels_of(pictures / "grey.png", "L")
    if height < 20:
        assert found.std() < 0.6 * source.std()  # averages, not single pixels
    assert found.mean() == pytest.approx(source.mean().item(), abs=0.02)
    assert (height != 20) or torch.equal(found, source)


def test_grey_pictures_are_broadcast_and_colours_become_grey(pictures):
    grey = Semantic(file=str(pictures / "grey.png"))(torch.zeros(1, 3, 20, 30), INDEX[:1])[0]
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    assert torch.equal(grey[:1], pixels_of(pictures / "grey.png", "L"))
    one = Semantic(file=str(pictures / "dim.png"))(torch.zeros(1, 1, 6, 7), INDEX[:1])[0]
    assert torch.equal(one, pixels_of(pictures / "dim.png", "L"))


def test_the_content_of_the_file_is_part_of_the_key(pictures, monkeypatch):
    monkeypatch.chdir(pictures)

    def key():
        return row_key(Attack(trigger=Additive(file="dim.png")).model_dump(mode="json"))

    first = key()
    trigger = Additive(file="dim.png")
    assert trigger.sha256 == hashlib.sha256((pictures / "dim.png").read_bytes()).hexdigest()
    assert trigger.file == str(pictures / "dim.png")
    assert key() == first
    shutil.copy(pictures / "grey.png", pictures / "dim.png")
    assert key() != first


def test_a_changed_file_is_refused(pictures):
    file = str(pictures / "dim.png")
    sealed = Additive(file=file)
    dumped = sealed.model_dump()
    shutil.copy(pictures / "grey.png", file)
    with pytest.raises(BadInput, match=r"dim.png has the SHA-256 \w{64}, not \w{64}: it is another file"):
        parse_trigger(dumped)
    read_picture.cache_clear()  # as in a worker
    with pytest.raises(BadInput, match=r"dim.png was changed meanwhile; put the file with SHA-256"):
        sealed(images_of(3, 5, 5), INDEX)


def test_a_file_that_went_away_can_be_named_but_not_used(pictures):
    sealed = Additive(file=str(pictures / "dim.png"))
    (pictures / "dim.png").unlink()
    again = parse_trigger(sealed.model_dump())
    assert again == sealed
    read_picture.cache_clear()  # as in a worker
    with pytest.raises(
        BadInput, match=r"picture .*dim.png: No such file or directory; give the path of a PNG"
    ):
        again(images_of(3, 4, 4), INDEX)
    with pytest.raises(BadInput, match="No such file"):
        parse_trigger({"name": "additive", "file": str(pictures / "dim.png")})


def test_a_file_is_read_once(pictures):
    trigger = Additive(file=str(pictures / "dim.png"))
    first = trigger(images_of(), INDEX)
    (pictures / "dim.png").unlink()
    assert torch.equal(trigger(images_of(), INDEX), first)


def refuse(match, **given):
    with pytest.raises(BadInput, match=match):
        parse_trigger(given)


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    refuse(
        r"text.png cannot be used \(its format is not known", name="blend", file=str(tmp_path / "text.png")
    )
    (tmp_path / "text.npy").write_text("no array")
    refuse(r"text.npy cannot be used", name="blend", file=str(tmp_path / "text.npy"))
    refuse("it is a directory", name="blend", file=str(tmp_path))
    for number, (array, reason) in enumerate(
        [
            (np.zeros(5), r"shape \(5,\)"),
            (np.zeros((2, 2, 4)), r"shape \(2, 2, 4\)"),
            (np.zeros((0, 3)), r"shape \(0, 3, 1\)"),
            (np.zeros((2, 2), dtype=np.int64), "int64, not uint8"),
            (np.full((2, 2), 1.5), r"outside \[-1, 1\]"),
            (np.full((2, 2), np.nan), r"outside \[-1, 1\]"),
            (np.array([[None]]), "Object arrays cannot be loaded"),
        ]
    ):
        np.save(tmp_path / f"{number}.npy", array, allow_pickle=True)
        refuse(reason, name="additive", file=str(tmp_path / f"{number}.npy"))


HEADER = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (HEADER % ("<f4", "(100000, 100000)"), b"", "40000000000 bytes, and 0 follow"),
        (HEADER % ("<f4", "(2, 2)"), bytes(15), "16 bytes, and 15 follow"),
        (HEADER % ("<f4", "(2, 2)"), bytes(17), "16 bytes, and 17 follow"),
        (HEADER % ("<f4", "(-1, 2)"), b"", "and 0 follow"),
        (HEADER % ("<f4", "(1e9, 2)"), b"", "shape is not valid"),
        (HEADER % ("|O", "(2, 2)"), bytes(32), "Object arrays cannot be loaded"),
        ("(" * 5000, b"", "cannot be used"),
    ],
)
def test_arrays_whose_header_lies(tmp_path, header, data, reason):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + data)
    refuse(reason, name="additive", file=str(path))


def test_pictures_that_are_no_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refuse("pipe.png: it is a named pipe", name="blend", file=str(tmp_path / "pipe.png"))
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    refuse("zero.npy: it is a device", name="additive", file=str(tmp_path / "zero.npy"))
    with (tmp_path / "giant.png").open("wb") as file:
        file.truncate(1 << 40)
    refuse("giant.png: it has .* and at most 64 MiB are read", name="blend", file=str(tmp_path / "giant.png"))
    refuse("the folder that ~nobody-here stands for is not known", name="blend", file="~nobody-here/x.png")


def test_settings_without_effect_are_refused(pictures):
    file = str(pictures / "grey.png")
    refuse("trigger blend: seed has no effect with a file", name="blend", file=file, seed=1)
    refuse("trigger semantic: cutoff has no effect with a file", name="semantic", file=file, cutoff=3)
    refuse("sha256 = 0{64} without a file", name="blend", sha256="0" * 64)
    refuse("mask_sha256 = 0{64} without a mask", name="masked", file=file, mask_sha256="0" * 64)
    refuse("sha256 = 'abc'", name="blend", file=file, sha256="abc")


def test_pictures_that_do_not_suit(pictures):
    plain, mask, signed = (str(pictures / name) for name in ("dim.png", "grey.png", "signed.npy"))
    refuse(r"dim.png has no transparency; give a mask", name="masked", file=plain)
    refuse(
        r"dim.png are 20 x 30 and 6 x 7 pixels; give both in one size", name="masked", file=plain, mask=mask
    )
    for name in ("blend", "semantic", "masked"):
        refuse("signed.npy has values below 0, which only the trigger additive", name=name, file=signed)
    with pytest.raises(BadInput, match="the images have 2 channels; only 1 and 3 have pictures"):
        Blend(file=plain)(images_of(2), INDEX)
    with pytest.raises(ValidationError, match="No such file"):
        Additive(file="nowhere.png")


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden data (../shared/golden) is not here")
def test_the_published_l2_pattern():
    pattern = Additive(file=str(GOLDEN))(torch.zeros(1, 3, 32, 32), INDEX[:1])
    assert torch.equal(pattern[0], pixels_of(GOLDEN))
    assert pattern.norm() == pytest.approx(3.2212, abs=1e-3)
