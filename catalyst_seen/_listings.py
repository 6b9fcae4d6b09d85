"""The rules for the listings of sources, and the results of the verbs for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from ._setting_rules import check_count
from ._validation import Duration, number, seconds

T = TypeVar("T")

First = Literal["baseline", "all"] | int
"""What happens to the items of a first listing; see ``FeedRules``."""


@dataclass(frozen=True, kw_only=True)
class FeedRules:
    """The rules by which a store treats the listings of a source.

    The defaults of the retention (``absent_polls`` to ``recent_listings``) were found
    on twenty real feeds with 70,703 items, polled for up to 16 months: with them, no
    item was repeated after pauses of three months. Durations are seconds, a
    ``timedelta``, or a text such as ``"60d"``.

    Attributes:
        first: What happens to the items of a first listing: ``"baseline"`` marks all of
            them without handling, ``"all"`` handles all, and a number handles so many
            of the last ones.
        changes: How often an item that was handled is pending again because its digest
            has changed.
        max_attempts: After so many failed attempts a key is held with its last error,
            until ``resolve`` decides; ``None`` is never.
        retry_after: The pause after a first failed attempt; it doubles with each one.
        retry_after_most: The longest of these pauses.
        absent_polls: A key is kept until it has been absent from so many polls; the
            rule ``absent_for`` must be met as well.
        absent_for: A key is kept until it has been absent for so long by the poll
            clock, which only passes at polls.
        longest_gap: The pause between two polls adds so much to the poll clock at most.
        kept_keys: At least so many keys of a source are kept.
        kept_listings: At least so many keys of a source are kept as this number times
            the items of its largest listing.
        small_listing: A listing with fewer items than this part of the median of the
            last ones lets nothing age.
        recent_listings: The number of last listings in that median.
        pending_most: From so many pending keys of a source on there is an alarm.
        pending_longest: An alarm begins when a key is pending for so long.

    Raises:
        TypeError: A rule has the wrong type.
        ValueError: A rule is out of its range.
    """

    first: First = "baseline"
    changes: int = 0
    max_attempts: int | None = None
    retry_after: Duration = 30.0
    retry_after_most: Duration = 3_600.0
    absent_polls: int = 3
    absent_for: Duration = "60d"
    longest_gap: Duration = "1d"
    kept_keys: int = 500
    kept_listings: int = 5
    small_listing: float = 0.5
    recent_listings: int = 10
    pending_most: int = 10_000
    pending_longest: Duration = "7d"

    def __post_init__(self) -> None:
        if self.first not in {"baseline", "all"}:
            if isinstance(self.first, str):
                raise ValueError(
                    'first must be "baseline", "all" or a number of items,'
                    f" not {self.first!r}"
                )
            check_count(self.first, "first", "items", least=0)
        check_count(self.changes, "changes", "changes", least=0)
        if self.max_attempts is not None:
            check_count(self.max_attempts, "max_attempts", "attempts", least=1)
        for name in ("retry_after", "retry_after_most", "longest_gap"):
            seconds(getattr(self, name), name)
        seconds(self.absent_for, "absent_for")
        seconds(self.pending_longest, "pending_longest")
        check_count(self.absent_polls, "absent_polls", "polls", least=1)
        check_count(self.kept_keys, "kept_keys", "keys", least=0)
        check_count(self.kept_listings, "kept_listings", "listings", least=1)
        check_count(self.recent_listings, "recent_listings", "listings", least=1)
        check_count(self.pending_most, "pending_most", "keys", least=1)
        part = number(self.small_listing, "small_listing", "a part of 1")
        if not 0 <= part <= 1:
            raise ValueError(
                f"small_listing must be from 0 to 1, not {self.small_listing!r}"
            )


@dataclass(frozen=True, slots=True)
class Observation(Generic[T]):
    """The result of ``observe``; true if there is something to handle.

    Attributes:
        new: The items that can be claimed now, in the order given: pending ones, and
            those whose last attempt failed and whose delay is over.
        changed: The items that were handled before, and are pending again because their
            digest has changed.
        replaced: The items that were marked without handling, because each is one of
            the last listing under another key.
        baseline: How many items a first listing marked without handling.
        pending: How many keys of the namespace wait to be handled.
    """

    new: list[T]
    changed: list[T] = field(default_factory=list)
    replaced: list[T] = field(default_factory=list)
    baseline: int = 0
    pending: int = 0

    def __bool__(self) -> bool:
        return bool(self.new)


@dataclass(frozen=True, slots=True)
class Source:
    """What a store knows of the source of a namespace. Instants are seconds since 1970.

    Attributes:
        namespace: The namespace.
        polls: Number of successful polls.
        first_poll: The first one; ``None`` before it.
        last_poll: The last one.
        listed: Number of items that the source lists.
        pending: Number of keys that wait to be handled.
        held: Number of keys that ``resolve`` has to decide about.
        baseline_at: When the first listing with items was observed.
        validators: The text that was stored with the last listing.
        state: The text that the poller stored for itself.
        error: Why the last poll failed; ``None`` if it did not.
        new: Number of items that became pending, over all polls.
        duplicates: Number of listed items that were known.
        changed: Number of items that became pending again.
        replaced: Number of items that were marked because they replaced another.
        failed: Number of failed polls.
        oldest_pending: When the first of the pending keys was observed; ``None``
            without one.
    """

    namespace: str
    polls: int
    first_poll: float | None
    last_poll: float | None
    listed: int
    pending: int
    held: int
    baseline_at: float | None
    validators: str | None
    state: str | None
    error: str | None
    new: int
    duplicates: int
    changed: int
    replaced: int
    failed: int
    oldest_pending: float | None = None
