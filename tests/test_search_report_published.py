"""What the papers print: the numbers, the layouts, and that presets give every cell rows of one kind."""

from __future__ import annotations

import copy
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import theriac
from theriac.errors import BadInput
from theriac.search.methods import METHOD_ENTRIES
from theriac.search.report.published import (
    PublishedTable,
    cell_of,
    numbers_of,
    published_number,
    published_table,
    published_tables,
)
from theriac.search.report.published.numbers import all_numbers, read_numbers
from theriac.search.report.published.tables import LAYOUTS, read_tables
from theriac.search.store.schemas import SCHEMAS
from theriac.search.sweep import preset_names
from theriac.tests.published_cells import asked, differing, tasks_of

ROOM = Path(theriac.__file__).parent / "search" / "report" / "published"
NAMES = (
    *(f"potion-table{n}" for n in range(1, 10)),
    *(f"potion-fig{n}" for n in (*range(3, 12), *range(13, 20))),
    *(f"ibau-table{n}" for n in (*range(1, 9), 10, 11, 12)),
    *(f"ibau-fig{n}" for n in (1, 2)),
)
COUNTS = {  # lines x columns of the printed tables, without what is not printed
    ("potion", "1"): 6 * 4,
    ("potion", "2"): 5 * 4,
    ("potion", "3"): 5 * 4,
    ("potion", "4"): 5 * 2,
    ("potion", "5"): 5 * 4,
    ("potion", "6"): 5 * 4,
    ("potion", "7"): 5 * 2,
    ("potion", "8"): 12 * 4,
    ("potion", "9"): 6 * 2,
    ("potion", "fig11"): 4,
    ("i-bau", "1"): 8 * 16 - 2,
    ("i-bau", "2"): 8 * 12 - 1,
    ("i-bau", "3"): 18 * 8 - 9 - 1,
    ("i-bau", "4"): 4 * 8 - 4,
    ("i-bau", "5"): 6 * 7,
    ("i-bau", "6"): 6 * 2,
    ("i-bau", "7"): 3 * 3 + 1,
    ("i-bau", "8"): 3,
    ("i-bau", "10"): 4,
    ("i-bau", "11"): 4,
    ("i-bau", "12"): 4,
}
# (table, line with its group, column with its group): value and sd, typed from the papers
PRINTED = {
    ("potion-table1", "/PTN-XLF", "Goel et al. (2024)/Poison healed"): (93.72, 1.99),
    ("potion-table1", "/SSD", "Goel et al. (2024)/Model damage"): (-5.68, 4.42),
    ("potion-table1", "/EU", "One-shot healing/Poison healed"): (19.49, 8.85),
    ("potion-table2", "/PTN-LF", "One-shot healing/Poison healed"): (81.25, 6.20),
    ("potion-table3", "/PTN-LF", "10 % to 100 % of S_m/Model damage"): (-5.98, 15.61),
    ("potion-table4", "/PTN-SSD", "10 % to 100 % of S_m/Model damage"): (-12.38, 8.71),
    ("potion-table5", "/EU", "10 % to 100 % of S_m/Poison healed"): (39.80, 43.46),
    ("potion-table6", "/PTN-SSD", "10 % to 100 % of S_m/Poison healed"): (75.74, 15.60),
    ("potion-table7", "/None", "10 % to 100 % of S_m/Poison healed"): (53.81, 13.12),
    ("potion-table8", "2.0/PTN-XLF", "One-shot healing/Poison healed"): (80.64, 16.05),
    ("potion-table8", "1.1/PTN-LF", "One-shot healing/Model damage"): (-5.94, 7.80),
    ("potion-table8", "-/EU", "Goel et al. (2024)/Poison healed"): (40.68, 32.16),
    ("potion-table9", "/EU", "/Poison healed"): (99.99, 0.03),
    ("potion-fig11", "/EU", "/Seconds, CIFAR-10"): (141.10, 1.38),
    ("ibau-table1", "/Smooth", "NAD/ASR"): (54.38, None),
    ("ibau-table1", "/All to all", "I-BAU/ACC"): (80.34, None),
    ("ibau-table2", "/BadNets", "DP/ACC"): (6.46, None),
    ("ibau-table2", "/l2 inv", "I-BAU/ACC"): (97.75, None),
    ("ibau-table3", "CIFAR-10/BadNets: 0", "/DI"): (72.60, None),
    ("ibau-table3", "CIFAR-10/Trojan WM: 9", "/DI"): (9.68, None),
    ("ibau-table3", "GTSRB/Blend: 3", "/I-BAU"): (3.76, None),
    ("ibau-table4", "0.5 %/ASR", "/DP"): (61.27, None),
    ("ibau-table5", "100/ACC", "/I-BAU"): (76.9, None),
    ("ibau-table5", "500/ASR", "/DI"): (1.14, None),
    ("ibau-table6", "/TABOR", "/GTSRB"): (3529.70, None),
    ("ibau-table7", "/DenseNet-121", "/Average error gap (%)"): (0.24, None),
    ("ibau-table8", "/500", "/Average error gap (%)"): (1.67, None),
    ("ibau-table10", "/I-BAU", "After/ASR"): (0.00, None),
    ("ibau-table11", "/I-BAU", "Before/Clean ACC"): (94.36, None),
    ("ibau-table12", "/I-BAU", "After/ASR"): (9.58, None),
}
TABLES = published_tables()
COMPUTED = [name for name, table in TABLES.items() if table.presets]


