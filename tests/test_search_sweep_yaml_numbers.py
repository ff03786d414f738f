"""Numbers of sweep files and of --set: each means what it looks like, or is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from theriac.cluster.commands import hyperparameters
from theriac.errors import BadInput
from theriac.search.sweep.files import dump_sweep, load_sweep
from theriac.search.sweep.yaml_numbers import Dumper
from theriac.search.sweep.yaml_tree import read_yaml

DOUBTFUL = [
    ("010", "write 10, or '010' in quotes"),
    ("-010", "write -10, or"),
    ("+007", "write +7, or"),
    ("08", "write 8, or"),
    ("00", "write 0, or"),
    ("0_1", "write 1, or"),
    ("!!int '010'", "write 10, or"),
    ("1:30", "YAML reads 1:30 in base 60; write a decimal number, or '1:30' in quotes"),
    ("12:30:00", "12:30:00 in base 60"),
    ("1:30.5", "1:30.5 in base 60"),
    ("!!float 1:30", "1:30 in base 60"),
    ("1_0", "1_0 has _ where no thousands end; write the number without"),
    ("1__000", "no thousands"),
    ("1_0.5", "no thousands"),
    ("0x1_0", "no thousands"),
]
PLAIN = [
    ("0", 0),
    ("-0", 0),
    ("+1", 1),
    ("10", 10),
    ("1_000", 1000),
    ("-1_000_000", -1_000_000),
    ("0x10", 16),
    ("0b101", 5),
    ("0.10", 0.1),
    ("010.5", 10.5),
    ("50_000.5", 50000.5),
    ("1.5e+3", 1500.0),
    ("'010'", "010"),
    ("'08'", "08"),
    ("'1:30'", "1:30"),
    ("0o10", "0o10"),
    ("a:30", "a:30"),
]


@pytest.mark.parametrize(("text", "message"), DOUBTFUL)
def test_numbers_that_may_mean_another_one_are_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(BadInput) as error:
        read_yaml(f"scenario: digits\nseeds: [1, {text}]", "mine.yaml")
    assert str(error.value).startswith("mine.yaml: line 2: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "value"), PLAIN)
def test_numbers_that_mean_one_thing_are_read(text: str, value: object) -> None:
    found = read_yaml(text, "mine.yaml")
    assert (found, type(found)) == (value, type(value))


def test_a_sweep_and_a_change_of_it_refuse_them(write) -> None:
    with pytest.raises(BadInput, match=r"mine\.yaml: line 2: 010 begins with 0"):
        load_sweep(write("scenario: digits\nseeds: [010]\n"))
    with pytest.raises(BadInput, match=re.escape("--set seeds=[1:30]: line 1: YAML reads 1:30 in base 60")):
        load_sweep("digits-quick", ["seeds=[1:30]"])
    with pytest.raises(BadInput, match=r"--set steps=010: line 1: .*write 10"):
        hyperparameters(["steps=010"])


@pytest.mark.parametrize("text", ["0o10", "'0x10'", "1e3", "ten"])
def test_text_that_is_no_whole_number_is_no_seed(write, text: str) -> None:
    with pytest.raises(BadInput, match=r"seeds\.0 = '.*': Input should be a valid integer"):
        load_sweep(write(f"scenario: digits\nseeds: [{text}]\n"))


@pytest.mark.parametrize("name", ["010", "08", "1:30", "1_0", "2026-11-30", "-0", "0x10", "1e3", "no"])
def test_names_that_look_like_numbers_survive_a_dump(write, name: str) -> None:
    sweep = load_sweep(write(json.dumps({"scenario": "digits", "name": name, "about": name})))
    again = load_sweep(write(dump_sweep(sweep)))
    assert (again.name, again.about, again) == (name, name, sweep)


def test_a_file_whose_name_is_a_number_is_a_sweep_of_that_name(tmp_path: Path, write) -> None:
    file = tmp_path / "08.yaml"
    file.write_text("scenario: digits\n")
    assert load_sweep(write(dump_sweep(load_sweep(file)))).name == "08"


def test_only_what_looks_like_a_number_gets_quotes() -> None:
    tree = {"a": "08", "b": 8, "c": "x08", "d": "8"}
    assert yaml.dump(tree, Dumper=Dumper) == "a: '08'\nb: 8\nc: x08\nd: '8'\n"
