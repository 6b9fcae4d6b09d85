"""``Poll``: the result of one poll of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore, Observation

    from ._listing import Entry, Listing
    from ._source import Feed

Outcome = Literal["listing", "unchanged", "not modified", "failed", "held", "gone"]
"""How a poll ended; see ``Poll``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """The result of one poll of a source.

    The outcomes: ``"listing"``, a listing was observed; ``"unchanged"``, the answer has
    the bytes of the last listing; ``"not modified"``, so the server says; ``"failed"``,
    there is no listing; ``"held"``, no request was made, because the server asked for a
    pause; ``"gone"``, the server said that the source is gone for ever, and it is not
    polled any more.

    Attributes:
        feed: The source.
        store: The store bound to its namespace: ``poll.store.pending()``.
        outcome: How the poll ended.
        at: When it ended, in seconds since 1970.
        next_at: When the next one is due; ``None`` if the source is gone.
        seen: What was new, changed, replaced; only of a listing.
        listing: The listing itself; ``None`` for the other outcomes.
        error: Why there is no listing; ``None`` if there is one. It has no secrets.
        notice: A sentence for a person where something changed: the first failed poll
            in a row, the first good one after it, and the end of a source. ``None`` for
            all other polls, so that each thing is said once, also across restarts.
        failures: Number of failed polls in a row.
    """

    feed: Feed
    store: AsyncSeenStore
    outcome: Outcome
    at: float
    next_at: float | None
    seen: Observation[Entry] | None = None
    listing: Listing | None = None
    error: str | None = None
    notice: str | None = None
    failures: int = 0
