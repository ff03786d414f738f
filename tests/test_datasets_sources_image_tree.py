import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from theriac.datasets.sources import image_tree
from theriac.datasets.sources.image_tree import MOST_DEPTH, image_files
from theriac.errors import BadInput


def draw(path, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, kind)
    return path


@pytest.fixture
def root(tmp_path):
    for place in ("cat/1.png", "cat/in/2.png", "dog/1.png"):
        draw(tmp_path / "set" / place)
    return tmp_path / "set"


def found(root):
    return image_files(root, ["cat", "dog"])


def refuse(root, match):
    with pytest.raises(BadInput, match=match):
        found(root)


PLAIN = {"cat": ["cat/1.png", "cat/in/2.png"], "dog": ["dog/1.png"]}


def test_images_below_class_folders(root):
    assert found(root) == PLAIN
    assert found(Path(os.path.relpath(root))) == PLAIN


@pytest.mark.parametrize("target", ["..", ".", "../..", "/", "../cat", "../dog"])
def test_a_link_to_a_folder_that_holds_the_set_or_is_in_it_is_refused(root, target):
    (root / "dog" / "up").symlink_to(target)
    refuse(root, r"leads to .* again \(a link\), so its images would count twice; remove the link")


def test_a_class_that_is_a_link_to_another_is_refused(root):
    (root / "eel").symlink_to("cat")
    with pytest.raises(BadInput, match=r"folder .*eel leads to .*cat again \(a link\)"):
        image_files(root, ["cat", "eel"])


def test_a_folder_around_one_that_was_read_is_refused(root, tmp_path):
    outside = draw(tmp_path / "other" / "inner" / "1.png").parent
    (root / "cat" / "link").symlink_to(outside)
    (root / "dog" / "link").symlink_to(outside.parent)
    refuse(root, r"folder .*dog/link/inner leads to .*cat/link again")


def test_links_that_lead_elsewhere_are_followed(root, tmp_path):
    elsewhere = draw(tmp_path / "elsewhere" / "5.png")
    (root / "dog" / "more").symlink_to(elsewhere.parent)
    (root / "cat" / "3.png").symlink_to(draw(tmp_path / "3.png"))
    assert found(root) == {
        "cat": ["cat/1.png", "cat/3.png", "cat/in/2.png"],
        "dog": ["dog/1.png", "dog/more/5.png"],
    }


@pytest.mark.parametrize("place", ["cat/again.png", "dog/again.png"])
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_file_under_two_names_is_refused(root, place, link):
    link(root / "cat" / "1.png", root / place)
    refuse(
        root,
        r"(1|again)\.png and .*(1|again)\.png are one file \(a link\).*make it a copy",
    )


def test_two_links_to_one_file_are_refused(root, tmp_path):
    target = draw(tmp_path / "target.png")
    for place in ("cat/a.png", "dog/b.png"):
        (root / place).symlink_to(target)
    refuse(root, r"cat/a\.png and .*dog/b\.png are one file")


def test_numbers_that_a_file_system_gives_twice_are_no_links(root, monkeypatch):
    monkeypatch.setattr(
        image_tree._Walk,
        "_remember",
        lambda self, _, path: (self._paths.append(path), self._inodes.append(7)),
    )
    assert found(root) == PLAIN


def test_what_is_no_file_is_refused_where_an_image_is_meant(root):
    os.mkfifo(root / "dog" / "notes")  # no image by its name
    assert found(root) == PLAIN
    os.mkfifo(root / "dog" / "pipe.png")
    refuse(root, r"image .*pipe\.png: it is a named pipe, not a regular file; remove it")
    (root / "dog" / "pipe.png").unlink()
    (root / "dog" / "zero.jpg").symlink_to("/dev/zero")
    refuse(root, r"zero\.jpg: it is a device")
    (root / "dog" / "zero.jpg").unlink()
    (root / "dog" / "gone.png").symlink_to("nowhere")
    refuse(root, r"gone\.png: No such file or directory; remove it")
    (root / "dog" / "gone.png").unlink()
    (root / "dog" / "loop").symlink_to("loop")
    refuse(root, r"loop: Too many levels of symbolic links; remove it")


def test_a_socket_is_refused(root, monkeypatch):
    monkeypatch.chdir(root)  # its name must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("dog/s.png")
        refuse(Path(), r"s\.png: it is a socket")


def test_folders_that_are_endlessly_deep_are_refused(root):
    draw(root.joinpath("dog", *["d"] * MOST_DEPTH) / "deep.png")
    assert len(found(root)["dog"]) == 2
    draw(root.joinpath("dog", *["d"] * MOST_DEPTH, "d") / "deeper.png")
    refuse(root, rf"lies more than {MOST_DEPTH} folders deep; put its images higher")


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)
    refuse(root, "folder .*cat: Permission denied; make it readable or remove it")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".tif", ".TIFF", ".webp", ".pbm", ".avif"])
def test_every_usual_suffix_counts(root, suffix):
    (root / "dog" / f"x{suffix}").touch()
    assert f"dog/x{suffix}" in found(root)["dog"]


def test_the_content_decides_without_a_suffix(root):
    draw(root / "dog" / "picture", "JPEG")
    (root / "dog" / "README").write_text("BMW and others")
    assert found(root)["dog"] == ["dog/1.png", "dog/picture"]


def test_images_of_another_suffix_are_left_out_and_said(root, caplog):
    draw(root / "dog" / "1.png~")
    (root / "dog" / "labels.csv").write_text("a,b")
    assert found(root) == PLAIN
    assert [record.getMessage().split(" is left out")[0] for record in caplog.records] == [
        f"{root}/dog/1.png~ and what else ends in '.png~' in {root}"
    ]


def test_what_systems_leave_is_left_out_silently(root, caplog):
    for place in ("dog/._1.png", "dog/.cache/1.png", "dog/__MACOSX/1.png", "dog/@eaDir/1.png/thumb.jpg"):
        draw(root / place)
    (root / "dog" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(99))
    assert found(root) == PLAIN
    assert not caplog.records
