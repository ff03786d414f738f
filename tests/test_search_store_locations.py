"""Names of places: what is a URI, what is a folder, and secrets that no message tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from theriac.errors import BadInput
from theriac.search.store.compaction import compact
from theriac.search.store.locations import checked_folder, checked_location, masked, masked_word, shown
from theriac.search.store.results import ResultsStore
from theriac.search.store.storage import open_storage, write_probe


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("s3://me:secret@bucket/a", "s3://me:***@bucket/a"),
        ("s3://me:se/cr@et@bucket/a", "s3://me:***@bucket/a"),
        ("s3://me:se?cr&et#@bucket/a", "s3://me:***@bucket/a"),
        ("s3://me:p?key=x@bucket", "s3://me:***@bucket"),
        ("https://ghp_secret@host/a", "https://***@host/a"),
        ("s3://b/p?secret_key=se/cr@et&region=x", "s3://b/p?secret_key=***&region=x"),
        ("s3://b/p?access_key=secret&scheme=http", "s3://b/p?access_key=***&scheme=http"),
        ("abfs://b@a.dfs/p?sig=secret%2F&se=1", "abfs://b@a.dfs/p?sig=***&se=1"),
        ("gs://b?token=secret", "gs://b?token=***"),
        ("s3:/me:secret@bucket/a", "s3:/me:***@bucket/a"),
        ("abfs://box@account/a", "abfs://box@account/a"),
        ("gs://bucket/me@work/x", "gs://bucket/me@work/x"),
        ("/data/a:b@c?key=d", "/data/a:b@c?key=d"),
    ],
)
def test_secrets_are_masked_and_the_rest_is_not(location: str, told: str) -> None:
    assert shown(location) == told
    assert masked(f"cannot open '{location}' now", location) == f"cannot open '{told}' now"
    assert "secret" not in masked(f"cannot open {location.split('?')[0]} now")


@pytest.mark.parametrize("option", ["", "--store="])
def test_the_words_of_a_command_are_masked_to_their_ends(option: str) -> None:
    assert masked_word(f'{option}s3://me:it\'s a "se/cret"@bucket') == f"{option}s3://me:***@bucket"
    assert masked_word(f"{option}seeds=[0,1]") == f"{option}seeds=[0,1]"


def test_parts_of_a_uri_in_other_forms_are_masked() -> None:
    location = "s3://me:se%2Fcret@bucket/a?token=to/ken"
    text = masked("signature of se/cret, se%2Fcret and to%2Fken does not match", location)
    assert text == "signature of ***, *** and *** does not match"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("", "is empty"),
        ("s3://", "names no place"),
        ("ftp://", "names no place"),
        ("http://host/x", "can only be read"),
        ("s3:/bucket", "two slashes"),
        ("file:relative", "two slashes"),
        ("gs:bucket", "two slashes"),
        (Path("s3://bucket"), "two slashes"),
        ("s3://bucket\n/x", "no line breaks"),
        ("a\0b", "NUL character"),
    ],
)
def test_what_cannot_be_a_store_is_said_in_one_line(location: str | Path, reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as refused:
        checked_location(location)
    assert "\n" not in str(refused.value)


def test_a_colon_alone_makes_no_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked_location("results-11:30") == str(tmp_path / "results-11:30")
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "there").mkdir()
    assert checked_location("s3:/there") == str(tmp_path / "s3:/there")


def test_schemes_are_written_small_and_homes_in_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked_location("S3://bucket/a/") == "s3://bucket/a"
    assert checked_location("~/x") == str(tmp_path / "x")
    assert checked_folder("~/x", "folder") == tmp_path / "x"
    with pytest.raises(BadInput, match="give the path in full"):
        checked_folder("~no-such-user-here/x", "folder")


@pytest.mark.parametrize("given", ["", " ", "s3://bucket/x", "s3:/bucket/x", Path("gs://bucket/x"), "a\0b"])
def test_what_is_no_folder_is_refused_and_nothing_is_made(given, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"the (name of the )?results directory"):
        ResultsStore(given)
    assert list(tmp_path.iterdir()) == []


def test_results_in_a_relative_folder_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ResultsStore("results-11:30")
    for step in (1, 2):
        store.append("steps", [{"key": "a", "step": step}])
    assert compact(store, least=2) == 2
    assert ResultsStore(Path("results-11:30"), create=False).read("steps")["step"].to_pylist() == [2]


def test_an_error_of_a_driver_tells_no_secret() -> None:
    for location in ("s3://me:se/cr@et@bucket/x", "s3://bucket?secret_key=se/cr&unknown=1"):
        with pytest.raises(BadInput, match="cannot open") as refused:
            open_storage(location)
        assert "se/cr" not in str(refused.value)
        assert "se/cr" not in str(refused.value.__cause__)


def test_whatever_a_driver_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory")

    class OwnError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise OwnError("530 Login incorrect\nsecond line")

    monkeypatch.setattr(memory.MemoryFileSystem, "mkdir", fail)
    with pytest.raises(BadInput, match=r"cannot use memory://x \(530 Login incorrect\)"):
        write_probe("memory://x", "t", "n")


def test_a_server_that_does_not_answer_is_one_line() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(BadInput, match=r"cannot open ftp://127\.0\.0\.1:1/x .*correct the URI"):
        open_storage("ftp://127.0.0.1:1/x")
