"""The state table: what an operation answers for a key, and what it leaves behind.

Pure functions, for backends that read a row, decide, and write it back in one
transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from ._backend import CheckAndMark, Forget, Look, Mark, Operation
from ._model import Record, Sighting, Verdict


class Row(NamedTuple):
    """What is stored of a key. Instants are seconds since 1970."""

    first_seen: float
    last_seen: float
    expires_at: float | None


def step(
    row: Row | None, operation: Operation[object], now: float
) -> tuple[object, Row | None]:
    """Return the answer to an operation and the row as it is afterwards.

    The row returned *is* the row given when there is nothing to write.
    """
    seen = row if row and (row.expires_at is None or now < row.expires_at) else None
    match operation:
        case Look(namespace, key):
            return Record(key, namespace, *seen) if seen else None, row
        case CheckAndMark():
            if seen:
                return _sighting(operation, Verdict.DUPLICATE, seen), row
            marked = _marked(None, now, operation.ttl)
            return _sighting(operation, Verdict.NEW, marked), marked
        case Mark():
            ts = now if operation.ts is None else operation.ts
            return None, _marked(seen, ts, operation.ttl)
        case Forget():
            return (True, None) if seen else (False, row)
        case _:
            raise TypeError(f"no such operation: {operation!r}")


def _marked(seen: Row | None, ts: float, ttl: float | None) -> Row:
    """Mark at ``ts``; a mark from the past never takes an earlier one back."""
    first_seen, last_seen = (
        (seen.first_seen, max(seen.last_seen, ts)) if seen else (ts, ts)
    )
    return Row(first_seen, last_seen, None if ttl is None else last_seen + ttl)


def _sighting(operation: CheckAndMark, verdict: Verdict, row: Row) -> Sighting:
    return Sighting(
        operation.key, operation.namespace, verdict, row.first_seen, row.last_seen
    )
