"""One operation on many keys of a namespace, decided in few statements.

Most keys of a listing are seen or unknown, and need no object of their own. What else
there may be (a claim among the keys, a key that comes twice, notes) is left to
``_state_machine``: each function here returns ``None`` for it, before it has changed
anything.
"""

from __future__ import annotations

import json
from itertools import repeat
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from ..._types import ClaimState, Sighting
from ..._verdict import Verdict
from .._state_machine import transition
from ..operations import (
    Acquire,
    AllSeen,
    CheckAndMark,
    Confirm,
    IsSeen,
    Mark,
    Noted,
    Operation,
    Refresh,
)
from . import bulk, namespaces, queries
from .conditions import LIVE, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..operations import ForEach
    from . import driver

Outcome = tuple[list[Any], AllSeen | None]
"""The results, and what is known of all keys."""
_Mark = tuple[int, float, float, float | None, int, object]
"""A seen key: index, first_seen, last_seen, expires_at, attempt, and a false value."""

# In json_each, "key" is the index of a value.
_FROM = """FROM json_each(:keys) AS wanted
    CROSS JOIN seen ON namespace = :namespace AND seen.key = wanted.value"""
# One row for all keys: the thread gives the GIL up, and waits for it, at each one.
_SEEN = f"""SELECT json_group_array(wanted.key), min(expires_at),
        count(*) FILTER (WHERE lease_until IS NULL) {_FROM}
    WHERE {LIVE} AND {STATES["seen"]}"""
_ROWS = f"""SELECT wanted.key, first_seen, last_seen, expires_at, attempt,
    lease_until IS NOT NULL OR has_detail AND NOT {LIVE} {_FROM}"""
_OWNERS = f"""SELECT wanted.key, token, lease_until IS NOT NULL {_FROM}
    WHERE {LIVE} AND (lease_until IS NULL OR on_abandoned IS NOT NULL)"""
_MARK = f"""INSERT INTO seen (namespace, key, first_seen, last_seen, expires_at)
    SELECT :namespace, value, :ts, :ts, :ts + :ttl FROM json_each(:keys)
    WHERE NOT EXISTS (SELECT 1 {_FROM}
        WHERE lease_until IS NOT NULL OR has_detail AND NOT {LIVE})
    ON CONFLICT (namespace, key) DO UPDATE SET
        first_seen = iif({LIVE}, first_seen, :ts),
        last_seen = iif({LIVE}, max(last_seen, :ts), :ts),
        expires_at = iif(listed_poll IS NULL,
            iif({LIVE}, max(last_seen, :ts), :ts) + :ttl, NULL),
        token = iif({LIVE}, token, NULL),
        attempt = iif({LIVE}, attempt, 0)"""  # noqa: S608
_CONFIRM = """UPDATE seen SET last_seen = :now,
        expires_at = iif(listed_poll IS NULL, :now + :ttl, NULL),
        lease_until = NULL, on_abandoned = NULL, seq = NULL
    WHERE namespace = :namespace AND key IN (SELECT value FROM json_each(:keys))"""
_REFRESH = f"""UPDATE seen SET
        last_seen = max(last_seen, :now),
        expires_at = max(expires_at, max(last_seen, :now) + :ttl),
        token = iif(lease_until IS NULL, token, NULL),
        lease_until = NULL, on_abandoned = NULL
    WHERE namespace = :namespace AND key IN (SELECT value FROM json_each(:keys))
        AND {LIVE} AND {STATES["seen"]}"""  # noqa: S608


_EXPIRES_AT, _IS_SPECIAL = itemgetter(3), itemgetter(-1)
_FIRST_SEEN, _LAST_SEEN = attrgetter("first_seen"), attrgetter("last_seen")
_ATTEMPT = attrgetter("attempt")


