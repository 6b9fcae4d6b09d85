"""What an observed listing changes, decided in memory.

A backend reads the state of the source and the rows of the listing's keys, in the
transaction in which it writes the result; or it writes under the condition that nothing
of that has changed since. The steps of an observation are these:

1. ``Decision`` is made of the request, the state and the time.
2. ``is_repeated``: the request was executed before, and nothing is written.
3. ``names`` are the keys whose rows to read; ``match`` gets them.
4. ``needs_listed``: ``decide`` has to get the listed rows that ``match`` did not; it
   says whether the namespace has live rows if ``needs_live`` asks for it.
5. ``decide`` returns the changes. Rows that are absent for long are removed by
   ``expiry``, after the changes were written.
"""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .._verdict import Verdict
from ._state_machine import verdict_of
from .listings import DAY, SourceState, Summary, Totals
from .operations import Listed, Row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .listings import Fail, Item, Observe

_POSITIONS = 2**16
"""More than a listing has items; the order of observation counts by poll and item."""


class Expiry(NamedTuple):
    """Which absent keys end: those seen, without a later ``kept_until``, and oldest.

    Attributes:
        poll: The last poll that listed them was this one, or an earlier one.
        clock: The poll clock at that poll was this one, or an earlier one.
        keep: The number of keys of the source that stay at least.
    """

    poll: int
    clock: float
    keep: int


class Changes(NamedTuple):
    """What an observation writes.

    Attributes:
        source: The state of the source.
        rows: The new rows, and those that change, whole but for texts that are
            ``None``: they stay as they are, and so does the rest of ``listed``.
        renamed: Pairs of the old and the new key of rows that get another key, before
            ``rows`` are written.
        left: The keys that are listed no more.
        listed: What ``listed`` of those becomes: ``poll`` and ``clock`` alone.
        expiry: Which absent keys end; ``None`` if that is not due.
        summary: What changed, for the caller.
    """

    source: SourceState
    rows: dict[str, Row]
    renamed: list[tuple[str, str]]
    left: list[str]
    listed: Listed
    expiry: Expiry | None
    summary: Summary

    @property
    def has_ended(self) -> bool:
        """May a key that was seen not be seen any more?"""
        return bool(self.summary.changed or self.renamed or self.expiry)


