"""Model cards: what Hugging Face reads, what people read, and whose README.md it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

import theriac
from theriac.errors import BadInput
from theriac.search.export import exported, model_card
from theriac.search.export.card_text import escaped
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()
FOUND, KEPT = 0.125, 0.984


def report(**changes: Any) -> dict[str, Any]:
    """A report as `Healing.save` writes it."""
    metrics = {
        "forget_count": 8,
        "retain_count": 500,
        "parameters": 14_329,
        "dampened": 252,
        "steps": 14,
        "forget_accuracy_before": 1.0,
        "forget_accuracy": FOUND,
        "agreement": KEPT,
    }
    whole = {
        "status": "stopped",
        "healed": True,
        "warnings": [],
        "notes": ["1 found image shows little"],
        "alpha": 9.05,
        "dampening_constant": 0.905,
        "metrics": metrics,
        "settings": {"method": "xlf", "search": "ptn", "granularity": "sample", "rho": 0.2},
        "trace": [],
        "provenance": {"versions": {"theriac": "1.2.3", "ray": None}, "git_commit": "abc"},
    }
    return {**whole, **changes}


def header(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_hugging_face_reads_it() -> None:
    data: Any = ModelCard(model_card(report(), "healed: digits")).data
    assert data.library_name == "pytorch"
    assert data.license is None
    assert "theriac" in data.tags
    assert data.model_name == "healed: digits"
    found = {one.metric_type: one.metric_value for one in data.eval_results}
    assert found == {"forget_accuracy": FOUND, "agreement": KEPT}


def test_it_says_what_was_done_and_measured() -> None:
    text = model_card(report(), "m")
    for words in (
        "Method xlf, ptn search.",
        "252 of 14,329 weights were dampened, at alpha 9.05 and lambda 0.905.",
        "| rho | 0.2 |",
        r"| found poison still read as labelled | 100.0 % | 12.5 % |",
        "98.4 %",
        "8 samples were given as found poison.",
        "- 1 found image shows little",
        "No test images were used",
        "| theriac | 1.2.3 |",
        "Commit of theriac: abc.",
        'load_model(model, "model.safetensors")',
    ):
        assert words in text
    assert "ray" not in text, "what was not installed has no version"


def test_what_is_not_known_is_not_said() -> None:
    bare = {**report(metrics={}, alpha=None, settings={}), "provenance": {}}
    text = model_card(bare, "m")
    assert "model-index" not in header(text)
    assert "Nothing was measured." in text
    assert "%" not in text
    assert "not recorded" in text
    odd = {"forget_accuracy": float("nan"), "agreement": "high", "forget_accuracy_before": True}
    assert "model-index" not in header(model_card(report(metrics=odd), "m"))


def test_a_model_that_is_not_healed_has_no_values_of_another() -> None:
    text = model_card(report(status="not_healed", healed=False), "m")
    assert "model-index" not in header(text)
    assert "**Not healed** (status: not\\_healed)" in text
    assert "with the best setting, which was not applied" in text
    assert "weights would have been dampened" in text


NAMES = [
    "a: b\n- c",
    "--- \n# x",
    "<script>alert(1)</script>",
    "]( http://x )",
    "é\u202e\x00",
    "'\"",
    "| a |",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_names(name: str) -> None:
    settings = {"method": name, "search": name, name: name}
    said = report(settings=settings, notes=[name], warnings=[name], status=name)
    text = model_card(said, name)
    assert header(text)["model-index"][0]["name"] == name
    body = text.split("---\n", 2)[2]
    assert "<script" not in body.replace("\\<", "")
    assert "](" not in body.replace("\\](", "").replace("\\]", "")
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} <= {3, 4}
    assert body.count("\n# ") <= 1


def test_escaped() -> None:
    assert escaped("*a*\n`b`") == "\\*a\\*\\\\n\\`b\\`"


def test_save_writes_a_card_and_replaces_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    healing = theriac.heal(POISONED.model, POISONED.found, POISONED.rest, max_steps=3)
    folder = healing.save(tmp_path / "healed")
    card = (folder / "README.md").read_text()
    assert "# healed\n" in card
    assert f"(status: {healing.status.replace('_', chr(92) + '_')})" in card
    assert "| torch |" in card
    healing.save(folder)
    assert (folder / "README.md").read_text() == card
    assert caplog.text == ""
    again = tmp_path / "again.md"
    exported([folder], "huggingface-card", again)
    assert again.read_text() == card


@pytest.mark.parametrize("change", ["{}mine", "mine", "{} ", ""])
def test_what_somebody_else_wrote_stays(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    healing = theriac.heal(POISONED.model, POISONED.found, POISONED.rest, max_steps=1)
    folder = healing.save(tmp_path)
    theirs = change.format((folder / "README.md").read_text())
    (folder / "README.md").write_text(theirs)
    healing.save(folder)
    assert (folder / "README.md").read_text() == theirs
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/README.md is not theriac's, or was changed: it stays as it is"
    ]


def written(folder: Path, content: object) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "healing.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no report of a healing"),
        ("[]", "is no report of a healing"),
        ({"status": 3}, "status"),
        ({**report(), "metrics": []}, "metrics"),
        ({**report(), "provenance": {"versions": 3}}, "provenance.versions"),
        ("[" * 100_000, "is no report of a healing"),
    ],
)
def test_a_report_that_is_none_is_one_line(tmp_path: Path, content: object, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        exported([written(tmp_path / "m", content)], "huggingface-card", tmp_path / "card.md")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "card.md").exists()


def test_reports_of_earlier_versions_have_cards(tmp_path: Path) -> None:
    old = {name: value for name, value in report().items() if name != "provenance"}
    exported([written(tmp_path / "m", old)], "huggingface-card", tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    assert "versions of the libraries were not recorded" in text
    assert header(text)["model-index"][0]["name"] == "m"


def test_where_a_card_may_go(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", report())
    for out, words in (
        (folder / "model.safetensors", "ends in .md"),
        (folder / "healing.json", "ends in .md"),
        (folder, "is a folder"),
    ):
        with pytest.raises(BadInput, match=words):
            exported([folder], "huggingface-card", out, force=True)
    with pytest.raises(BadInput, match="2 folders were given"):
        exported([folder, folder], "huggingface-card", tmp_path / "card.md")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        BadInput, match=r"holds no model.safetensors; name the folder that `theriac heal` wrote"
    ):
        exported([folder], "huggingface-card", tmp_path / "card.md")
