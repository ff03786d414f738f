"""The closing sentence of `theriac heal`: what the found images show, and what to try if it is not enough."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

from ...search.harm import Harm
from ...search.heal import Healing
from ...search.searches import SEARCH_ENTRIES
from ...search.training import TRAINED_METHODS

_TRAINED = {
    "no_stop": "no setting does better than the model as it is",
    "collapsed": "every setting that forgets wrecks the model",
    "failed": "no run came to its end (healing.json says why)",
}
_FIXED = {
    "collapsed": "the run wrecks the model",
    "failed": "the run did not come to its end (healing.json says why)",
}


def verdict(healing: Healing, folder: Path) -> str:
    """Tell what became of the model, and what to try where it is not healed.

    Where model and data are in doubt, that comes before any other advice.

    Args:
        healing: as `heal` returned it.
        folder: that it was saved in.
    """
    if healing.healed:
        doubt = "\nbut it is in doubt whether model and data belong together: see the warning above"
        found = f"healed model: {folder}/model.safetensors; {_still_read(healing)}"
        notes = "".join(f"\nnote: {note}" for note in healing.notes)
        return f"{found}{_agreement(healing)}{_costs(healing)}{notes}{doubt if healing.warnings else ''}"
    what, advice = _finding(healing), _advice(healing)
    if healing.warnings:
        advice = f"Before anything else: {healing.warnings[0]}"
    return f"{what}; {folder} holds the weights that came in. {advice}"


def _finding(healing: Healing) -> str:
    """Tell why the model is not healed."""
    settings, status = healing.settings, healing.status
    search = settings["search"]
    if status == "not_healed":
        return _not_healed(healing)
    if settings["method"] in TRAINED_METHODS:
        return (_FIXED if search == "fixed" else _TRAINED)[status]
    if status == "collapsed":
        return f"the setting that {SEARCH_ENTRIES[search].chosen} wrecks the model{_wrecks(healing)}"
    if healing.metrics.get("apart") is False:
        return SEARCH_ENTRIES[search].not_apart
    return SEARCH_ENTRIES[search].no_stop


def _wrecks(healing: Healing) -> str:
    """Tell how the model at the stop is wrecked, after a colon."""
    harm = Harm(**{field.name: healing.metrics[field.name] for field in fields(Harm)})
    given = healing.settings
    found = harm.wrecks(drop=given["collapse_drop"], share=given["collapse_share"])
    return f": {', '.join(found)}" if found else ""


def _not_healed(healing: Healing) -> str:
    metrics = healing.metrics
    allowed = math.floor(metrics["forget_threshold"] * metrics["forget_count"] + 1e-9)
    if metrics.get("unchanged"):
        how = "the run gave the model back as it was (it undid its changes, or found no trigger), so"
    elif healing.settings["search"] == "fixed":
        how = "after the run"
    else:
        how = "with the best setting"
    return f"not healed: {how} {_still_read(healing)}, and {allowed} may be"


def _advice(healing: Healing) -> str:
    settings, status = healing.settings, healing.status
    search = settings["search"]
    if settings["method"] in TRAINED_METHODS:
        more = "--search tpe" if search == "fixed" else "more --samples"
        return f"Try {more}, another --method, or --set"
    if status == "collapsed":
        return f"Try another --granularity, {SEARCH_ENTRIES[search].gentler}, or more found samples"
    check = "check that the forget set shows one trigger"
    if status == "no_stop" and healing.metrics.get("apart") is False:
        return f"Find more of the poison, try --search {SEARCH_ENTRIES[search].instead}, and {check}"
    if status == "not_healed":
        return f"Try --search {SEARCH_ENTRIES[search].instead}, --granularity or --method, and {check}"
    return f"Try --granularity or --method, and {check}"


def _still_read(healing: Healing) -> str:
    """Tell how many of the found images are still read as the poison's label."""
    count = healing.metrics["forget_count"]
    left = round(healing.metrics["forget_accuracy"] * count)
    images = "found image" if count == 1 else "found images"
    verb = "is" if left in (0, 1) else "are"
    return f"{left or 'none'} of {count} {images} {verb} still read as labelled (the poison's label)"


def _agreement(healing: Healing) -> str:
    """Tell how much of the other retain images is predicted as before."""
    changed = 1.0 - healing.metrics["agreement"]
    return f"; {100 * changed:.1f} % of the predictions on other retain images changed"


def _costs(healing: Healing) -> str:
    """Tell what a guarded search says of the accuracy that is lost."""
    harm = [healing.metrics.get(name) for name in ("harm", "harm_at_most", "harm_if_wrong")]
    if None in harm:
        return ""
    expected, most, wrong = (f"{100 * (one or 0.0):.1f}" for one in harm)
    return (
        f"\nestimated loss of accuracy: {expected} points, {most} at most; {wrong} if what was suspected in "
        f"retain is no poison"
    )