def execute(
    db: driver.Connection, ids: dict[str, int], each: ForEach[Any], now: float
) -> Outcome | None:
    """Execute it inside the current transaction.

    Args:
        db: The connection.
        ids: Those of the namespaces that have one; a new one is added.
        each: The operation and its keys.
        now: The time of the transaction.

    Returns:
        Its outcome; ``None`` if ``_state_machine`` has to decide: nothing is changed.
    """
    return _EXECUTE[type(each.operation)](db, ids, each, now)


def _is_seen(
    db: driver.Connection, ids: dict[str, int], each: ForEach[bool], now: float
) -> Outcome:
    results = [False] * len(each.keys)
    ends: list[float | None] = []
    marks = 0
    for number, (seen, end, marked) in enumerate(_select(db, _SEEN, ids, each, now)):
        for index in json.loads(seen):
            results[index + number * bulk.ROWS] = True
        ends.append(end)
        marks += marked
    if marks < len(each.keys):  # the owner of a dropped claim may still renew it
        return results, None
    return results, AllSeen(_earliest(ends))


def _check_and_mark(
    db: driver.Connection, ids: dict[str, int], each: ForEach[Sighting], now: float
) -> Outcome | None:
    check, keys, name = each.operation, each.keys, each.namespace
    assert isinstance(check, CheckAndMark)  # noqa: S101 - see _EXECUTE
    marks = _read_marks(db, ids, each, now)
    if marks is None:
        return None
    numbers, first_seen, last_seen, ends, attempts, _ = _columns(marks)
    results = list(
        map(
            Sighting,
            map(keys.__getitem__, numbers),
            repeat(name),
            repeat(Verdict.DUPLICATE),
            first_seen,
            last_seen,
            attempts,
        )
    )
    if len(marks) == len(keys):
        known = AllSeen.at(_earliest(ends), first_seen, last_seen, attempts)
        return results, known
    fresh = sorted({*range(len(keys))}.difference(numbers))
    for index in fresh:
        results.insert(index, Sighting(keys[index], name, Verdict.NEW, now, now))
    new = [keys[index] for index in fresh]
    _change(db, _MARK, ids, name, new, ts=now, now=now, ttl=check.ttl)
    end = None if check.ttl is None else now + check.ttl
    return results, AllSeen.at(
        _earliest([*ends, end]),
        map(_FIRST_SEEN, results),
        map(_LAST_SEEN, results),
        map(_ATTEMPT, results),
    )


def _acquire(
    db: driver.Connection, ids: dict[str, int], each: ForEach[ClaimState], now: float
) -> Outcome | None:
    claim, keys, tokens = each.operation, each.keys, each.tokens
    assert isinstance(claim, Acquire)  # noqa: S101 - see _EXECUTE
    assert tokens is not None  # noqa: S101 - every claim has one
    marks = _read_marks(db, ids, each, now)
    if marks is None:
        return None
    owned, row = transition(None, claim, now)
    states: list[object] = [owned] * len(keys)
    for index, _, _, _, attempt, _ in marks:
        states[index] = ClaimState(Verdict.DUPLICATE, attempt)
    if len(marks) == len(keys):
        _, first_seen, last_seen, ends, attempts, _ = _columns(marks)
        known = AllSeen.at(_earliest(ends), first_seen, last_seen, attempts)
        return states, known
    assert row is not None  # noqa: S101 - what is unknown can be claimed
    id_ = namespaces.find_or_create(db, ids, each.namespace)
    rows = [
        (id_, key, *row[:3], token, *row[4:7], False)
        for key, token, state in zip(keys, tokens, states, strict=True)
        if state is owned
    ]
    bulk.insert(db, queries.INSERT, rows, queries.UPDATE)
    return states, None


def _confirm(
    db: driver.Connection, ids: dict[str, int], each: ForEach[bool], now: float
) -> Outcome | None:
    confirm, keys, tokens = each.operation, each.keys, each.tokens
    assert isinstance(confirm, Confirm)  # noqa: S101 - see _EXECUTE
    assert tokens is not None  # noqa: S101 - every claim has one
    if confirm.note is not None:
        return None
    results, claimed = [False] * len(keys), []
    for index, token, is_claim in _select_each(db, _OWNERS, ids, each, now):
        if token == tokens[index]:
            results[index] = True
            if is_claim:
                claimed.append(keys[index])
    if claimed:
        _change(db, _CONFIRM, ids, each.namespace, claimed, now=now, ttl=confirm.ttl)
    return results, None


