"""The listings of sources: read, decided in memory, and committed if nothing changed.

An observation reads the state of the source and the rows of the listing, in chunks;
``Decision`` decides; and one script call writes what changes, if the source and the
rows to write are still as they were read. Else it begins again: of several that observe
a source at once, one commits. What happens to the other rows meanwhile, as a claim or
a forget, counts as done after the observation.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

from ..._errors import StoreUnavailableError
from ..._pause import pause
from .._observation import Decision, count_waiting, failed, merged
from .._state_machine import verdict_of
from ..listings import Observed, SourceRecord, Waiting, WaitingPage
from .observing import Commit, Entry, Left
from .values import ABSENT, encode, encode_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from .._observation import Changes
    from ..listings import Fail, Observe
    from ..operations import Row
    from .inspection import Inspection
    from .observing import Member, Observing, State, Waits
    from .values import Stored

T = TypeVar("T")

_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.1
"""Seconds before an observation that another program has overtaken begins again."""

_SOURCES = 100
"""Sources that are read in one round trip, where all of them are."""

_COUNTED = 1_000
"""Pending keys that are read at once, where all of them are counted."""


class Listings:
    """Records the listings of an open store."""

    def __init__(
        self,
        observing: Observing,
        inspection: Inspection,
        location: str,
        timeout: float,
    ) -> None:
        self._observing = observing
        self._inspection = inspection
        self._location = location
        self._timeout = timeout

    async def observe(self, request: Observe) -> Observed | None:
        """Record a listing; see ``SupportsListings``."""
        names = Decision(request, None, 0.0).names

        async def attempt() -> tuple[bool, Observed | None]:
            return await self._observe_once(request, names)

        return await self._until_done(attempt)

    async def fail(self, failure: Fail) -> None:
        """Record that a source could not be polled."""

        async def attempt() -> tuple[bool, None]:
            state = await self._observing.state(failure.namespace)
            self._check_unlocked(state)
            after = encode_source(failed(state.state, failure))
            commit = Commit(state.value, after)
            waits = await self._observing.commit(failure.namespace, commit)
            return waits is not None, None

        await self._until_done(attempt)

    async def source(self, namespace: str) -> SourceRecord | None:
        """Read the state of a source."""
        read = await self._observing.state(namespace)
        if read.state is None or not read.state.is_polled:
            return None
        rows: list[Row] = []
        after = -1
        while True:
            members, now = await self._observing.page(namespace, after, _COUNTED)
            rows += _rows(members)
            if len(members) < _COUNTED:
                return SourceRecord(read.state, *count_waiting(rows, now))
            after = members[-1].seq

    async def sources(self) -> dict[str, SourceRecord]:
        """Read the states of all sources, many in a round trip."""
        found: dict[str, SourceRecord] = {}
        names = await self._observing.names()
        for first in range(0, len(names), _SOURCES):
            some = names[first : first + _SOURCES]
            states = await self._observing.states(some)
            pages = await self._observing.first_pages(some, _COUNTED)
            for name, read, page in zip(some, states, pages, strict=True):
                record = None
                if len(page[0]) == _COUNTED:
                    record = await self.source(name)
                elif read.state is not None and read.state.is_polled:
                    members, now = page
                    counts = count_waiting(_rows(members), now)
                    record = SourceRecord(read.state, *counts)
                if record is not None:
                    found[name] = record
        return found

    async def waiting(self, namespace: str, *, after: int, limit: int) -> WaitingPage:
        """Read the keys that were observed and can be claimed."""
        members, now = await self._observing.page(namespace, after, limit)
        rows = [(one, one.stored.row) for one in members if one.stored.row is not None]
        keys = [
            Waiting(one.seq, one.key, row.attempt)
            for one, row in rows
            if verdict_of(row, now)
        ]
        ends = [row.lease_until - now for _, row in rows if row.lease_until]
        later = min((end for end in ends if end > 0), default=None)
        cursor = members[-1].seq if len(members) == limit else None
        return WaitingPage(keys, cursor, later)

    async def _until_done(self, attempt: Callable[[], Awaitable[tuple[bool, T]]]) -> T:
        """Repeat an attempt until no other program has overtaken it."""
        deadline, backoff = time.monotonic() + self._timeout, _FIRST_PAUSE
        while True:
            is_done, result = await attempt()
            if is_done:
                return result
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    self._location,
                    "other programs change the source and its keys all the time (tried"
                    f" for {self._timeout:g} seconds)",
                    "Nothing was changed; let fewer programs poll one source",
                )
            await pause(backoff * random.uniform(0.5, 1))  # noqa: S311 - no secret
            backoff = min(2 * backoff, _LAST_PAUSE)

    def _check_unlocked(self, state: State) -> None:
        if state.is_locked:
            raise StoreUnavailableError(
                self._location,
                "the namespace is being renamed, or cleared, or that was not completed",
                "Nothing was changed; wait, or call rename or clear again",
            )

    async def _observe_once(
        self, request: Observe, names: list[str]
    ) -> tuple[bool, Observed | None]:
        """Observe; false if another program has overtaken this, and nothing is done."""
        state, stored, now = await self._observing.read(request.namespace, names)
        self._check_unlocked(state)
        stored = {key: one.at(now) for key, one in stored.items()}
        decision = Decision(request, state.state, now)
        decision.match({key: one.row for key, one in stored.items() if one.row})
        if decision.is_repeated and state.state is not None:
            waits = await self._observing.waits(request.namespace)
            summary = state.state.summary
            result = Observed(summary, decision.claimable(), *waits, has_ended=True)
            return True, result
        if request.items is None and not decision.is_unchanged(state.listed):
            return True, None
        others: dict[str, Row] = {}
        if decision.needs_listed:
            others = await self._others(request.namespace, stored)
        has_live_rows = decision.needs_live and (
            await self._inspection.is_occupied(request.namespace)
        )
        changes = decision.decide(others, has_live_rows=has_live_rows)
        waits_then = await self._commit(request.namespace, state, stored, changes)
        if waits_then is None:
            return False, None
        claimable = decision.claimable(changes)
        has_ended = changes.has_ended
        counted = decision.counted(changes)
        return True, Observed(
            changes.summary, claimable, *waits_then, has_ended, counted
        )

    async def _others(
        self, namespace: str, stored: Mapping[str, Stored]
    ) -> dict[str, Row]:
        """Return the listed rows; those that were not read yet are read."""
        listed = await self._observing.listed(namespace)
        absent = [key for key in listed if key not in stored]
        rows = dict(stored)
        if absent:
            _, others, _ = await self._observing.read(namespace, absent)
            rows.update(others)
        return {
            key: one.row
            for key, one in rows.items()
            if one.row and one.row.listed and one.row.listed.clock is None
        }

    async def _commit(
        self,
        namespace: str,
        state: State,
        stored: Mapping[str, Stored],
        changes: Changes,
    ) -> Waits | None:
        entries = []
        old_keys = {new: old for old, new in changes.renamed}
        for key in {**dict.fromkeys(old_keys), **dict.fromkeys(changes.rows)}:
            old_key = old_keys.get(key)
            before = stored.get(key, ABSENT)
            old = before if old_key is None else stored[old_key]
            row = changes.rows.get(key, old.row)
            assert row is not None  # noqa: S101 - it changes, or gets another key
            whole = merged(old.row, row)
            seq = whole.listed.seq if whole.listed else None
            moved = ABSENT if old_key is None else old
            entries.append(
                Entry(key, before, encode(whole), seq, row.note, old_key, moved)
            )
        _, poll, clock, *_ = changes.listed
        commit = Commit(
            state.value,
            encode_source(changes.source),
            entries,
            Left(changes.left, poll, clock or 0.0),
            changes.expiry,
        )
        return await self._observing.commit(namespace, commit)


def _rows(members: Sequence[Member]) -> list[Row]:
    return [one.stored.row for one in members if one.stored.row is not None]
