"""What a store sends to a backend about the listings of a source, and what it stores.

``_observation`` decides what an observed listing changes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .._listings import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = 86_400.0

CLEARED = "cleared"
"""In the column ``recipe``: the namespace was cleared, and not observed since."""


class Item(NamedTuple):
    """An item of a listing.

    Attributes:
        key: Its key, which no other item of the listing has.
        spellings: Other forms of the same key, under which it may be stored.
        alias: What it has in common with the same item under another key: a word that
            must be equal, and after it words of which one must be; ``None`` without.
        digest: Digest of its content; ``None`` does not compare it.
        note: The text to store with the key while that is not seen.
    """

    key: str
    spellings: tuple[str, ...] = ()
    alias: str | None = None
    digest: str | None = None
    note: str | None = None


class Retention(NamedTuple):
    """The numbers by which a backend decides; see ``FeedRules`` for each.

    Durations are in seconds.
    """

    first: int | None = 0
    """How many items of a first listing are pending; ``None`` is all."""
    changes: int = 0
    absent_polls: int = 3
    absent_for: float = 60 * DAY
    longest_gap: float = DAY
    kept_listings: int = 5
    kept_keys: int = 500
    small_listing: float = 0.5
    recent_listings: int = 10


@dataclass(frozen=True, slots=True)
class Observe:
    """Record a poll of a source.

    Attributes:
        namespace: The namespace of the source; not empty.
        id: A random text, by which a repeated request recognises the first one.
        items: The items that the source lists, oldest first; ``None`` are those of the
            last listing, if the stored validators are ``validators``.
        retention: The numbers by which to decide.
        validators: Text that the poller stores with the listing.
        state: Text that the poller stores with the source; ``None`` keeps it.
    """

    namespace: str
    id: str
    items: Sequence[Item] | None
    retention: Retention
    validators: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """Record that a source could not be polled.

    Attributes:
        namespace: The namespace of the source; not empty.
        error: What went wrong.
        state: As in ``Observe``.
    """

    namespace: str
    error: str
    state: str | None = None


class Summary(NamedTuple):
    """What an observation changed, by the positions of the items in the listing.

    Attributes:
        changed: Items that were seen, and are pending again.
        replaced: Items that were marked, because each is an old one under a new key.
        baseline: Number of items that a first listing marked.
    """

    changed: tuple[int, ...] = ()
    replaced: tuple[int, ...] = ()
    baseline: int = 0

    def to_json(self) -> str:
        """Encode it, for the source's row."""
        return json.dumps(self, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Decode it."""
        changed, replaced, baseline = json.loads(text)
        return cls(tuple(changed), tuple(replaced), baseline)


class Totals(NamedTuple):
    """Sums over all polls of a source; the order is that in which they are stored."""

    polls: int = 0
    new: int = 0
    duplicates: int = 0
    changed: int = 0
    replaced: int = 0
    failed: int = 0

    @property
    def asked(self) -> int:
        """How often the source was polled, with or without success."""
        return self.polls + self.failed

    def plus(self, **counts: int) -> Totals:
        """Return the sums with some counts added."""
        return self._replace(
            **{name: getattr(self, name) + count for name, count in counts.items()}
        )

    def since(self, before: Totals) -> Totals:
        """Return what was added to earlier sums."""
        return Totals(*(now - then for now, then in zip(self, before, strict=True)))


class Observed(NamedTuple):
    """The result of an ``Observe``.

    Attributes:
        summary: What it changed.
        claimable: The positions of the listed items that can be claimed now.
        pending: Number of keys of the namespace that wait to be handled.
        oldest_pending: When the first of them was observed, in seconds since 1970.
        has_ended: Whether a key that was seen may not be seen any more.
        counted: What this poll has added to the sums of the source.
    """

    summary: Summary
    claimable: tuple[int, ...]
    pending: int
    oldest_pending: float | None
    has_ended: bool
    counted: Totals = Totals()


class Waiting(NamedTuple):
    """A key that waits to be handled, and can be claimed.

    Attributes:
        seq: Its place in the order of observation.
        key: The key.
        attempt: Number of claims on it.
    """

    seq: int
    key: str
    attempt: int


class WaitingPage(NamedTuple):
    """A page of keys that can be claimed.

    Attributes:
        keys: The keys, in the order of observation.
        cursor: Argument ``after`` of the next page; ``None`` if there is none.
        retry_after: Seconds until the first of the other keys that were examined can be
            claimed; ``None`` if none of them waits for a time.
    """

    keys: list[Waiting]
    cursor: int | None
    retry_after: float | None = None


class SourceState(NamedTuple):
    """The stored state of a source. Instants are seconds since 1970.

    Attributes:
        polls: Number of polls that let absent keys age.
        poll_clock: Seconds that have passed at polls.
        first_poll: The first successful poll.
        last_poll: The last one.
        listed: Number of keys that are listed.
        largest: Number of items of the largest listing.
        recent_sizes: Numbers of items of the last listings.
        baseline_at: When the first listing with items was observed.
        validators: As in ``Observe``.
        state: As in ``Observe``.
        error: Why the last poll failed; ``None`` if it did not.
        observation: The id of the last observation.
        summary: What that changed.
        totals: Sums over all polls.
        is_cleared: Whether the namespace was cleared, perhaps not to its end: then the
            next listing is a baseline, whatever rows are left.
    """

    polls: int = 0
    poll_clock: float = 0.0
    first_poll: float | None = None
    last_poll: float | None = None
    listed: int = 0
    largest: int = 0
    recent_sizes: tuple[int, ...] = ()
    baseline_at: float | None = None
    validators: str | None = None
    state: str | None = None
    error: str | None = None
    observation: str | None = None
    summary: Summary = Summary()
    totals: Totals = Totals()
    is_cleared: bool = False

    @property
    def is_polled(self) -> bool:
        """Was the source polled, with or without success, since it was cleared?"""
        return bool(self.totals.asked)

    @classmethod
    def of(cls, columns: Sequence[Any]) -> SourceState | None:
        """Return the state in the columns of a row; ``None`` if there is none."""
        polls, clock, first, last, listed, largest, sizes, *texts = columns
        baseline_at, validators, state, error, observation, summary, *rest = texts
        totals, recipe = rest
        if totals is None:
            return cls(is_cleared=True) if recipe == CLEARED else None
        return cls(
            polls, clock, first, last, listed or 0, largest or 0,
            tuple(json.loads(sizes)) if sizes else (),
            baseline_at, validators, state, error, observation,
            Summary.from_json(summary) if summary else Summary(),
            Totals(*json.loads(totals)),
            recipe == CLEARED,
        )  # fmt: skip

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of ``COLUMNS``, in their order."""
        return (
            *self[:6],
            json.dumps(self.recent_sizes),
            *self[7:12],
            self.summary.to_json(),
            json.dumps(self.totals),
            CLEARED if self.is_cleared else None,
        )


def columns_of(state: SourceState | None) -> tuple[Any, ...]:
    """Return the columns of ``COLUMNS`` of any state, as the store itself writes them.

    Those of no state, and of one that only says that the namespace was cleared, do not
    make it the namespace of a source.
    """
    if state is not None and state != SourceState(is_cleared=True):
        return state.columns()
    return 0, 0.0, *[None] * (len(COLUMNS) - 3), None if state is None else CLEARED


class SourceRecord(NamedTuple):
    """The state of a source, and how many of its keys are not handled.

    Attributes:
        state: The state.
        pending: Number of keys that wait to be handled, those of live claims included.
        held: Number of observed keys that are held.
        oldest_pending: When the first of the pending ones was observed, in seconds
            since 1970; ``None`` without one.
    """

    state: SourceState
    pending: int
    held: int
    oldest_pending: float | None

    def to_source(self, namespace: str) -> Source:
        """Return what users see of it."""
        state, totals = self.state, self.state.totals
        return Source(
            namespace=namespace,
            polls=totals.polls,
            first_poll=state.first_poll,
            last_poll=state.last_poll,
            listed=state.listed,
            pending=self.pending,
            held=self.held,
            baseline_at=state.baseline_at,
            validators=state.validators,
            state=state.state,
            error=state.error,
            new=totals.new,
            duplicates=totals.duplicates,
            changed=totals.changed,
            replaced=totals.replaced,
            failed=totals.failed,
            oldest_pending=self.oldest_pending,
        )


COLUMNS = (
    "polls", "poll_clock", "first_poll", "last_poll", "listed", "largest",
    "recent_sizes", "baseline_at", "validators", "poller_state", "last_error",
    "observation", "summary", "totals", "recipe",
)  # fmt: skip
"""The columns of a namespace that hold the state of its source."""