def test_every_table_and_figure_has_a_name():
    assert set(TABLES) == set(NAMES)
    assert all(table.name == name for name, table in TABLES.items())
    with pytest.raises(BadInput, match=r"unknown table 'potion-tabel1'.*did you mean 'potion-table1'"):
        published_table("potion-tabel1")


def test_there_are_as_many_numbers_as_the_papers_print():
    assert Counter((one.paper, one.table) for one in all_numbers().values()) == COUNTS
    assert [one.metric for one in numbers_of("i-bau", "8")] == ["error_gap"] * 3


@pytest.mark.parametrize(("where", "printed"), PRINTED.items(), ids=lambda part: str(part))
def test_a_cell_holds_what_is_printed(where: tuple[str, str, str], printed: tuple[float, float | None]):
    table = published_table(where[0])
    (line,) = [one for one in table.lines if f"{one.group}/{one.title}" == where[1]]
    (column,) = [one for one in table.columns if f"{one.group}/{one.title}" == where[2]]
    number = published_number(table, line, column)
    assert number is not None
    assert (number.value, number.sd) == printed


def test_the_seven_triggers_average_to_the_printed_asr():
    numbers = {one.key[2:]: one.value for one in numbers_of("i-bau", "3")}
    means = {key[:3]: value for key, value in numbers.items() if key[3] == "asr"}
    assert len(means) == 8 + 7
    for key, printed in means.items():
        each = [value for other, value in numbers.items() if other[:3] == key and other[3].startswith("asr_")]
        assert len(each) == 7
        assert sum(each) / 7 == pytest.approx(printed, abs=0.0101)


def test_unreadable_and_unprinted_cells_are_empty():
    table = published_table("ibau-table2")
    empty = {
        (line.title, column.group, column.title)
        for line in table.lines
        for column in table.columns
        if published_number(table, line, column) is None
    }
    assert empty == {("BadNets", "DP", "ASR")}


def test_a_cell_puts_line_column_and_table_together():
    table = published_table("ibau-table3")
    cell = cell_of(table, table.lines[3], table.columns[5])
    assert cell.key == (
        "i-bau",
        "3",
        "cifar10 small_vgg seven_triggers",
        "NAD",
        "seven_triggers",
        "asr_trojan_sq",
    )
    assert (cell.measure, cell.item, cell.scale, cell.absent) == ("asr_by_trigger", 1, 100.0, "")
    assert cell.filter.endswith(
        "and (dataset = cifar10 and manipulated = 10000) and (method = nad and search = fixed)"
    )
    assert cell_of(table, table.lines[3], table.columns[2]).absent == "theriac has no DeepInspect"
    healed = published_table("potion-table1")
    assert cell_of(healed, healed.lines[0], healed.columns[0]).scale == 1


def cells(table: PublishedTable) -> list[tuple[str, Any]]:
    return [
        (f"{line.title}, {column.title}", cell_of(table, line, column))
        for line in table.lines
        for column in table.columns
    ]


@pytest.mark.parametrize("name", COMPUTED)
def test_presets_give_every_cell_rows_that_differ_only_in_what_is_pooled(name: str):
    table = TABLES[name]
    for where, cell in cells(table):
        if cell.absent:
            continue
        tasks = tasks_of(table, cell.filter)
        assert tasks, f"{where}: no task of {table.presets} for {cell.filter}"
        assert differing(tasks) <= {*table.pools, table.x}, where


@pytest.mark.parametrize("name", COMPUTED)
def test_every_preset_gives_some_cell_of_its_table(name: str):
    table = TABLES[name]
    for preset in table.presets:
        alone = table.model_copy(update={"presets": (preset,)})
        assert any(tasks_of(alone, cell.filter) for _, cell in cells(table) if not cell.absent), preset


