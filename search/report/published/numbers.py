"""The numbers that the papers print, as they print them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ....errors import BadInput

Paper = Literal["potion", "i-bau"]
KEY = ("paper", "table", "setting", "method", "scope", "metric")
"""What tells one number from all others."""
NumberKey = tuple[str, ...]
"""The values of `KEY`."""


class Number(BaseModel):
    """A printed number.

    Attributes:
        paper: "potion" or "i-bau".
        table: its number there; "fig11" is a figure.
        setting: data, model and attack, in words.
        method: as `numbers.csv` spells it; "None" is the untreated victim.
        scope: what was averaged, or measured.
        metric: "healed", "acc" and "asr" are in percent, "damage" in percentage points, "seconds" in seconds.
        value: the number.
        sd: what stands behind "±", if anything does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    paper: Paper
    table: str
    setting: str
    method: str
    scope: str
    metric: str
    value: float
    sd: float | None = None

    @property
    def key(self) -> NumberKey:
        """Return what tells it from all others, see `KEY`."""
        return tuple(getattr(self, name) for name in KEY)


@cache
def all_numbers() -> Mapping[NumberKey, Number]:
    """Read every number that comes with theriac.

    Raises:
        BadInput: a number stands there twice.
    """
    text = files(__package__).joinpath("numbers.csv").read_text(encoding="utf-8")
    return read_numbers(text)


def read_numbers(text: str) -> dict[NumberKey, Number]:
    """Read numbers from the text of a CSV file whose columns are the fields of `Number`.

    Raises:
        BadInput: a number stands there twice.
    """
    found: dict[NumberKey, Number] = {}
    for row in csv.DictReader(text.splitlines()):
        number = Number.model_validate({**row, "sd": row["sd"] or None})
        if number.key in found:
            raise BadInput(f"numbers.csv: {', '.join(number.key)} is there twice; give every number once")
        found[number.key] = number
    return found


def numbers_of(paper: str, table: str) -> tuple[Number, ...]:
    """Return all numbers of a table, or of a figure ("fig11"), in printed order."""
    return tuple(one for one in all_numbers().values() if (one.paper, one.table) == (paper, table))