def _mark(
    db: driver.Connection, ids: dict[str, int], each: ForEach[None], now: float
) -> Outcome | None:
    mark = each.operation
    assert isinstance(mark, Mark)  # noqa: S101 - see _EXECUTE
    if mark.note is not None:
        return None
    ts, ttl = now if mark.ts is None else mark.ts, mark.ttl
    marked = _change(db, _MARK, ids, each.namespace, each.keys, ts=ts, now=now, ttl=ttl)
    if marked < len(each.keys):  # a part is not; it may be marked twice
        return None
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


def _read_marks(
    db: driver.Connection, ids: dict[str, int], each: ForEach[Any], now: float
) -> list[_Mark] | None:
    """Return the rows of the seen keys, if the others are unknown.

    ``None`` if there is more: a note to write, a repetition, a claim, an old note.
    """
    one = each.operation
    is_noted = isinstance(one, Noted) and one.note is not None
    if is_noted or len(set(each.keys)) < len(each.keys):
        return None
    rows = _select_each(db, _ROWS, ids, each, now)
    if any(map(_IS_SPECIAL, rows)):
        return None
    if all(map(_EXPIRES_AT, rows)) and min(map(_EXPIRES_AT, rows), default=0) > now:
        return rows  # nearly always
    return [row for row in rows if row[3] is None or row[3] > now]


def _select(
    db: driver.Connection,
    query: str,
    ids: dict[str, int],
    each: ForEach[Any],
    now: float,
) -> Iterator[tuple[Any, ...]]:
    """Yield the row of a query on the keys; one for each ``bulk.ROWS`` of them."""
    if each.namespace in ids:
        values = {"namespace": ids[each.namespace], "now": now}
        for keys in bulk.in_json(each.keys):
            yield db.execute(query, {**values, "keys": keys}).fetchone()


def _select_each(
    db: driver.Connection,
    query: str,
    ids: dict[str, int],
    each: ForEach[Any],
    now: float,
) -> list[Any]:
    """Return the rows of a query on the keys; the first column is the key's index."""
    rows: list[Any] = []
    if each.namespace in ids:
        values = {"namespace": ids[each.namespace], "now": now}
        for number, keys in enumerate(bulk.in_json(each.keys)):
            found = db.execute(query, {**values, "keys": keys}).fetchall()
            if number:
                found = [(row[0] + number * bulk.ROWS, *row[1:]) for row in found]
            rows += found
    return rows


def _change(
    db: driver.Connection,
    statement: str,
    ids: dict[str, int],
    namespace: str,
    keys: Sequence[str],
    **values: float | None,
) -> int:
    """Execute a statement on keys; return how many rows it has changed."""
    id_ = namespaces.find_or_create(db, ids, namespace)
    return sum(
        db.execute(statement, {**values, "namespace": id_, "keys": some}).rowcount
        for some in bulk.in_json(keys)
    )


def _columns(marks: Sequence[_Mark]) -> Sequence[Sequence[Any]]:
    return list(zip(*marks, strict=True)) or [()] * 6


def _earliest(ends: Iterable[float | None]) -> float | None:
    return min(filter(None, ends), default=None)


_EXECUTE: dict[
    type[Operation[Any]],
    Callable[[Any, dict[str, int], Any, float], Outcome | None],
] = {
    Acquire: _acquire,
    CheckAndMark: _check_and_mark,
    Confirm: _confirm,
    IsSeen: _is_seen,
    Mark: _mark,
    Refresh: _refresh,
}

SUPPORTED = frozenset(_EXECUTE)
"""The operations that are known here."""
