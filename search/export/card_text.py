"""The model card of a healed model: Markdown below a YAML header, as Hugging Face reads it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from ...errors import printable

Report = Mapping[str, Any]
"""The content of ``healing.json``."""

TAGS = ("theriac", "machine-unlearning", "backdoor-removal", "data-poisoning")
LICENCE = "# license: yours to say; `license: apache-2.0`, for example\n"
NOT_IN_THE_TABLE = ("method", "search")
MEASURED = (
    ("found poison still read as labelled", "forget_accuracy_before", "forget_accuracy"),
    ("retain samples read as labelled", "retain_accuracy_before", "retain_accuracy"),
    ("those of other classes read as labelled", "other_accuracy_before", "other_accuracy"),
    ("retain samples read as the poison's label", "target_rate_before", "target_rate"),
    ("predictions on other classes that stayed the same", None, "agreement"),
    ("accuracy lost by healing, as the search estimates it", None, "harm"),
)
"""What is measured -> names in the metrics, before and after; all of them are shares."""
NOT_MEASURED = "\N{EN DASH}"
INDEXED = {
    "forget_accuracy": "share of the found poison still read as labelled (lower is better)",
    "agreement": "share of the predictions on other classes that stayed the same",
}
BLIND = (
    "All of this was measured on samples that were given for the healing: the found poison, and a training "
    "set that may hold more of it. No test images were used, and no image with the trigger beside those that "
    "were found. Whether the trigger still works on new images, and how accurate the model is on them, must "
    "be tested."
)
LOAD = """```python
from safetensors.torch import load_model

model = ...  # built as it was for training
load_model(model, "model.safetensors")
model.eval()
```"""


def model_card(report: Report, name: str) -> str:
    """Write the card of a model that `Healing.save` has stored.

    Nothing stands in it that the report does not say: what was not measured is left out.

    Args:
        report: as ``healing.json`` has it.
        name: of the model.
    """
    parts = (
        f"# {escaped(name)}",
        _status(report),
        "## What was done",
        _done(report),
        "## What was measured",
        _measures(report),
        "## What these numbers cannot see",
        "\n".join(f"- {line}" for line in (BLIND, *map(escaped, _said(report)))),
        "## Load it",
        LOAD,
        _architecture(report),
        "## Where it comes from",
        _origin(report),
    )
    return f"{_header(report, name)}\n" + "\n\n".join(filter(None, parts)) + "\n"


def escaped(text: str) -> str:
    r"""Return a text of which Markdown and HTML make nothing but the text, on one line.

    Example:
        >>> escaped("a|b <b>*")
        'a\\|b \\<b\\>\\*'
    """
    return re.sub(r"([\\`*_\[\]<>|~&#!])", r"\\\1", printable(text))


def _header(report: Report, name: str) -> str:
    found: dict[str, Any] = {"library_name": "pytorch", "pipeline_tag": "image-classification"}
    found["tags"] = list(TAGS)
    metrics = [
        {"type": kind, "name": words, "value": value}
        for kind, words in INDEXED.items()
        if (value := _number(report["metrics"], kind)) is not None
    ]
    if metrics and report["healed"]:  # else they are of a setting that was not applied
        task = {"type": "image-classification", "name": "Image classification"}
        dataset = {"type": "found-poison-and-retain", "name": "the samples given for the healing"}
        found["model-index"] = [
            {"name": name, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}
        ]
    return f"---\n{LICENCE}{yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=10_000)}---\n"


def _status(report: Report) -> str:
    status = escaped(report["status"])
    if report["healed"]:
        return (
            f"An image classifier that was healed of a trigger by theriac (status: {status}). The found "
            f"poison is no longer believed; read below what that shows, and what it does not."
        )
    return (
        f"**Not healed** (status: {status}). theriac found no setting to keep: these are the weights that "
        f"came in, with whatever trigger they know."
    )


def _done(report: Report) -> str:
    settings, metrics = report["settings"], report["metrics"]
    lines = [f"Method {_named(settings, 'method')}, {_named(settings, 'search')} search."]
    alpha, constant = _number(report, "alpha"), _number(report, "dampening_constant")
    if alpha is not None and constant is not None:
        verb = "were dampened" if report["healed"] else "would have been dampened"
        weights = _counts(metrics, "dampened", "parameters")
        lines.append(f"{weights} weights {verb}, at alpha {alpha:.6g} and lambda {constant:.6g}.")
    if steps := _counts(metrics, "steps"):
        lines.append(f"{steps} settings were evaluated; healing.json has all of them.")
    rows = [(name, value) for name, value in settings.items() if name not in NOT_IN_THE_TABLE]
    return "\n".join([*lines, "", *_table(("setting", "value"), ((n, _as_text(v)) for n, v in rows))])


def _measures(report: Report) -> str:
    metrics = report["metrics"]
    rows = []
    for words, before, after in MEASURED:
        shown = [_percent(metrics, name) for name in (before, after)]
        if any(shown):
            rows.append((words, *(one or NOT_MEASURED for one in shown)))
    if not rows:
        return "Nothing was measured."
    counts = [
        f"{_counts(metrics, f'{one}_count')} samples were given as {words}"
        for one, words in (("forget", "found poison"), ("retain", "the rest of the training set"))
        if _counts(metrics, f"{one}_count")
    ]
    after = "after" if report["healed"] else "with the best setting, which was not applied"
    return "\n".join([*_table(("measure", "before", after), rows), "", *(f"{one}." for one in counts)])


def _said(report: Report) -> list[str]:
    return [str(one) for one in (*report["notes"], *report["warnings"])]


def _architecture(report: Report) -> str:
    kind = report.get("provenance", {}).get("model_class")
    return f"It was a {escaped(str(kind))} when it was saved." if kind else ""


def _origin(report: Report) -> str:
    origin = report.get("provenance", {})
    versions = {name: version for name, version in origin.get("versions", {}).items() if version}
    if not versions:
        return "The versions of the libraries were not recorded."
    rows = list(_table(("library", "version"), versions.items()))
    commit = origin.get("git_commit")
    return "\n".join([*rows, *(["", f"Commit of theriac: {escaped(str(commit))}."] if commit else [])])


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    cells = [[escaped(str(one)) for one in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in ([*titles], ["---"] * len(titles), *cells)]


def _named(settings: Mapping[str, Any], name: str) -> str:
    return escaped(str(settings.get(name, "not recorded")))


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(values: Mapping[str, Any], name: str | None) -> float | None:
    """Return a finite number, None where there is none."""
    found = values.get(name) if name else None
    sound = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return found if sound else None


def _percent(values: Mapping[str, Any], name: str | None) -> str:
    found = _number(values, name)
    return "" if found is None else f"{100 * found:.1f} %"


def _counts(values: Mapping[str, Any], *names: str) -> str:
    found = [_number(values, name) for name in names]
    return " of ".join(f"{one:,.0f}" for one in found if one is not None)
