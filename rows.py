"""The rows that travel through theriac: scalars by column, from evaluated settings to tables of results."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""Column -> value; as JSON between processes, and as a line of Parquet."""
