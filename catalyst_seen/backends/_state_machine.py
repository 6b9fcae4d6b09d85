"""The state machine of a key: ``transition(row, operation, now)``.

``transition`` checks the TTL first: an expired row counts as none. Then the row has a
verdict, and operation and verdict decide the result and the new row.

Backends that read rows and write them back in one transaction call
``transition_batch``, which calls ``transition`` for each operation. Three other places
implement the same rules, with the check of the TTL, and all of them change together:

- ``redis/script.lua``, on the server;
- ``postgres/queries.py``, in SQL, on the server;
- ``_engine/cache.py``, which checks the TTL of cached rows, and calls ``transition``.

A server returns verdict and row, from which ``to_result`` makes the result. Queries on
whole namespaces, such as counts and purges, compare ``expires_at`` in conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._types import ClaimState, Record, Sighting
from .._verdict import Verdict
from .base import BatchResult
from .operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Hold,
    IsSeen,
    Listed,
    Mark,
    Noted,
    Operation,
    Refresh,
    Release,
    Renew,
    Resolve,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._types import OnAbandoned, RecordState
    from .operations import Id

# The members of an enum, which take a quarter of a microsecond each by their name.
_NEW = Verdict.NEW
_RETRY = Verdict.RETRY
_IN_FLIGHT = Verdict.IN_FLIGHT
_DUPLICATE = Verdict.DUPLICATE
_HELD = Verdict.HELD

Outcome = tuple[bool, Row | None]
"""Whether the operation had its effect, and the row that it leaves."""


def transition(
    stored: Row | None, operation: Operation[object], now: float
) -> tuple[object, Row | None]:
    """Execute an operation on a row; return its result and the row that it leaves.

    The TTL is checked here: ``now`` at or after ``expires_at`` means no row. The
    returned row is the same object as ``stored`` if there is nothing to write.
    """
    row = stored
    if row is not None and row.expires_at is not None and row.expires_at <= now:
        row = None
    verdict = verdict_of(row, now)
    is_done, after = _OUTCOMES[type(operation)](operation, row, verdict, now)
    if is_done and after is not None:
        after = _with_texts(after, row, operation)
        if row is not None and row.listed is not None:
            after = _kept_listed(after, row.listed)
    result = to_result(operation, verdict, after, now, is_done=is_done)
    return result, stored if after is row else after


def transition_batch(
    rows: Mapping[Id, Row], operations: Sequence[Operation[object]], now: float
) -> tuple[BatchResult, dict[Id, Row | None]]:
    """Execute a batch in memory; return its results and the changed rows.

    Each operation sees the rows that the earlier ones left.
    """
    batch = BatchResult([], [], version=None)
    changes: dict[Id, Row | None] = {}
    marks: dict[tuple[float | None, str | None], Row | None] = {}
    for operation in operations:
        id_ = operation.namespace, operation.key
        row = changes[id_] if id_ in changes else rows.get(id_)
        if row is None and type(operation) is CheckAndMark:
            # All new keys with one TTL and note get the same row.
            kind = operation.ttl, operation.note
            if kind not in marks:
                _, marks[kind] = transition(None, operation, now)
            after = marks[kind]
            result = to_result(operation, _NEW, after, now, is_done=True)
        else:
            result, after = transition(row, operation, now)
        batch.results.append(result)
        batch.rows.append(after)
        if after is not row:
            changes[id_] = after
    return batch, changes


def verdict_of(row: Row | None, now: float) -> Verdict:
    """Return the verdict on a key by its row, which has not expired."""
    if row is None:
        return _NEW
    if row.lease_until is None:
        return _DUPLICATE
    if now < row.lease_until:
        return _IN_FLIGHT
    return _NEW if row.is_pending else _ABANDONED[row.on_abandoned]


_ABANDONED = {
    None: _RETRY,  # released, not abandoned
    "retry": _RETRY,
    "hold": _HELD,
    "drop": _DUPLICATE,
}


def _with_texts(after: Row, before: Row | None, operation: Operation[object]) -> Row:
    """Return a row with the note and the last error that the operation leaves."""
    note, error = (before.note, before.error) if before else (None, None)
    if isinstance(operation, Noted) and operation.note is not None:
        note = operation.note or None
    if after.lease_until is None:
        error = None  # it is handled
    elif isinstance(operation, Release | Hold) and operation.error is not None:
        error = operation.error
    if after.note == note and after.error == error:
        return after
    return after._replace(note=note, error=error)


def _kept_listed(after: Row, listed: Listed) -> Row:
    """Return a row of a key that was observed: it never expires by time.

    It waits in its order until it is seen.
    """
    if after.lease_until is None and listed.seq is not None:
        listed = listed._replace(seq=None)
    return after._replace(listed=listed, expires_at=None)


def _get(_: Get | IsSeen, row: Row | None, _verdict: Verdict, _now: float) -> Outcome:
    return False, row


def _mark(mark: Mark, row: Row | None, verdict: Verdict, now: float) -> Outcome:
    ts = now if mark.ts is None else mark.ts
    return True, _marked(row, verdict, ts, mark.ttl)


def _check_and_mark(
    check: CheckAndMark, row: Row | None, verdict: Verdict, now: float
) -> Outcome:
    if not verdict:
        return False, row
    return True, _marked(row, verdict, now, check.ttl)


def _refresh(
    refresh: Refresh, row: Row | None, verdict: Verdict, now: float
) -> Outcome:
    if row is None or verdict is not _DUPLICATE:
        return False, row
    after = _marked(row, verdict, now, refresh.ttl)
    expires_at = None
    if row.expires_at is not None and after.expires_at is not None:
        expires_at = max(row.expires_at, after.expires_at)
    return True, after._replace(expires_at=expires_at)


def _acquire(claim: Acquire, row: Row | None, verdict: Verdict, now: float) -> Outcome:
    if not verdict:
        return False, row
    lease_until, expires_at = _lease(claim, now)
    first_seen, attempt = (row.first_seen, row.attempt + 1) if row else (now, 1)
    return True, Row(
        first_seen,
        now,
        expires_at,
        claim.token,
        attempt,
        lease_until,
        _policy(claim, row),
    )


def _confirm(confirm: Confirm, row: Row | None, _: Verdict, now: float) -> Outcome:
    if row is None or row.token != confirm.token:
        return False, row
    if row.lease_until is None:
        return True, row
    if _is_released(row):
        return False, row
    expires_at = _after(now, confirm.ttl)
    return True, Row(row.first_seen, now, expires_at, row.token, row.attempt)


def _renew(renew: Renew, row: Row | None, _: Verdict, now: float) -> Outcome:
    if row is None or not _is_owned(row, renew.token) or _is_released(row):
        return False, row
    lease_until, expires_at = _lease(renew, now)
    return True, row._replace(
        expires_at=expires_at,
        lease_until=lease_until,
        on_abandoned=_policy(renew, row),
    )


def _release(release: Release, row: Row | None, _: Verdict, now: float) -> Outcome:
    if row is None or not _is_owned(row, release.token):
        return False, row
    after = _released(row, now + release.delay, release.ttl)
    if not release.is_counted and not _is_released(row):
        after = after._replace(attempt=row.attempt - 1)
    return True, after


def _hold(hold: Hold, row: Row | None, _: Verdict, now: float) -> Outcome:
    if row is None or not _is_owned(row, hold.token):
        return False, row
    if _is_released(row):
        return False, row
    return True, row._replace(
        expires_at=None,
        lease_until=min(now, row.lease_until or now),
        on_abandoned="hold",
    )


def _resolve(
    resolve: Resolve, row: Row | None, verdict: Verdict, now: float
) -> Outcome:
    if row is None or verdict is not _HELD:
        return False, row
    if resolve.is_handled:
        return True, _marked(row, verdict, now, resolve.ttl)
    return True, _released(row, now, resolve.ttl)


def _forget(_: Forget, row: Row | None, _verdict: Verdict, _now: float) -> Outcome:
    return row is not None, None


_OUTCOMES: dict[
    type[Operation[Any]], Callable[[Any, Row | None, Verdict, float], Outcome]
] = {
    IsSeen: _get,
    Get: _get,
    Mark: _mark,
    CheckAndMark: _check_and_mark,
    Refresh: _refresh,
    Acquire: _acquire,
    Confirm: _confirm,
    Renew: _renew,
    Release: _release,
    Hold: _hold,
    Resolve: _resolve,
    Forget: _forget,
}


def to_result(
    operation: Operation[Any],
    verdict: Verdict,
    row: Row | None,
    now: float,
    *,
    is_done: bool,
) -> object:
    """Return the result of an executed operation.

    Args:
        operation: The operation.
        verdict: The verdict on the key before the operation.
        row: The row that the operation left; ``None`` is no row.
        now: The time of the operation.
        is_done: Whether the operation had its effect.
    """
    result = _RESULTS.get(type(operation))
    return is_done if result is None else result(operation, verdict, row, now, is_done)


def _is_seen(_: IsSeen, verdict: Verdict, *_others: object) -> bool:
    return verdict is _DUPLICATE


def _record(
    get: Get, verdict: Verdict, row: Row | None, _now: float, _is_done: object
) -> Record | None:
    if row is None or (verdict is _NEW and not row.is_pending):
        return None  # a row that has expired
    return to_record((get.namespace, get.key), verdict, row)


def state_of(verdict: Verdict, row: Row) -> RecordState:
    """Return the state of the key of a row that has not expired."""
    if row.is_pending:
        return "pending"
    if verdict is _IN_FLIGHT and row.on_abandoned is None:
        return "released"  # with a delay that is not over
    return _STATES[verdict]


def counted_claim(verdict: Verdict, row: Row) -> tuple[str | None, int, float | None]:
    """Return what the row of a key is in ``ClaimCounts.of``."""
    if verdict is _IN_FLIGHT:
        return "claimed", 1, row.last_seen if row.on_abandoned else None
    if verdict is _RETRY and row.on_abandoned is None:
        return "released", 1, row.lease_until
    return row.on_abandoned, 1, None


def to_record(id_: Id, verdict: Verdict, row: Row) -> Record:
    """Return the record of a row that has not expired.

    Args:
        id_: Namespace and key.
        verdict: The verdict that a check-and-mark would return.
        row: The row.
    """
    state = state_of(verdict, row)
    return Record(
        key=id_[1],
        namespace=id_[0],
        state=state,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        expires_at=row.expires_at,
        until=row.lease_until if state in {"claimed", "released"} else None,
        attempt=row.attempt,
        note=row.note,
        error=row.error if row.attempt and row.lease_until is not None else None,
    )


_STATES: dict[Verdict, RecordState] = {
    _NEW: "pending",
    _DUPLICATE: "seen",
    _IN_FLIGHT: "claimed",
    _RETRY: "released",
    _HELD: "held",
}


def _sighting(
    check: CheckAndMark, verdict: Verdict, row: Row, now: float, _is_done: object
) -> Sighting:
    return Sighting(
        check.key,
        check.namespace,
        verdict,
        row.first_seen,
        row.last_seen,
        row.attempt,
        _retry_after(verdict, row, now),
    )


def _claim_state(
    _: Acquire, verdict: Verdict, row: Row, now: float, is_done: object
) -> ClaimState:
    is_leased = is_done or verdict is _IN_FLIGHT
    return ClaimState(
        verdict,
        row.attempt,
        row.lease_until if is_leased else None,
        _retry_after(verdict, row, now),
        row.note if is_done else None,
    )


def _retry_after(verdict: Verdict, row: Row, now: float) -> float | None:
    if verdict is not _IN_FLIGHT or row.lease_until is None:
        return None
    return row.lease_until - now


def _renewed_until(
    _: Renew, _verdict: Verdict, row: Row | None, _now: float, is_done: object
) -> float | None:
    return row.lease_until if row and is_done else None


_RESULTS: dict[
    type[Operation[Any]],
    Callable[[Any, Verdict, Any, float, bool], object],
] = {
    IsSeen: _is_seen,
    Get: _record,
    Mark: lambda *_: None,
    CheckAndMark: _sighting,
    Acquire: _claim_state,
    Renew: _renewed_until,
}


def _marked(row: Row | None, verdict: Verdict, ts: float, ttl: float | None) -> Row:
    """Return the row of a mark at ``ts``.

    ``last_seen`` of a seen key never moves back. The token of a confirmed claim stays,
    so that its owner can confirm again; any other token is removed.
    """
    if row is None:
        return Row(ts, ts, _after(ts, ttl))
    if verdict is _DUPLICATE:
        last_seen = max(row.last_seen, ts)
        expires_at = _after(last_seen, ttl)
        token = row.token if row.lease_until is None else None
        return Row(row.first_seen, last_seen, expires_at, token, row.attempt)
    first_seen = min(row.first_seen, ts)
    return Row(first_seen, ts, _after(ts, ttl), None, row.attempt)


def _lease(claim: Acquire | Renew, now: float) -> tuple[float, float | None]:
    """Return the end of a lease, and the expiry of its row.

    A row that a person must ``resolve`` never expires.
    """
    lease_until = now + claim.lease
    if claim.on_abandoned == "hold":
        return lease_until, None
    return lease_until, _after(lease_until, claim.ttl)


def _policy(claim: Acquire | Renew, row: Row | None) -> OnAbandoned:
    """Return what happens when a lease ends; a key that was observed is not dropped."""
    if claim.on_abandoned == "drop" and row is not None and row.listed is not None:
        return "retry"
    return claim.on_abandoned


def _released(row: Row, lease_until: float, ttl: float | None) -> Row:
    return row._replace(
        expires_at=_after(lease_until, ttl), lease_until=lease_until, on_abandoned=None
    )


def _is_owned(row: Row, token: str) -> bool:
    return row.lease_until is not None and row.token == token


def _is_released(row: Row) -> bool:
    """Was the claim released? Its token then only recognises a repeated release."""
    return row.lease_until is not None and row.on_abandoned is None


def _after(instant: float, ttl: float | None) -> float | None:
    return None if ttl is None else instant + ttl