class Decision:
    """Decides what one request changes."""

    def __init__(
        self, request: Observe, stored: SourceState | None, now: float
    ) -> None:
        """Begin with what was stored, at the time of the transaction."""
        before = stored or SourceState()
        rules = request.retention
        self._request = request
        self._rules = rules
        self._before = before
        self._items = request.items or ()
        self._now = now  # the clock may have been ahead at the last poll
        self._at = max(now, before.last_poll or now)
        self._size = before.listed if request.items is None else len(self._items)
        usual = statistics.median(before.recent_sizes) if before.recent_sizes else 0
        self._is_small = self._size < rules.small_listing * usual
        self._polls, self._clock = before.polls, before.poll_clock
        if not self._is_small:
            self._polls += 1
            gap = self._at - (before.last_poll or self._at)
            self._clock += min(gap, rules.longest_gap)
        self._known: dict[int, tuple[str, Row]] = {}

    @property
    def is_repeated(self) -> bool:
        """Was the same request executed before?"""
        return self._before.observation == self._request.id

    def is_unchanged(self, listed: int) -> bool:
        """Is it certain that a source without a new listing lists the same keys?

        Args:
            listed: Number of rows that are listed; a key may have been forgotten.
        """
        return (
            (self._before.baseline_at is not None or not listed)
            and self._before.polls > 0
            and self._request.validators is not None
            and self._before.validators == self._request.validators
            and self._before.listed == listed
        )

    @property
    def names(self) -> list[str]:
        """The keys and the spellings of the listing, each once."""
        names = dict.fromkeys(item.key for item in self._items)
        for item in self._items:
            names.update(dict.fromkeys(item.spellings))
        return list(names)

    def match(self, rows: Mapping[str, Row]) -> None:
        """Find the row of each item, by its key or by an unambiguous spelling.

        Args:
            rows: The rows of ``names``, by their keys.
        """
        live = {
            key: _settled(row, self._now)
            for key, row in rows.items()
            if row.expires_at is None or row.expires_at > self._now
        }
        users = Counter(
            name for item in self._items for name in {item.key, *item.spellings}
        )
        for position, item in enumerate(self._items):
            for name in (item.key, *item.spellings):
                if name in live and (name == item.key or users[name] == 1):
                    self._known[position] = name, live[name]
                    break

    @property
    def needs_listed(self) -> bool:
        """Does ``decide`` depend on the listed rows of other keys?"""
        if self._request.items is None:
            return False
        listed = sum(_is_listed(row) for _, row in self._known.values())
        return self._before.is_cleared or listed != self._before.listed

    @property
    def needs_live(self) -> bool:
        """Does ``decide`` depend on whether there are live rows of other keys?"""
        if not self._items or self._before.baseline_at is not None:
            return False
        return self._before.is_cleared or not self._known

    def decide(
        self, others: Mapping[str, Row] | None = None, *, has_live_rows: bool = False
    ) -> Changes:
        """Return what the observation writes.

        Args:
            others: The listed rows with their aliases, if ``needs_listed``; those that
                matched may be among them.
            has_live_rows: Whether the namespace has any live row, if ``needs_live``.
        """
        matched = {name for name, _ in self._known.values()}
        absent: dict[str, Row] = {}
        if others and self._request.items is not None:
            absent = {key: row for key, row in others.items() if key not in matched}
        rows, renamed, changed = self._changed_rows()
        unknown = [
            position
            for position in range(len(self._items))
            if position not in self._known
        ]
        replaced: list[int] = []
        baseline: list[int] = []
        if self.needs_live and (self._before.is_cleared or not has_live_rows):
            first = self._rules.first
            baseline = [] if first is None else unknown[: max(len(unknown) - first, 0)]
        else:
            replaced = self._replaced(unknown, absent)
        rows.update(self._new_rows(unknown, {*replaced, *baseline}))
        summary = Summary(tuple(changed), tuple(replaced), len(baseline))
        new = len(unknown) - len(replaced) - len(baseline)
        left = [] if self._is_small else list(absent)
        return Changes(
            self._source(summary, new, len(absent) - len(left)),
            rows,
            renamed,
            left,
            Listed(poll=self._before.polls, clock=self._before.poll_clock),
            self._expiry(),
            summary,
        )

    def counted(self, changes: Changes | None) -> Totals:
        """Return what the observation adds to the sums of the source.

        Args:
            changes: What it writes; ``None`` if it was repeated.
        """
        return changes.source.totals.since(self._before.totals) if changes else Totals()

    def claimable(self, changes: Changes | None = None) -> tuple[int, ...]:
        """Return the positions of the items that can be claimed now.

        Args:
            changes: What the observation writes; ``None`` if it was repeated.
        """
        rows = changes.rows if changes else {}
        found = []
        for position, item in enumerate(self._items):
            row = rows.get(item.key)
            if row is None and position in self._known:
                _, row = self._known[position]
            if row is not None and verdict_of(row, self._now):
                found.append(position)
        return tuple(found)

    def _changed_rows(self) -> tuple[dict[str, Row], list[tuple[str, str]], list[int]]:
        """Return the known rows that change, new names, and what is pending again."""
        rows: dict[str, Row] = {}
        renamed: list[tuple[str, str]] = []
        changed: list[int] = []
        for position, (name, row) in self._known.items():
            item, seq, key = self._items[position], self._seq(position), name
            after = self._relisted(row, item, seq)
            if not _is_claimed(row, self._now):
                after = self._edited(after, item, seq)
                if name != item.key:
                    renamed.append((name, item.key))
                    key = item.key
            if row.lease_until is None and after.lease_until is not None:
                changed.append(position)
            if after is not row:
                rows[key] = after
        return rows, renamed, changed

    def _relisted(self, row: Row, item: Item, seq: int) -> Row:
        """Return the row of a key that is listed; the same one if it was before."""
        if _is_listed(row):
            return row
        listed = (row.listed or Listed())._replace(
            poll=self._polls, clock=None, alias=item.alias
        )
        if row.lease_until is not None and listed.seq is None:
            listed = listed._replace(seq=seq)
        if row.on_abandoned == "drop":  # the owner may die
            row = row._replace(on_abandoned="retry")
        return row._replace(listed=listed, expires_at=None)

    def _edited(self, row: Row, item: Item, seq: int) -> Row:
        """Return the row of a key whose item may have been edited.

        What waits gets the new note, and its attempts start anew; what is held gets the
        note; what is seen is pending again, as often as that is wanted.
        """
        assert row.listed is not None  # noqa: S101 - see _relisted
        count, _, digest = (row.listed.digest or "0:").partition(":")
        if item.digest is None or item.digest == digest:
            return row
        is_seen = row.lease_until is None
        if is_seen and digest and int(count) >= self._rules.changes:
            return row
        again = int(count) + bool(is_seen and digest)
        listed = row.listed._replace(digest=f"{again}:{item.digest}")
        if is_seen and not digest:
            return row._replace(listed=listed)
        if row.on_abandoned == "hold":
            return row._replace(listed=listed, note=item.note)
        if is_seen:
            listed = listed._replace(seq=seq)
        return _pending(row, listed, self._now, item.note)

    def _new_rows(
        self, unknown: Iterable[int], marked: Collection[int]
    ) -> dict[str, Row]:
        """Return the rows of the unknown items, of which some are only marked."""
        rows = {}
        for position in unknown:
            item = self._items[position]
            digest = None if item.digest is None else f"0:{item.digest}"
            listed = Listed(None, self._polls, None, None, item.alias, digest)
            row = Row(self._now, self._now, None, listed=listed)
            if position not in marked:
                listed = listed._replace(seq=self._seq(position))
                row = _pending(row, listed, self._now, item.note)
            rows[item.key] = row
        return rows

    def _replaced(self, unknown: Iterable[int], absent: Mapping[str, Row]) -> list[int]:
        """Return the positions of items that are absent ones under another key.

        The first word of their aliases is equal and occurs once in either listing, and
        one of the other words is equal, if both have any.
        """
        here = Counter(item.alias.split()[0] for item in self._items if item.alias)
        gone: dict[str, list[list[str]]] = {}
        for row in absent.values():
            if row.listed is not None and row.listed.alias:
                head, *words = row.listed.alias.split()
                gone.setdefault(head, []).append(words)
        found = []
        for position in unknown:
            head, *words = (self._items[position].alias or " - ").split()
            if here[head] == 1 and len(gone.get(head, ())) == 1:
                (others,) = gone[head]
                if not words or not others or set(words) & set(others):
                    found.append(position)
        return found

    def _seq(self, position: int) -> int:
        return self._before.totals.polls * _POSITIONS + position

    def _source(self, summary: Summary, new: int, kept: int) -> SourceState:
        """Return the state of the source.

        Args:
            summary: What changes.
            new: Number of items that become pending for the first time.
            kept: Number of listed keys that a small listing does not have.
        """
        before, request = self._before, self._request
        counts = {
            "new": new,
            "changed": len(summary.changed),
            "replaced": len(summary.replaced),
        }
        known = self._size - sum(counts.values()) - summary.baseline
        sizes = (*before.recent_sizes, self._size)
        return SourceState(
            self._polls,
            self._clock,
            self._at if before.first_poll is None else before.first_poll,
            self._at,
            self._size + kept,
            max(before.largest, self._size),
            sizes[-self._rules.recent_listings :],
            self._at
            if self._items and before.baseline_at is None
            else before.baseline_at,
            request.validators,
            before.state if request.state is None else request.state,
            None,
            request.id,
            summary,
            before.totals.plus(polls=1, duplicates=known, **counts),
            before.is_cleared and not self._items,
        )

    def _expiry(self) -> Expiry | None:
        """Return which keys end; that is due once in a day of the poll clock."""
        rules = self._rules
        period = min(DAY, rules.absent_for)
        if self._clock // period == self._before.poll_clock // period:
            return None
        largest = max(self._before.largest, self._size)
        return Expiry(
            self._polls - rules.absent_polls,
            self._clock - rules.absent_for,
            max(rules.kept_listings * largest, rules.kept_keys),
        )


