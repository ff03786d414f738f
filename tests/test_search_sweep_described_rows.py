"""Rows of version 1 learn from the sweeps in `runs` what they are."""

from __future__ import annotations

from pathlib import Path

from theriac.search.store import DESCRIBING, ResultsStore, upgrade
from theriac.search.sweep import describer, dump_sweep, failed_row, load_sweep
from theriac.tests.older_results import made_older


def old_folder(directory: Path, *, configuration: str | None) -> ResultsStore:
    """Return results of version 1 of a whole sweep, with its ``runs`` as they were."""
    store = ResultsStore(directory)
    rows = [failed_row(t.scenario, t.cell, "Lost", "lost") for t in load_sweep("digits-quick").tasks()]
    part = store.append("searches", rows)
    store.append("runs", [{"key": "r", "configuration": configuration}])
    assert part is not None
    made_older(part)
    return ResultsStore(directory)


def test_old_rows_are_described_as_new_ones_are(tmp_path: Path) -> None:
    sweep = load_sweep("digits-quick")
    store = old_folder(tmp_path, configuration=dump_sweep(sweep))
    bare = store.read("searches")
    assert bare["setup"].null_count == len(bare) > 0
    found = describer(store)(bare).select(["key", *DESCRIBING]).to_pylist()
    expected = {t.key: failed_row(t.scenario, t.cell, "", "") | {"sweep": sweep.name} for t in sweep.tasks()}
    assert found == [{name: expected[row["key"]][name] for name in ("key", *DESCRIBING)} for row in found]
    assert upgrade(store, describer(store)) == 1
    assert store.read("searches", columns=DESCRIBING)["setup"].null_count == 0


def test_rows_of_an_unknown_sweep_keep_their_nulls(tmp_path: Path) -> None:
    for number, text in enumerate((None, "][", "a: 1", "name: x")):
        store = old_folder(tmp_path / str(number), configuration=text)
        bare = store.read("searches")
        assert describer(store)(bare).equals(bare)


def test_rows_that_say_what_they_are_stay_as_they_are(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    store.append("searches", [{"key": "a", "scenario": "s", "setup": "mine", "width": 0.25}])
    rows = store.read("searches")
    assert describer(store)(rows).equals(rows)


def test_setups_differ_in_all_but_seed_and_gate() -> None:
    base = load_sweep("digits-quick").scenario
    assert base.model_copy(update={"seed": 7}).setup == base.setup
    assert base.model_copy(update={"gate": base.gate.model_copy(update={"asr": 0.1})}).setup == base.setup
    for change in (
        {"model": base.model.model_copy(update={"width": 0.125})},
        {"recipe": base.recipe.model_copy(update={"iterations": 7})},
        {"image_size": 9},
        {"manipulated": 7},
    ):
        assert base.model_copy(update=change).setup != base.setup
