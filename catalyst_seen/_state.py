"""The state table: what an operation answers for a key, and what it leaves behind.

Pure functions, one for each operation, for backends that read a row, decide, and write
it back in one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ._backend import (
    CheckAndMark,
    Confirm,
    Forget,
    Look,
    Mark,
    Operation,
    Release,
    Renew,
    Resolve,
    TakeClaim,
)
from ._model import ClaimState, Record, Sighting, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._model import OnAbandoned


class Row(NamedTuple):
    """What is stored of a key. Instants are seconds since 1970.

    A row with a ``lease_until`` is a claim: of the owner of ``token`` until then, and
    after that as ``on_abandoned`` says, or claimable if it was released and has none. A
    row without is a mark, with the token of the claim that was confirmed, if one was.
    """

    first_seen: float
    last_seen: float
    expires_at: float | None
    token: str | None = None
    attempt: int = 0
    lease_until: float | None = None
    on_abandoned: OnAbandoned | None = None


class _Found(NamedTuple):
    """A key as an operation finds it: an expired row is none."""

    row: Row | None
    verdict: Verdict
    now: float


Stepped = tuple[object, Row | None]


def step(stored: Row | None, operation: Operation[object], now: float) -> Stepped:
    """Return the answer to an operation and the row as it is afterwards.

    The row returned *is* the row given when there is nothing to write.
    """
    is_live = stored and (stored.expires_at is None or now < stored.expires_at)
    row = stored if is_live else None
    found = _Found(row, _verdict(row, now), now)
    answer, after = _STEPS[type(operation)](operation, found)
    return answer, stored if after is row else after


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


def _look(look: Look, found: _Found) -> Stepped:
    row = found.row
    if row is None or found.verdict is not Verdict.DUPLICATE:
        return None, row
    return Record(look.key, look.namespace, *row[:3]), row


def _mark(mark: Mark, found: _Found) -> Stepped:
    return None, _marked(found, found.now if mark.ts is None else mark.ts, mark.ttl)


def _check_and_mark(check: CheckAndMark, found: _Found) -> Stepped:
    row, verdict, now = found
    attempt = row.attempt if row else 0
    after = row if row and not verdict else _marked(found, now, check.ttl)
    sighting = Sighting(
        check.key, check.namespace, verdict, *after[:2], attempt, _retry_after(found)
    )
    return sighting, after


def _take_claim(claim: TakeClaim, found: _Found) -> Stepped:
    row, verdict, now = found
    if row and not verdict:
        retry_after = _retry_after(found)
        lease_until = None if retry_after is None else row.lease_until
        return ClaimState(verdict, row.attempt, lease_until, retry_after), row
    fresh = row or Row(now, now, None)
    after = _leased(
        fresh._replace(last_seen=now, token=claim.token, attempt=fresh.attempt + 1),
        claim,
        now,
    )
    return ClaimState(verdict, after.attempt, after.lease_until), after


def _confirm(confirm: Confirm, found: _Found) -> Stepped:
    row = _owned(found.row, confirm.token)
    if row is None:
        return False, found.row
    if row.lease_until is None:
        return True, row
    expires_at = _after(found.now, confirm.ttl)
    seen = Row(row.first_seen, found.now, expires_at, row.token, row.attempt)
    return True, seen


def _renew(renew: Renew, found: _Found) -> Stepped:
    row = _owned(found.row, renew.token)
    if row is None or row.lease_until is None:
        return None, found.row
    after = _leased(row, renew, found.now)
    return after.lease_until, after


def _release(release: Release, found: _Found) -> Stepped:
    row = _owned(found.row, release.token)
    if row is None or row.lease_until is None:
        return False, found.row
    return True, _released(row, found.now + release.delay, release.ttl)


def _resolve(resolve: Resolve, found: _Found) -> Stepped:
    row, verdict, now = found
    if row is None or verdict is not Verdict.HELD:
        return False, row
    if resolve.is_handled:
        return True, _marked(found, now, resolve.ttl)
    return True, _released(row, now, resolve.ttl)


def _forget(_: Forget, found: _Found) -> Stepped:
    return found.row is not None, None


_STEPS: dict[type[Operation[Any]], Callable[[Any, _Found], Stepped]] = {
    Look: _look,
    Mark: _mark,
    CheckAndMark: _check_and_mark,
    TakeClaim: _take_claim,
    Confirm: _confirm,
    Renew: _renew,
    Release: _release,
    Resolve: _resolve,
    Forget: _forget,
}


def _marked(found: _Found, ts: float, ttl: float | None) -> Row:
    """Mark at ``ts``; a mark from the past never takes an earlier one back.

    The token of a claim that was confirmed stays, that of any other is worth nothing
    any more.
    """
    row = found.row
    if row is None:
        return Row(ts, ts, _after(ts, ttl))
    if found.verdict is Verdict.DUPLICATE:
        last_seen = max(row.last_seen, ts)
        expires_at = _after(last_seen, ttl)
        token = row.token if row.lease_until is None else None
        return Row(row.first_seen, last_seen, expires_at, token, row.attempt)
    first_seen = min(row.first_seen, ts)
    return Row(first_seen, ts, _after(ts, ttl), None, row.attempt)


def _leased(row: Row, claim: TakeClaim | Renew, now: float) -> Row:
    """Begin a lease. What is held must not expire: a person decides."""
    lease_until, then = now + claim.lease, claim.on_abandoned
    expires_at = None if then == "hold" else _after(lease_until, claim.ttl)
    return row._replace(
        expires_at=expires_at, lease_until=lease_until, on_abandoned=then
    )


def _released(row: Row, lease_until: float, ttl: float | None) -> Row:
    return row._replace(
        expires_at=_after(lease_until, ttl), lease_until=lease_until, on_abandoned=None
    )


def _owned(row: Row | None, token: str) -> Row | None:
    return row if row and row.token == token else None


def _retry_after(found: _Found) -> float | None:
    row, verdict, now = found
    if row is None or row.lease_until is None or verdict is not Verdict.IN_FLIGHT:
        return None
    return row.lease_until - now


def _after(instant: float, ttl: float | None) -> float | None:
    return None if ttl is None else instant + ttl
