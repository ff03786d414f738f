"""The rows that a cell adds to the results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...datasets.poisoning import discovered_count
from ...rows import Row
from ...unlearning.metrics import damage, healed
from ..store import row_key
from .scenario import Cell, Scenario

if TYPE_CHECKING:
    from ..dampening_run import Outcome
    from ..truth import Truth


@dataclass(frozen=True, kw_only=True)
class CellRows:
    """What a finished cell adds to the results: one row of `searches`, and its rows of `steps`."""

    search: Row
    steps: list[Row]


def cell_key(scenario: Scenario, cell: Cell) -> str:
    """Return the key of the cell's row in `searches`."""
    return row_key(scenario.key, cell.model_dump(mode="json"))


def identity(scenario: Scenario, cell: Cell) -> Row:
    """Return what is known of a cell before anything is computed."""
    return {
        "key": cell_key(scenario, cell),
        "scenario": scenario.key,
        "dataset": scenario.dataset,
        "model": scenario.model.name,
        "attack": scenario.attack.name,
        "target": scenario.attack.one_target,
        "manipulated": scenario.manipulated,
        "discovered": discovered_count(scenario.manipulated, cell.share),
        "share": cell.share_name,
        "seed": scenario.seed,
        "method": cell.method,
        "granularity": cell.dampening.granularity if cell.dampening else None,
        "search": cell.search,
        "settings": cell.settings.model_dump_json() if cell.settings else None,
        "uses_oracle": cell.tuning is not None and cell.tuning.uses_oracle,
        **description(scenario),
    }


def description(scenario: Scenario) -> Row:
    """Return the columns that say what a scenario is, beside those of `identity`; see `schemas`."""
    return {
        "setup": scenario.setup,
        "width": scenario.model.width,
        "image_size": scenario.image_size,
        "recipe": scenario.recipe.model_dump_json(),
        "attack_settings": scenario.attack.model_dump_json(),
        "held_back": scenario.held_back.model_dump_json(),
        "gate": scenario.gate.model_dump_json(),
    }


def failed_row(scenario: Scenario, cell: Cell, error_class: str, message: str) -> Row:
    """Return the row of a cell that raised.

    Args:
        scenario: of the cell.
        cell: the one that raised.
        error_class: name of the exception's class.
        message: what the exception says.
    """
    return {
        **identity(scenario, cell),
        "status": "failed",
        "error_class": error_class,
        "error_message": message,
    }


def gate_failure(scenario: Scenario, victim: Truth) -> Row | None:
    """Return the columns of every cell of a victim that fails its gate; None for one that passes."""
    gate = scenario.gate
    if victim.clean_accuracy >= gate.clean_accuracy and victim.asr >= gate.asr:
        return None
    return {
        **truth_before(victim),
        "status": "gate_failed",
        "error_class": "GateFailed",
        "error_message": (
            f"the victim has clean accuracy {victim.clean_accuracy:.1%} (gate {gate.clean_accuracy:.1%}) "
            f"and ASR {victim.asr:.1%} (gate {gate.asr:.1%}); train it longer or change the recipe"
        ),
    }


def outcome_columns(outcome: Outcome) -> Row:
    """Return what a search found, and where."""
    chosen, before = outcome.chosen, outcome.examination.forget_accuracy
    return {
        "status": outcome.status,
        **outcome.found.columns(),
        "forget_accuracy_before": before,
        "forget_accuracy": before if chosen is None else chosen.forget_accuracy,
        "peak_memory": outcome.peak_memory,
    }


def truth_before(victim: Truth) -> Row:
    """Return the victim's scores."""
    return {f"{name}_before": value for name, value in truth_columns(victim).items()}


def truth_columns(truth: Truth) -> Row:
    """Return the scores of a model that are one number each."""
    columns = asdict(truth)
    del columns["lfr"], columns["asr_by_trigger"]
    return columns


def scores(before: Truth, after: Truth, clean_raw: float | None) -> Row:
    """Return the scores of a method; ``clean_raw`` is healed_raw of the clean reference, if there is one."""
    return {
        **truth_before(before),
        **truth_columns(after),
        "damage": damage(after.clean_accuracy, before.clean_accuracy),
        "healed": healed(after.healed_raw, clean_raw),
        "lfr": after.lfr,
        "asr_by_trigger": after.asr_by_trigger if len(after.asr_by_trigger) > 1 else None,
    }