@pytest.mark.parametrize("name", NAMES)
def test_filters_and_measures_name_what_there_is(name: str):
    known = {*SCHEMAS["searches"].names, *SCHEMAS["steps"].names, "seconds", "label_rule", "rho", "s_step"}
    table = TABLES[name]
    for where, cell in cells(table):
        plain = {word for word in asked(cell.filter) if "." not in word}
        assert plain <= known, where
        assert cell.absent or cell.measure in known, where
        assert set(table.pools) <= known
    methods = {
        word
        for line in (*table.lines, *table.columns)
        for word in line.filter.split()
        if word in METHOD_ENTRIES
    }
    assert methods or not table.presets or "method" in table.filter


def test_every_preset_of_the_papers_belongs_to_a_table():
    named = {preset for table in TABLES.values() for preset in table.presets}
    assert {name for name in preset_names() if name.startswith(("potion", "ibau"))} == named


def test_the_documentation_lists_them_all():
    page = (ROOM.parents[2] / "docs" / "sweeps.md").read_text()
    listed = dict(re.findall(r"^\| `((?:potion|ibau)-\S+)` \| .* \| (.*) \|$", page, re.MULTILINE))
    assert list(listed) == list(TABLES)
    for name, table in TABLES.items():
        assert tuple(re.findall(r"`(\S+)`", listed[name])) == table.presets, name


def test_deviations_are_sentences():
    for table in TABLES.values():
        assert table.deviations or not table.presets, table.name
        for sentence in (*table.deviations, *table.readings):
            assert sentence.endswith("."), sentence


def test_the_wheel_gets_the_data():
    project = tomllib.loads((ROOM.parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["theriac.search.report.published"]
    found = {path.name for pattern in patterns for path in ROOM.glob(pattern)}
    assert (
        found
        == {"numbers.csv", *LAYOUTS}
        == {p.name for p in ROOM.rglob("*") if p.suffix in (".csv", ".yaml")}
    )


SMALL = yaml.safe_load("""
potion-table1:
  paper: potion
  table: 1
  title: a table
  presets: [quickstart]
  setting: cifar10
  scope: goel
  lines: [{title: XLF, method: PTN-XLF, filter: method = xlf}]
  columns: [{title: healed, metric: healed, measure: healed}]
""")
ONE = "paper,table,setting,method,scope,metric,value,sd\npotion,1,cifar10,PTN-XLF,goel,healed,93.72,1.99\n"


def changed(**fields: Any) -> dict[str, Any]:
    tree = copy.deepcopy(SMALL)
    tree["potion-table1"].update(fields)
    return tree


def test_what_is_whole_is_taken():
    (table,) = read_tables([SMALL], read_numbers(ONE), ["quickstart"]).values()
    assert (table.id, cell_of(table, table.lines[0], table.columns[0]).filter) == ("1", "(method = xlf)")


@pytest.mark.parametrize(
    ("trees", "numbers", "message"),
    [
        ([changed(presets=["quickstrat"])], ONE, "unknown preset 'quickstrat'; did you mean 'quickstart'"),
        ([changed(presets=[])], ONE, "give presets, or say why there are none"),
        ([changed(lines=[])], ONE, "give what presets compute lines and columns"),
        ([changed(colour="red")], ONE, "potion-table1: .*colour"),
        ([changed(figure=1)], ONE, "the number of a table or that of a figure"),
        ([changed(draws="sensitivity")], ONE, "give a figure what it draws"),
        ([changed(setting=None)], ONE, "line 'XLF', column 'healed': name the setting"),
        ([changed(columns=[{"title": "healed", "metric": "healed"}])], ONE, "name the measure"),
        (
            [changed(columns=[{"title": "x", "method": "EU", "measure": "x"}])],
            ONE,
            "method stands in the line and",
        ),
        (
            [changed(scope="one_shot")],
            ONE,
            "no number is printed for potion, 1, .*one_shot.*say why in missing",
        ),
        ([changed(unused=[{"metric": "asr", "why": "because"}])], ONE, "unused: 'because' excuses nothing"),
        (
            [SMALL],
            ONE + ONE.splitlines()[1].replace("healed", "damage"),
            "no cell shows .*damage; say why in unused",
        ),
        ([SMALL], ONE + ONE.splitlines()[1], "is there twice"),
        ([SMALL], ONE + ONE.splitlines()[1].replace(",1,", ",7,"), "no table shows potion, 7"),
        ([SMALL, SMALL], ONE, "laid out twice"),
    ],
)
def test_what_is_wrong_is_refused(trees: list[dict[str, Any]], numbers: str, message: str):
    with pytest.raises(BadInput, match=message):
        read_tables(trees, read_numbers(numbers), ["quickstart"])
