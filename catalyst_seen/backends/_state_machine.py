"""The state table: what an operation answers for a key, and what it leaves behind.

``step`` is for backends that read a row, decide, and write it back in one transaction.
Where a server decides, in its own language, ``answer`` puts its decision into words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._types import ClaimState, Record, Sighting, Verdict
from .operations import (
    Acquire,
    CheckAndMark,
    Confirm,
    Forget,
    Get,
    Mark,
    Operation,
    Release,
    Renew,
    Resolve,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Callable


Decision = tuple[bool, Row | None]
"""Was it done, and the row as it is afterwards."""


def transition(
    stored: Row | None, operation: Operation[object], now: float
) -> tuple[object, Row | None]:
    """Return the answer to an operation and the row as it is afterwards.

    The row returned *is* the row given when there is nothing to write.
    """
    row = stored  # as an operation finds it: an expired row is none
    if row is not None and row.expires_at is not None and row.expires_at <= now:
        row = None
    verdict = _verdict(row, now)
    is_done, after = _DECISIONS[type(operation)](operation, row, verdict, now)
    result = to_result(operation, verdict, after, now, is_done=is_done)
    return result, stored if after is row else after


def _verdict(row: Row | None, now: float) -> Verdict:
    if row is None:
        return Verdict.NEW
    if row.lease_until is None:
        return Verdict.DUPLICATE
    if now < row.lease_until:
        return Verdict.IN_FLIGHT
    return _ABANDONED[row.on_abandoned]


_ABANDONED = {
    None: Verdict.RETRY,  # not abandoned, but released
    "retry": Verdict.RETRY,
    "hold": Verdict.HELD,
    "drop": Verdict.DUPLICATE,
}


def _look(_: Get, row: Row | None, _verdict: Verdict, _now: float) -> Decision:
    return False, row


def _mark(mark: Mark, row: Row | None, verdict: Verdict, now: float) -> Decision:
    ts = now if mark.ts is None else mark.ts
    return True, _marked(row, verdict, ts, mark.ttl)


def _check_and_mark(
    check: CheckAndMark, row: Row | None, verdict: Verdict, now: float
) -> Decision:
    if not verdict:
        return False, row
    return True, _marked(row, verdict, now, check.ttl)


def _take_claim(
    claim: Acquire, row: Row | None, verdict: Verdict, now: float
) -> Decision:
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
        claim.on_abandoned,
    )


def _confirm(confirm: Confirm, row: Row | None, _: Verdict, now: float) -> Decision:
    if row is None or row.token != confirm.token:
        return False, row
    if row.lease_until is None:
        return True, row
    expires_at = _after(now, confirm.ttl)
    return True, Row(row.first_seen, now, expires_at, row.token, row.attempt)


def _renew(renew: Renew, row: Row | None, _: Verdict, now: float) -> Decision:
    if row is None or not _is_owned(row, renew.token):
        return False, row
    lease_until, expires_at = _lease(renew, now)
    return True, row._replace(
        expires_at=expires_at,
        lease_until=lease_until,
        on_abandoned=renew.on_abandoned,
    )


def _release(release: Release, row: Row | None, _: Verdict, now: float) -> Decision:
    if row is None or not _is_owned(row, release.token):
        return False, row
    return True, _released(row, now + release.delay, release.ttl)


def _resolve(
    resolve: Resolve, row: Row | None, verdict: Verdict, now: float
) -> Decision:
    if row is None or verdict is not Verdict.HELD:
        return False, row
    if resolve.is_handled:
        return True, _marked(row, verdict, now, resolve.ttl)
    return True, _released(row, now, resolve.ttl)


def _forget(_: Forget, row: Row | None, _verdict: Verdict, _now: float) -> Decision:
    return row is not None, None


_DECISIONS: dict[
    type[Operation[Any]], Callable[[Any, Row | None, Verdict, float], Decision]
] = {
    Get: _look,
    Mark: _mark,
    CheckAndMark: _check_and_mark,
    Acquire: _take_claim,
    Confirm: _confirm,
    Renew: _renew,
    Release: _release,
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
    """Return what an operation answers.

    Args:
        operation: What was to be done.
        verdict: What the key was when it came.
        row: What it left; ``None`` is nothing.
        now: When it came.
        is_done: Did it do what it is for?
    """
    word = _ANSWERS.get(type(operation))
    return is_done if word is None else word(operation, verdict, row, now, is_done)


def _record(
    look: Get, verdict: Verdict, row: Row | None, _now: float, _is_done: object
) -> Record | None:
    if row is None or verdict is not Verdict.DUPLICATE:
        return None
    return Record(look.key, look.namespace, *row[:3])


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
    is_leased = is_done or verdict is Verdict.IN_FLIGHT
    return ClaimState(
        verdict,
        row.attempt,
        row.lease_until if is_leased else None,
        _retry_after(verdict, row, now),
    )


def _retry_after(verdict: Verdict, row: Row, now: float) -> float | None:
    if verdict is not Verdict.IN_FLIGHT or row.lease_until is None:
        return None
    return row.lease_until - now


def _renewed_until(
    _: Renew, _verdict: Verdict, row: Row | None, _now: float, is_done: object
) -> float | None:
    return row.lease_until if row and is_done else None


_ANSWERS: dict[
    type[Operation[Any]],
    Callable[[Any, Verdict, Any, float, bool], object],
] = {
    Get: _record,
    Mark: lambda *_: None,
    CheckAndMark: _sighting,
    Acquire: _claim_state,
    Renew: _renewed_until,
}


def _marked(row: Row | None, verdict: Verdict, ts: float, ttl: float | None) -> Row:
    """Mark at ``ts``; a mark from the past never takes an earlier one back.

    The token of a claim that was confirmed stays, that of any other is worth nothing
    any more.
    """
    if row is None:
        return Row(ts, ts, _after(ts, ttl))
    if verdict is Verdict.DUPLICATE:
        last_seen = max(row.last_seen, ts)
        expires_at = _after(last_seen, ttl)
        token = row.token if row.lease_until is None else None
        return Row(row.first_seen, last_seen, expires_at, token, row.attempt)
    first_seen = min(row.first_seen, ts)
    return Row(first_seen, ts, _after(ts, ttl), None, row.attempt)


def _lease(claim: Acquire | Renew, now: float) -> tuple[float, float | None]:
    """Tell when a lease ends and its row expires: not if a person must decide."""
    lease_until = now + claim.lease
    if claim.on_abandoned == "hold":
        return lease_until, None
    return lease_until, _after(lease_until, claim.ttl)


def _released(row: Row, lease_until: float, ttl: float | None) -> Row:
    return row._replace(
        expires_at=_after(lease_until, ttl), lease_until=lease_until, on_abandoned=None
    )


def _is_owned(row: Row, token: str) -> bool:
    return row.lease_until is not None and row.token == token


def _after(instant: float, ttl: float | None) -> float | None:
    return None if ttl is None else instant + ttl
