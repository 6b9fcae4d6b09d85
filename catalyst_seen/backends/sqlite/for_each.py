"""One operation on many keys of a namespace, decided in few statements.

Most keys of a listing are seen or unknown, and need no object of their own. What else
there may be (a claim among the keys, a key that comes twice, notes) is left to
``_state_machine``: each function here returns ``None`` for it, before it has changed
anything.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from ..._types import Sighting
from ..._verdict import Verdict
from ..operations import AllSeen, CheckAndMark, IsSeen, Mark, Operation, Refresh
from . import bulk, namespaces
from .conditions import LIVE, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..operations import ForEach
    from . import driver

Outcome = tuple[list[Any], AllSeen | None]
"""The results, and what is known of all keys."""

# In json_each, "key" is the index of a value.
_FROM = """FROM json_each(:keys) AS wanted
    CROSS JOIN seen ON namespace = :namespace AND seen.key = wanted.value"""
_SEEN = f"""SELECT wanted.key, expires_at {_FROM}
    WHERE {LIVE} AND {STATES["seen"]}"""
_ROWS = f"""SELECT wanted.key, first_seen, last_seen, expires_at, attempt,
    lease_until IS NOT NULL OR has_detail AND NOT {LIVE} {_FROM}"""
_IS_SPECIAL = f"""SELECT EXISTS (SELECT 1 {_FROM}
    WHERE lease_until IS NOT NULL OR has_detail AND NOT {LIVE})"""
_MARK = f"""INSERT INTO seen (namespace, key, first_seen, last_seen, expires_at)
    SELECT :namespace, value, :ts, :ts, :ts + :ttl FROM json_each(:keys) WHERE true
    ON CONFLICT (namespace, key) DO UPDATE SET
        first_seen = iif({LIVE}, first_seen, :ts),
        last_seen = iif({LIVE}, max(last_seen, :ts), :ts),
        expires_at = iif({LIVE}, max(last_seen, :ts), :ts) + :ttl,
        token = iif({LIVE}, token, NULL),
        attempt = iif({LIVE}, attempt, 0)"""  # noqa: S608
_REFRESH = f"""UPDATE seen SET
        last_seen = max(last_seen, :now),
        expires_at = max(expires_at, max(last_seen, :now) + :ttl),
        token = iif(lease_until IS NULL, token, NULL),
        lease_until = NULL, on_abandoned = NULL
    WHERE namespace = :namespace AND key IN (SELECT value FROM json_each(:keys))
        AND {LIVE} AND {STATES["seen"]}"""  # noqa: S608


def execute(db: driver.Connection, each: ForEach[Any], now: float) -> Outcome | None:
    """Execute it inside the current transaction.

    Args:
        db: The connection.
        each: The operation and its keys.
        now: The time of the transaction.

    Returns:
        Its outcome; ``None`` if ``_state_machine`` has to decide: nothing is changed.
    """
    ids = namespaces.find_all(db, {each.namespace})
    return _EXECUTE[type(each.operation)](db, ids, each, now)


def _is_seen(
    db: driver.Connection, ids: dict[str, int], each: ForEach[bool], now: float
) -> Outcome:
    results = [False] * len(each.keys)
    earliest: list[float | None] = []
    for index, expires_at in _select(db, _SEEN, ids, each, now):
        results[index] = True
        earliest.append(expires_at)
    return results, _all_seen(each.keys, earliest)


def _check_and_mark(
    db: driver.Connection, ids: dict[str, int], each: ForEach[Sighting], now: float
) -> Outcome | None:
    check, keys, namespace = each.operation, each.keys, each.namespace
    assert isinstance(check, CheckAndMark)  # noqa: S101 - see _EXECUTE
    if check.note is not None or len(set(keys)) < len(keys):
        return None
    rows = list(_select(db, _ROWS, ids, each, now))
    if any(row[-1] for row in rows):
        return None
    seen = [row for row in rows if row[3] is None or row[3] > now]
    sightings = dict.fromkeys(keys)
    for index, first, last, _, attempt, _ in seen:
        key = keys[index]
        sightings[key] = Sighting(
            key, namespace, Verdict.DUPLICATE, first, last, attempt
        )
    fresh = [key for key, sighting in sightings.items() if sighting is None]
    for key in fresh:
        sightings[key] = Sighting(key, namespace, Verdict.NEW, now, now)
    if fresh:
        _change(db, _MARK, ids, namespace, fresh, ts=now, now=now, ttl=check.ttl)
    ends = [row[3] for row in seen]
    ends += [None if check.ttl is None else now + check.ttl] * len(fresh)
    results = list(sightings.values())
    return results, _all_seen(each.keys, ends, _instants(results))


def _instants(sightings: Sequence[Sighting | None]) -> array[float] | None:
    if any(sighting.attempt for sighting in sightings if sighting is not None):
        return None
    times = [(one.first_seen, one.last_seen) for one in sightings if one is not None]
    return array("d", [*(first for first, _ in times), *(last for _, last in times)])


def _mark(
    db: driver.Connection, ids: dict[str, int], each: ForEach[None], now: float
) -> Outcome | None:
    mark, ttl = each.operation, None
    assert isinstance(mark, Mark)  # noqa: S101 - see _EXECUTE
    if mark.note is not None or any(
        is_special for (is_special,) in _select(db, _IS_SPECIAL, ids, each, now)
    ):
        return None
    ts, ttl = now if mark.ts is None else mark.ts, mark.ttl
    _change(db, _MARK, ids, each.namespace, each.keys, ts=ts, now=now, ttl=ttl)
    results: list[None] = [None] * len(each.keys)
    if ttl is None:
        return results, AllSeen(None)
    return results, AllSeen(ts + ttl) if ts + ttl > now else None


def _refresh(
    db: driver.Connection, ids: dict[str, int], each: ForEach[bool], now: float
) -> Outcome:
    refresh = each.operation
    assert isinstance(refresh, Refresh)  # noqa: S101 - see _EXECUTE
    results, known = _is_seen(db, ids, each, now)
    if any(results):
        _change(db, _REFRESH, ids, each.namespace, each.keys, now=now, ttl=refresh.ttl)
    return results, known


def _select(
    db: driver.Connection,
    query: str,
    ids: dict[str, int],
    each: ForEach[Any],
    now: float,
) -> Iterable[Any]:
    """Yield the rows of a query on the keys; the first column is the key's index."""
    if each.namespace not in ids:
        return
    values = {"namespace": ids[each.namespace], "now": now}
    for number, keys in enumerate(bulk.in_json(each.keys)):
        for row in db.execute(query, {**values, "keys": keys}).fetchall():
            if number and len(row) > 1:
                yield row[0] + number * bulk.ROWS, *row[1:]
            else:
                yield row


def _change(
    db: driver.Connection,
    statement: str,
    ids: dict[str, int],
    namespace: str,
    keys: Sequence[str],
    **values: float | None,
) -> None:
    if namespace not in ids:
        ids[namespace] = namespaces.create(db, namespace)
    for some in bulk.in_json(keys):
        db.execute(statement, {**values, "namespace": ids[namespace], "keys": some})


def _all_seen(
    keys: Sequence[str],
    ends: Sequence[float | None],
    instants: array[float] | None = None,
) -> AllSeen | None:
    """Summarize when the seen keys expire, if they are all."""
    if len(ends) < len(keys):
        return None
    earliest = min((end for end in ends if end is not None), default=None)
    return AllSeen(earliest, instants)


_EXECUTE: dict[
    type[Operation[Any]],
    Callable[[Any, dict[str, int], Any, float], Outcome | None],
] = {
    IsSeen: _is_seen,
    CheckAndMark: _check_and_mark,
    Mark: _mark,
    Refresh: _refresh,
}

SUPPORTED = frozenset(_EXECUTE)
"""The operations that are known here."""
