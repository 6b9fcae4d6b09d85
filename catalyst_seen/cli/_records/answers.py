"""What ``check_and_mark`` and ``claim`` would answer for a key, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from catalyst_seen import Verdict

from .._output import local
from .._spoken import when

if TYPE_CHECKING:
    from catalyst_seen import Record


class Answer(NamedTuple):
    """The answer of both verbs: they differ only in what they do with the key.

    Attributes:
        verdict: The verdict.
        because: Its reason, as the end of a sentence.
        attempt: The number of the claim, if the key can be claimed.
        retry_after: Seconds until the key may be claimed, if it is in flight.
    """

    verdict: Verdict
    because: str
    attempt: int | None = None
    retry_after: float | None = None


def answer_for(record: Record | None, now: float, *, has_source: bool) -> Answer:
    """Return the answer for a key.

    Args:
        record: Its record; ``None`` if it is unseen.
        now: The instant of the question.
        has_source: Has its namespace a source, so that it may follow a poll clock?
    """
    if record is None:
        reason = "it was never marked, or its mark has expired or was forgotten"
        return Answer(Verdict.NEW, reason, 1)
    if record.state == "seen":
        reason = f"it was marked on {local(record.last_seen)}"
        return Answer(Verdict.DUPLICATE, f"{reason} and {_end_of(record, has_source)}")
    following = record.attempt + 1
    if record.state == "pending":
        reason = f"it was listed on {local(record.last_seen)}, and is not handled yet"
        return Answer(Verdict.NEW, reason, following)
    if record.state == "held":
        return Answer(Verdict.HELD, _why_held(record))
    if record.until is not None and record.until > now:
        return Answer(
            Verdict.IN_FLIGHT,
            _why_in_flight(record),
            retry_after=record.until - now,
        )
    reason = f"attempt {record.attempt} was released, or its lease has ended"
    return Answer(Verdict.RETRY, f"{reason}{_error_of(record)}", following)


def _end_of(record: Record, has_source: bool) -> str:  # noqa: FBT001 - a fact
    """Return until when a key stays seen, as the end of a sentence."""
    if record.expires_at is not None:
        return f"expires on {local(record.expires_at)}"
    if has_source:
        return "is kept while its source lists it"
    return "never expires"


def expiry_of(record: Record, now: float, *, has_source: bool) -> str:
    """Return when a key expires, for a label."""
    if record.expires_at is not None:
        return when(record.expires_at, now)
    if has_source:
        return "not by time: it is kept while its source lists it"
    return "never"


def _why_held(record: Record) -> str:
    if record.error:
        when = local(record.last_seen)
        how = f"attempt {record.attempt} of {when} failed: {record.error}"
        return f"{how}; resolve decides"
    return (
        f"attempt {record.attempt} of {local(record.last_seen)} ended without an"
        " answer, or was the last one allowed; resolve decides"
    )


def _why_in_flight(record: Record) -> str:
    assert record.until is not None  # noqa: S101 - the caller has checked it
    if record.state == "claimed":
        return (
            f"attempt {record.attempt} has it under a lease until {local(record.until)}"
        )
    return (
        f"attempt {record.attempt} was released with a delay until"
        f" {local(record.until)}{_error_of(record)}"
    )


def _error_of(record: Record) -> str:
    return f"; the last error is: {record.error}" if record.error else ""
