"""Options of `theriac heal` that fit the method and the search, or are refused by name."""

from __future__ import annotations

import pytest

from theriac.cluster.cli import run

FILES = ["heal", "--weights", "nowhere.pt", "--forget", "nowhere", "--retain", "nowhere"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--method xlf --clean somewhere", ["--clean", "xlf does not use this", "ft, fp, nad, nc, ibau"]),
        ("--method cf --clean somewhere", ["--clean", "cf does not use this"]),
        ("--method ssd --seed 0", ["--seed", "ssd does not use this"]),
        ("--seed 3", ["--seed", "xlf does not use this"]),
        ("--method ga --search fixed --samples 3", ["samples", "fixed", "does not use this"]),
        ("--method ga --search fixed --pareto", ["pareto", "fixed", "does not use this"]),
        ("--method ga --search fixed --together 2", ["together", "fixed", "does not use this"]),
        ("--method ga --search ptn", ["search", "ptn"]),
        ("--method xlf --search fixed", ["search", "fixed"]),
        ("--method xlf --set steps=3", ["--set", "xlf does not use this"]),
        ("--method ga --alphas 1 2", ["--alphas", "ga does not use this"]),
        ("--method ga --granularity batch", ["--granularity", "ga does not use this"]),
        ("--search grid --rho 0.1", ["rho", "grid", "does not use this"]),
        ("--search guarded --samples 3", ["samples", "guarded", "does not use this"]),
        ("--samples 3", ["samples", "ptn", "does not use this"]),
        ("--method ibau", ["ibau needs images", "--clean"]),
        ("--batch-size 9223372036854775808", ["--batch-size", "less than or equal to 2147483648"]),
        ("--method ga --seed 99999999999999999999", ["seed", "less than 9223372036854775808"]),
        ("--num-classes 9223372036854775808", ["--num-classes", "less than or equal to"]),
    ],
)
def test_what_would_be_ignored_is_refused_before_files_are_read(
    options: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*FILES, *options.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "nowhere" not in captured.err
    assert all(word in captured.err for word in words), captured.err


@pytest.mark.parametrize(
    "options", ["--method ga --seed 3", "--method ft --clean nowhere --seed 0", "--rho 0.1"]
)
def test_what_is_used_is_taken(
    options: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*FILES, *options.split()]) == 2
    assert "nowhere" in capsys.readouterr().err, "the first thing that is wrong is a file"
