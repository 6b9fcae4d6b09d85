"""Records as rows of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from catalyst_seen import Record

    from .._output import Kind

RECORD_COLUMNS: Mapping[str, Kind] = {
    "namespace": "text",
    "key": "text",
    "state": "text",
    "last_seen": "instant",
    "expires_at": "instant",
    "until": "instant",
    "attempt": "count",
    "error": "text",
    "note": "note",
}
"""The columns of records in a list."""

WAITING_COLUMNS: Mapping[str, Kind] = {
    "namespace": "text",
    "key": "text",
    "state": "text",
    "age": "duration",
    "until": "instant",
    "attempt": "count",
    "error": "text",
    "note": "note",
}
"""The columns of records that are pending, released or held."""

CHANGE_COLUMNS: Mapping[str, Kind] = {
    "namespace": "text",
    "key": "text",
    "state": "text",
}
"""The columns of keys that a command would change, with their state before."""


def row_of(record: Record, columns: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the values of a record in some columns."""
    return {name: getattr(record, name, None) for name in columns}


def waiting_since(record: Record) -> float:
    """Return since when a key that is pending, released or held has been waiting.

    It waits to be handled since it was first known, as claims that come to nothing move
    ``last_seen``; and a held key waits for a person since its last claim.
    """
    return record.last_seen if record.state == "held" else record.first_seen


def waiting_row(record: Record, now: float) -> dict[str, Any]:
    """Return the values of a record that is pending, released or held."""
    age = max(round(now - waiting_since(record), 3), 0)
    return {**row_of(record, WAITING_COLUMNS), "age": age}
