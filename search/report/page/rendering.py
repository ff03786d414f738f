"""How the page is put together from its template, style and script, all of them files of this package."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ....errors import printable

TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"
ESCAPED = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"})
"""What could end a script element, or a line of script, or begin markup."""


def render_page(sections: Mapping[str, Any]) -> str:
    """Fill the template.

    Every value is escaped, and what turns the direction of reading or is no printable sign is spelled out.

    Args:
        sections: what the template names.
    """
    template = _environment().get_template(TEMPLATE)
    script = _file(SCRIPT)
    return template.render(style=_file(STYLE), script=script, script_hash=_hash(script), **sections)


def embedded(data: object) -> str:
    r"""Write data as JSON that may stand in a script element.

    Example:
        >>> embedded({"name": "</script>"})
        '{"name":"\\u003c/script\\u003e"}'
    """
    return json.dumps(_spelled(data), separators=(",", ":"), allow_nan=False).translate(ESCAPED)


def _spelled(data: Any) -> Any:
    """Spell out in all texts what is not printable."""
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, Mapping):
        return {printable(str(name)): _spelled(value) for name, value in data.items()}
    return [_spelled(value) for value in data] if isinstance(data, list | tuple) else data


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # not what is marked safe
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return what the page's policy calls the only script that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
