"""Delivers what is pending, and plans further attempts for what failed."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from catalyst_seen import LeaseLostError, StoreError

from .._notes import skipped
from .._output import counted, printable, span
from .._settings import talk
from .entries import entry_of

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore, Claim
    from catalyst_seen.feeds import Entry

    from .._settings import Settings
    from .wanted import EntryFilter

_LEASE = 30.0
"""Seconds after which an entry comes again whose process was killed."""

_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3_600.0
"""Seconds between attempts: the backoff of a store."""

_MOST_DOUBLINGS = 7


class DeliveryError(Exception):
    """An entry could not be delivered; it comes again.

    Attributes:
        problem: Why.
        is_later: Was another time asked for? Then the entry is never held.
    """

    def __init__(self, problem: str, *, is_later: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.is_later = is_later


class Destination(Protocol):
    """What gets the entries."""

    async def deliver(self, entry: Entry, claim: Claim) -> None:
        """Deliver an entry.

        Raises:
            DeliveryError: It is not delivered, and the others may be.
        """


class Deliveries:
    """Deliveries of one run.

    Attributes:
        counts: How many entries were ``delivered``, ``skipped`` (not wanted), and had
            ``failed`` attempts.
        is_store_failing: Did the store fail at the last delivery?
    """

    def __init__(
        self,
        settings: Settings,
        destination: Destination,
        wanted: EntryFilter,
        max_attempts: int | None,
        *,
        is_once: bool = False,
    ) -> None:
        """Deliver what is wanted; after ``max_attempts`` an entry is held.

        With ``is_once`` an entry that fails is tried again by a later run.
        """
        self._settings = settings
        self._destination = destination
        self._wanted = wanted
        self._max_attempts = max_attempts
        self._again_text = "again by a run after" if is_once else "again in"
        self.counts: Counter[str] = Counter()
        self.is_store_failing = False
        self._known: set[str] = set()
        self._again: list[tuple[float, str]] = []
        self._views: dict[str, tuple[AsyncSeenStore, str]] = {}

    async def deliver(self, view: AsyncSeenStore, namespace: str, shown: str) -> None:
        """Deliver what is pending in a namespace.

        Args:
            view: The store, bound to the namespace.
            namespace: The namespace.
            shown: How the source is called in messages.
        """
        self._views[namespace] = view, shown
        try:
            async for claim in view.pending(lease=_LEASE, keep_alive=True):
                await self._settle(claim, shown)
            if namespace not in self._known:
                self._known.add(namespace)
                await self._look(view, namespace, shown)
        except StoreError as exc:
            if not self.is_store_failing:
                talk(f"the store failed, entries stay pending: {exc}")
            self.is_store_failing = True
            self._plan(namespace, _FIRST_PAUSE)
        else:
            self.is_store_failing = False

    async def deliver_again(self) -> None:
        """Deliver what is due after a failed attempt."""
        now, due = asyncio.get_running_loop().time(), set[str]()
        while self._again and self._again[0][0] <= now:
            due.add(heapq.heappop(self._again)[1])
        for namespace in sorted(due):
            view, shown = self._views[namespace]
            await self.deliver(view, namespace, shown)

    def pause(self) -> float | None:
        """Return the seconds until something is due; ``None`` if nothing is."""
        if not self._again:
            return None
        return max(self._again[0][0] - asyncio.get_running_loop().time(), 0.0)

    async def pending(self) -> tuple[int, int]:
        """Return how many entries wait, and how many are held."""
        sources = [await view.source() for view, _ in self._views.values()]
        found = [source for source in sources if source]
        return sum(s.pending for s in found), sum(s.held for s in found)

    async def _settle(self, claim: Claim, shown: str) -> None:
        """Deliver the entry of a claim, and confirm it, or plan the next attempt."""
        try:
            async with claim:
                entry = entry_of(claim)
                if not self._wanted.wants(entry):
                    await claim.confirm(note=skipped(entry.title, entry.link))
                    self.counts["skipped"] += 1
                    return
                try:
                    await self._destination.deliver(entry, claim)
                except DeliveryError as exc:
                    await self._failed(claim, f"{shown}: {_name(entry)}", exc)
                    return
            self.counts["delivered"] += 1
        except LeaseLostError:
            self._settings.say(
                f"{shown}: {printable(claim.key)} was claimed by another process"
                " meanwhile: it may be delivered twice"
            )

    async def _failed(self, claim: Claim, what: str, exc: DeliveryError) -> None:
        most = self._max_attempts
        if exc.is_later or most is None or claim.attempt < most:
            doublings = min(claim.attempt - 1, _MOST_DOUBLINGS)
            pause = min(_FIRST_PAUSE * 2**doublings, _LONGEST_PAUSE)
            await claim.release(pause, error=exc.problem)
            self._plan(claim.namespace, pause)
            say = self._settings.explain if exc.is_later else talk
            say(f"{what}: {exc.problem}; {self._again_text} {span(pause)}")
        else:
            await claim.hold(exc.problem)
            attempts = counted(claim.attempt, "attempt")
            talk(
                f"{what}: {exc.problem}; held after {attempts}, see catalyst-seen held"
            )
        self.counts["failed"] += 1

    def _plan(self, namespace: str, pause: float) -> None:
        due = asyncio.get_running_loop().time() + pause
        heapq.heappush(self._again, (due, namespace))

    async def _look(self, view: AsyncSeenStore, namespace: str, shown: str) -> None:
        """Say what is held; plan an attempt for what another process has claimed."""
        source = await view.source()
        if source and source.held:
            self._settings.say(
                f"{shown}: {source.held} held, see catalyst-seen held -n {namespace}"
            )
        if source and source.pending:
            self._plan(namespace, _LEASE)


def _name(entry: Entry) -> str:
    return printable(entry.title or entry.link or entry.key)
