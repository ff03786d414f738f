"""The columns of the Parquet results: three tables, one version.

A row of ``searches`` says what it is: ``sweep`` is the name of the one that computed it; ``setup`` hashes all
that determines the victim but its seed, so rows of one setup, method, share and settings differ only in the
seed; ``width``, ``image_size`` (null: the dataset's own), ``recipe``, ``attack_settings``, ``held_back``,
``gate`` and ``settings`` spell it out, the last five as JSON with every default filled in.

Shares (accuracies, asr, healed_raw, lfr) lie in [0, 1]; ``damage`` is in percentage points (negative: it
got worse) and ``healed`` in percent; seconds are wall-clock; ``peak_memory`` is in bytes. A null means "not
measured" or "does not apply", never zero. `SCHEMA_VERSION` rises when a column changes its name, type or
meaning, or when columns come in. `READABLE` are the versions that are read; columns that parts of them may
lack are listed in `ADDED`: reading fills them with null, and `upgrade` writes such parts anew.

Of rows with one ``key`` the one with the latest ``written_at`` counts; the others are superseded.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

SCHEMA_VERSION = 2
READABLE = ("1", "2")
"""Versions of parts that can be read: 2 added what rows of `searches` say about themselves."""
VERSION_ENTRY = b"theriac_schema_version"
TABLE_ENTRY = b"theriac_table"

_MOMENT = pa.timestamp("us", tz="UTC")

_RUNS = {
    "started_at": _MOMENT,
    "command": pa.string(),
    "configuration": pa.string(),
    "versions": pa.string(),
    "device": pa.string(),
    "seed": pa.int64(),
    "git_commit": pa.string(),
}

_SEARCHES = {
    "run": pa.string(),
    "scenario": pa.string(),
    "dataset": pa.string(),
    "model": pa.string(),
    "attack": pa.string(),
    "target": pa.int64(),
    "manipulated": pa.int64(),
    "discovered": pa.int64(),
    "share": pa.string(),
    "seed": pa.int64(),
    "method": pa.string(),
    "granularity": pa.string(),
    "search": pa.string(),
    "status": pa.string(),
    "s": pa.float64(),
    "percentile": pa.float64(),
    "alpha": pa.float64(),
    "dampening_constant": pa.float64(),
    "settings": pa.string(),
    "steps": pa.int64(),
    "dampened": pa.int64(),
    "forget_accuracy_before": pa.float64(),
    "forget_accuracy": pa.float64(),
    "clean_accuracy_before": pa.float64(),
    "clean_accuracy": pa.float64(),
    "damage": pa.float64(),
    "asr_before": pa.float64(),
    "asr": pa.float64(),
    "healed_raw_before": pa.float64(),
    "healed_raw": pa.float64(),
    "healed": pa.float64(),
    "lfr": pa.list_(pa.float64()),
    "seconds_victim": pa.float64(),
    "seconds_importance": pa.float64(),
    "seconds_search": pa.float64(),
    "seconds_evaluation": pa.float64(),
    "peak_memory": pa.int64(),
    "uses_oracle": pa.bool_(),
    "error_class": pa.string(),
    "error_message": pa.string(),
    "parameters": pa.string(),
    "objective": pa.string(),
    "score": pa.float64(),
    "asr_by_trigger": pa.list_(pa.float64()),
    "suspects": pa.int64(),
    "left_out": pa.string(),
    "harm": pa.float64(),
    "flat": pa.list_(pa.float64()),
    "sweep": pa.string(),
    "setup": pa.string(),
    "width": pa.float64(),
    "image_size": pa.int64(),
    "recipe": pa.string(),
    "attack_settings": pa.string(),
    "held_back": pa.string(),
    "gate": pa.string(),
}

_STEPS = {
    "search": pa.string(),
    "step": pa.int64(),
    "s": pa.float64(),
    "percentile": pa.float64(),
    "alpha": pa.float64(),
    "dampened": pa.int64(),
    "forget_accuracy": pa.float64(),
    "crossed": pa.bool_(),
    "after_stop": pa.bool_(),
    "clean_accuracy": pa.float64(),
    "healed_raw": pa.float64(),
    "asr": pa.float64(),
    "seconds": pa.float64(),
    "dampening_constant": pa.float64(),
    "held_out_accuracy": pa.float64(),
    "score": pa.float64(),
    "parameters": pa.string(),
    "status": pa.string(),
    "error_message": pa.string(),
    "other_accuracy": pa.float64(),
    "agreement": pa.float64(),
    "selection_clean_accuracy": pa.float64(),
    "selection_healed_raw": pa.float64(),
    "pareto": pa.bool_(),
    "lfr": pa.list_(pa.float64()),
    "trace": pa.string(),
    "suspected_healed": pa.float64(),
    "flips_target": pa.float64(),
    "flips_other": pa.float64(),
    "harm": pa.float64(),
    "left_out": pa.string(),
}

DESCRIBING = ("sweep", "setup", "width", "image_size", "recipe", "attack_settings", "held_back", "gate")
"""What rows of ``searches`` say about their scenario since version 2."""

ADDED: Mapping[str, tuple[str, ...]] = {
    "runs": (),
    "searches": (
        "parameters",
        "objective",
        "score",
        "asr_by_trigger",
        "suspects",
        "left_out",
        "harm",
        "flat",
        *DESCRIBING,
    ),
    "steps": (
        "dampening_constant",
        "held_out_accuracy",
        "score",
        "parameters",
        "status",
        "error_message",
        "other_accuracy",
        "agreement",
        "selection_clean_accuracy",
        "selection_healed_raw",
        "pareto",
        "lfr",
        "trace",
        "suspected_healed",
        "flips_target",
        "flips_other",
        "harm",
        "left_out",
    ),
}
"""Table -> the columns that parts of a readable version may lack."""


def _schema(table: str, columns: Mapping[str, pa.DataType]) -> pa.Schema:
    fields = [pa.field("key", pa.string(), nullable=False)]
    fields += [pa.field(name, kind) for name, kind in columns.items()]
    fields += [pa.field("written_at", _MOMENT, nullable=False), pa.field("schema_version", pa.int64())]
    return pa.schema(fields, {VERSION_ENTRY: str(SCHEMA_VERSION).encode(), TABLE_ENTRY: table.encode()})


SCHEMAS: Mapping[str, pa.Schema] = {
    table: _schema(table, columns)
    for table, columns in (("runs", _RUNS), ("searches", _SEARCHES), ("steps", _STEPS))
}
"""The schema of each table; its metadata names the table and the schema version."""

STAMPS = ("written_at", "schema_version")
"""The columns that the store fills, and callers may not."""


def coded_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema whose texts beside the key are dictionaries: most of them repeat without end."""
    fields = [
        field.with_type(pa.dictionary(pa.int32(), pa.string()))
        if field.type == pa.string() and field.name != "key"
        else field
        for field in schema
    ]
    return pa.schema(fields, schema.metadata)