def _settled(row: Row, now: float) -> Row:
    """Return the row of a mark in the place of a dropped claim, which is seen."""
    if row.lease_until is None or verdict_of(row, now) is not Verdict.DUPLICATE:
        return row
    return row._replace(lease_until=None, on_abandoned=None)


def _is_listed(row: Row) -> bool:
    return row.listed is not None and row.listed.clock is None


def _is_claimed(row: Row, now: float) -> bool:
    """Has the key an owner now?"""
    return (
        row.lease_until is not None
        and now < row.lease_until
        and row.on_abandoned is not None
    )


def _pending(row: Row, listed: Listed, now: float, note: str | None) -> Row:
    """Return the row of a key that waits to be handled for the first time."""
    return Row(row.first_seen, now, None, lease_until=now, note=note, listed=listed)


def merged(before: Row | None, after: Row) -> Row:
    """Return a row of ``Changes`` with the stored alias and digest, if it has none."""
    if before is None or before.listed is None or after.listed is None:
        return after
    alias = after.listed.alias or before.listed.alias
    digest = after.listed.digest or before.listed.digest
    return after._replace(listed=after.listed._replace(alias=alias, digest=digest))


def failed(stored: SourceState | None, failure: Fail) -> SourceState:
    """Return the state of a source that could not be polled."""
    before = stored or SourceState()
    return before._replace(
        error=failure.error,
        state=before.state if failure.state is None else failure.state,
        totals=before.totals.plus(failed=1),
    )


def count_waiting(rows: Iterable[Row], now: float) -> tuple[int, int, float | None]:
    """Count the observed keys that are not handled yet.

    Args:
        rows: Their rows.
        now: The time.

    Returns:
        How many are pending, how many are held, and when the first of the pending ones
        was observed.
    """
    pending, held = [], 0
    for row in rows:
        if verdict_of(row, now) is Verdict.HELD:
            held += 1
        else:
            pending.append(row.first_seen if row.attempt else row.last_seen)
    return len(pending), held, min(pending, default=None)
