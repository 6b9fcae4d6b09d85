"""Rows as SQL databases store them: in the columns of ``seen`` and of ``detail``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .operations import Listed, Row

if TYPE_CHECKING:
    from collections.abc import Sequence


def row_of(columns: Sequence[Any]) -> Row:
    """Return a row.

    Args:
        columns: Of ``seen``, from ``first_seen`` to ``kept_until``; and of ``detail``,
            ``note``, ``alias``, ``digest`` and ``last_error``.
    """
    *row, seq, poll, at, kept_until, note, alias, digest, error = columns
    if poll is None:
        return Row._make((*row, note, None, error))
    text = None if digest is None else digest.decode()
    listed = Listed(seq, poll, at, kept_until, alias, text)
    return Row._make((*row, note, listed, error))


def place_of(row: Row) -> tuple[float | None, ...]:
    """Return the columns of a row from ``seq`` to ``kept_until``."""
    return (None, None, None, None) if row.listed is None else row.listed[:4]


def detail_of(row: Row) -> tuple[str | bytes | None, ...]:
    """Return the columns of the detail of a row; all are ``None`` if it needs none."""
    alias, digest = (None, None) if row.listed is None else row.listed[4:]
    return (
        row.note or None,
        alias,
        None if digest is None else digest.encode(),
        row.error,
    )
