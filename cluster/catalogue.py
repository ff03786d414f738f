"""What `theriac list` shows."""

from __future__ import annotations

from pathlib import Path

from ..datasets.sources import available
from ..datasets.triggers import TRIGGERS
from ..search.scenarios import PRESETS, Scenario
from ..search.settings import METHODS, SEARCHES
from ..search.sweeps import sweep_presets
from ..unlearning.models import MODELS

Entries = list[tuple[str, str]]

METHOD_TEXTS = {
    "ssd": "dampening by the Fisher diagonal: squared gradient of the cross-entropy",
    "lf": "dampening by the gradient of the squared norm of the logits",
    "xlf": "dampening by the gradient of the norm of the logits; the default",
}

SEARCH_TEXTS = {
    "ptn": "more aggressive step by step until the found poison is forgotten; the default",
    "grid": "pairs of alpha and lambda (Goel et al.: 50), judged on found poison and a part of retain",
    "tpe": "such pairs sampled by Optuna's TPE, each from what those before were worth",
}


def catalogue(data: Path | None) -> dict[str, Entries]:
    """Title -> (name, what it is) for everything a user can name."""
    return {
        "datasets": [(name, _found(found, detail)) for name, found, detail in available(data)],
        "models": [
            *((name, "with a width factor") for name in MODELS),
            ("<timm name>", "any of timm.list_models()"),
        ],
        "triggers": [(name, _first_line(kind.__doc__)) for name, kind in TRIGGERS.items()],
        "methods": [
            ("none", "the victim as it is"),
            ("eu", "exact unlearning: retrain from scratch on retain"),
            *((name, METHOD_TEXTS[name]) for name in METHODS),
        ],
        "searches": [(name, SEARCH_TEXTS[name]) for name in SEARCHES],
        "presets": [(name, _about(scenario)) for name, scenario in PRESETS.items()],
        "sweeps": list(sweep_presets().items()),
    }


def _found(found: bool, detail: str) -> str:
    return f"found: {detail}" if found else f"missing: {detail}"


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _about(scenario: Scenario) -> str:
    model, attack = scenario.model, scenario.attack
    return (
        f"{scenario.dataset}, {model.name} x {model.width:g}, {attack.trigger.name} to class "
        f"{attack.target}, |S_m| = {scenario.manipulated}, {scenario.recipe.iterations} iterations"
    )
