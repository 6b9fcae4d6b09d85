"""What happened to a key of a source, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._notes import is_skipped
from .._output import counted, local

if TYPE_CHECKING:
    from catalyst_seen import Record, Source

    from .answers import Answer


def history_of(record: Record, source: Source, answer: Answer) -> str:
    """Return what happened to a key of a source.

    A key that was never claimed was marked as part of the baseline, or as the
    replacement of an entry under another key. Other verbs leave the same records as a
    delivery and as a replacement, so that they are named beside these.
    """
    if record.state != "seen":
        return answer.because
    when = local(record.last_seen)
    if is_skipped(record.note):
        return f"left out on {when}: by --include, --exclude or --max-age of watch"
    if record.attempt:
        attempts = counted(record.attempt, "attempt")
        return (
            f"delivered on {when}, after {attempts}; or marked then by resolve, mark or"
            " on_abandoned='drop'"
        )
    if record.first_seen == source.baseline_at:  # of one transaction, which has a time
        when = local(record.first_seen)
        return f"marked as the baseline on {when}, without being handled"
    return (
        f"marked on {when} without an attempt: as an entry that was known under another"
        " key, or by mark, import or check_and_mark"
    )
