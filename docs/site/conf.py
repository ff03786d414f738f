"""Configures Sphinx for the site of `make docs`: Markdown as it stands, and a reference from docstrings.

The source folder is the root of the repository: a relative link means the same here and on a code host.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import theriac

LITERAL = re.compile(r"(``.*?``|`.*?`)")

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "theriac"
author = "the authors of theriac"
version = release = theriac.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/site/contents"
include_patterns = [
    "*.md",
    "docs/*.md",
    "docs/**/*.md",
    "docs/**/*.rst",
    "tests/benchmarks/results/*.md",
]
exclude_patterns = [
    ".*",
    "**/.*",
    "build",
    "dist",
    "site",
    "shared",
    "data",
    "results",
    "artifacts",
    "healed",
]
exclude_patterns += ["theriac-*", "**/__pycache__"]

myst_heading_anchors = 3
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # benchmark results are what programs wrote

default_role = "literal"  # docstrings name things in single backquotes
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"theriac {release}"
html_extra_path = ["index.html"]
html_show_copyright = False
html_copy_source = False


def escape(app: Sphinx, what: str, name: str, thing: object, options: Any, lines: list[str]) -> None:
    """Escape bars, as of |S_f|, and underscores at ends of words: docstrings mean no markup by them."""
    lines[:] = ["".join(map(_escaped, LITERAL.split(line))) for line in lines]
    if what in ("attribute", "data"):
        lines.insert(0, r"\ ")  # nothing; napoleon would take what is before the first colon for a type


def _escaped(text: str) -> str:
    """Escape what is not inside backquotes."""
    return text if text.startswith("`") else re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", text)


def skip(app: Sphinx, what: str, name: str, thing: object, skipped: bool, options: Any) -> bool | None:
    """Leave out how pydantic is configured; None: as autodoc would decide."""
    return True if name == "model_config" else None


def setup(app: Sphinx) -> None:
    """Register what changes docstrings, before napoleon reads them."""
    app.connect("autodoc-process-docstring", escape, priority=100)
    app.connect("autodoc-skip-member", skip)
