"""The move of a store: passes that copy what differs, until nothing does."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from .._errors import ConfigurationError, LeaseLostError, StoreUnavailableError
from .._verdict import Verdict
from ..backends._unfinished import MARK, MARKER, note_of, source_of
from ._comparison import Comparison, difference_of
from ._contents import Contents
from ._passes import Passes
from ._side import Side
from ._sinks import Reporting, Writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._claims.claim import Claim
    from .._store import AsyncSeenStore
    from ._comparison import Difference
    from ._passes import Sink

_LEASE = 10.0
"""Seconds after which the move of a process that was killed can be continued."""

_EXACT = 0.001  # seconds: what databases round
_ABOUT = 1.0  # seconds: what makes no difference to a person
_SAMPLE = 100  # rows of a target that is not empty


@dataclass
class Pass:
    """The outcome of one pass over both stores.

    Attributes:
        source: What the source has.
        changed: How many rows and states of sources differed.
        earlier: How many differed in the pass before it, if one call has made both.
        extra: How many rows only the target had, in every pass of the call. A pass that
            copies has removed them.
    """

    source: Contents = field(default_factory=Contents)
    changed: int = 0
    earlier: int = 0
    extra: int = 0


class Transfer:
    """Moves every row, and the state of every source, from one store to another.

    A pass reads all that the source has and writes what the target has not, then reads
    the target and removes what the source has not. So the first pass copies, each later
    one takes what has changed meanwhile, and one that finds no difference has verified
    the copy. There is no log of changes, and no memory of keys: a move that was killed
    is begun again, and its first pass finds what is left to do.

    Rows are moved as they are: with the tokens of their claims, their notes and errors,
    and what their sources list. A lease keeps what is left of it, by the clock of each
    database; other instants stay. Rows that have expired, or will within five seconds,
    are not moved. The source is only read.
    """

    def __init__(
        self,
        source: AsyncSeenStore,
        target: AsyncSeenStore,
        advance: Callable[[int], None] = lambda _: None,
        name: Callable[[AsyncSeenStore], str] = lambda store: store.location,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Use two open stores.

        Args:
            source: The store whose rows are read.
            target: The store whose rows are written. Nothing else may use it; to go on
                with a move, open it by ``as_target``.
            advance: Is called with the number of rows that were compared, of the one
                store or the other, again and again during a pass.
            name: Returns what messages call a store; by default its location.
            wait: Is called when another process has the target, or had it and was
                killed, so that its lease is waited for: eleven seconds at most.

        Raises:
            ConfigurationError: The stores have the same database, or one of them a
                backend that cannot move its rows.
        """
        self._target_store = target
        self._source_store = source
        self._source, self._target = Side(source, MARKER), Side(target, MARKER)
        self._advance = advance
        self._wait = wait
        self._shown = _shown(name(source)), _shown(name(target))
        self._is_complete = False
        self._is_unmarked = False
        self._attempt = 0
        self._estimate: float | None = None
        if _are_same(self._source, self._target):
            raise ConfigurationError(
                "target", f"{self._shown[1]} is the source itself: name another"
            )

    async def check(self) -> None:
        """Check that the move can be begun, or continued, without writing anything.

        Raises:
            ConfigurationError: As in ``under_way``.
        """
        await self._check_marks()

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[bool]:
        """Mark the target while rows are written; yield whether it was marked before.

        The mark is a claim with the source in its note, so that one process at a time
        moves, and that a move whose process was killed goes on when the lease is over,
        in ten seconds. Leaving the block before ``complete`` has succeeded keeps it,
        and until then the target can be opened by ``as_target`` only.

        Raises:
            ConfigurationError: The target is not empty, or another source is moved to
                it; or a move to the source is not complete.
            StoreUnavailableError: Another process moves the same, or has gone on with
                it, because this one stood still for longer than the lease; or the
                target gave no answer for so long.
        """
        if await self._check_marks():
            self._wait()
        try:
            async with self._marked() as is_continued:
                yield is_continued
        except LeaseLostError as exc:
            if exc.namespace != MARKER:
                raise
            if not self._is_unmarked:
                raise await self._lost() from exc

    @asynccontextmanager
    async def _marked(self) -> AsyncIterator[bool]:
        note = note_of(_digest(self._source), self._shown[0])
        async with self._target_store.claim(
            MARK[1], namespace=MARKER, lease=_LEASE, ttl=None, wait=_LEASE + 1,
            keep_alive=True, on_abandoned="retry", note=note,
        ) as claim:  # fmt: skip
            if not claim:
                raise StoreUnavailableError(
                    self._shown[1],
                    "another process moves the same store to it",
                    "Wait for its end, or end it; then repeat this",
                )
            if claim.verdict is Verdict.NEW:
                await self._check_empty(is_marked=True)
            self._attempt = claim.attempt
            yield claim.verdict is not Verdict.NEW
            if self._is_complete:
                await self._unmark(claim)
            if not await claim.release() and not self._is_unmarked:
                raise self._taken_over()

    async def _unmark(self, claim: Claim) -> None:
        """Remove the mark while it is claimed, so that its claim is lost.

        Released first, it would be claimed by a process that waits for it, which would
        go on with the move, and remove what programs have marked on the target since.

        Raises:
            LeaseLostError: The mark is another process's.
        """
        await claim.renew()
        await self._target_store.forget(claim.key, namespace=MARKER)
        self._is_unmarked = True

    async def _lost(self) -> StoreUnavailableError:
        """Return why the lease was lost: the mark tells whether others have it."""
        try:
            mark = await self._target_store.get(MARK[1], namespace=MARKER)
        except StoreUnavailableError as exc:
            return exc
        if mark is None or mark.attempt != self._attempt:
            return self._taken_over()
        return StoreUnavailableError(
            self._shown[1],
            f"it gave no answer for the {_LEASE:.0f} seconds of the lease of this move",
            "Repeat the command: it goes on with the move",
        )

    def _taken_over(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            self._shown[1],
            "this process stood still for too long, and another process goes on with"
            " this move",
            "Wait for its end, or end it; then repeat this",
        )

    async def copy(self) -> Pass:
        """Make a pass, and write what differs. Only where ``under_way``."""
        return await self._run(_EXACT, Writing(self._target))

    async def complete(self) -> Pass:
        """Copy the rest and verify it, now that no program uses the source.

        Returns:
            The last pass. If it has changed anything, a program still writes to the
            source, and the move is not complete; nothing is lost.
        """
        done = await self.copy()
        if done.changed:
            last = await self.copy()
            done = replace(last, earlier=done.changed, extra=done.extra + last.extra)
        self._is_complete = not done.changed
        return done

    async def compare(self, report: Callable[[Difference], None]) -> Pass:
        """Make a pass that only compares; times to a second.

        Args:
            report: Is called with each difference.
        """
        return await self._run(_ABOUT, Reporting(report))

    async def _run(self, tolerance: float, sink: Sink) -> Pass:
        comparison = Comparison(self._ahead(), tolerance)
        passes = Passes(self._source, self._target, comparison, self._advance)
        contents, changed, extra = await passes.run(sink)
        return Pass(contents, changed, extra=extra)

    def _ahead(self) -> float:
        """Return by how much the clock of the target is ahead, as estimated once.

        A second estimate would be another one, and every lease would differ by it.
        """
        if self._estimate is None:
            self._estimate = difference_of(self._source.now(), self._target.now())
        return self._estimate

    async def _check_marks(self) -> bool:
        """Check the marks of both stores; is that of the target claimed?"""
        mark = await self._source_store.get(MARK[1], namespace=MARKER)
        if mark is not None:
            raise ConfigurationError(
                "source",
                f"{self._shown[0]} is incomplete: the move from"
                f" {source_of(mark.note)[1]} to it has not ended. Repeat that first",
            )
        mark = await self._target_store.get(MARK[1], namespace=MARKER)
        if mark is None:
            await self._check_empty(is_marked=False)
            return False
        digest, shown = source_of(mark.note)
        if digest != _digest(self._source):
            raise ConfigurationError(
                "target",
                f"the move from {shown} to {self._shown[1]} has not ended. Repeat that,"
                " or name another target",
            )
        return mark.state == "claimed"

    async def _check_empty(self, *, is_marked: bool) -> None:
        """Refuse a target with rows; remove the mark that was made meanwhile."""
        problem = await self._occupied()
        if problem is None:
            return
        if is_marked:
            await self._target_store.forget(MARK[1], namespace=MARKER)
        raise ConfigurationError("target", f"{self._shown[1]} {problem}")

    async def _occupied(self) -> str | None:
        async with aclosing(self._target.pages()) as pages:
            page = await anext((page async for page in pages if page[0]), None)
            if page is not None:
                ids, rows = page
                same = await self._source.rows_of(ids[:_SAMPLE])
                if same == rows[:_SAMPLE]:
                    return (
                        "has rows of the source, and no move to it is under way: that"
                        " move has ended, so that programs can use it; or it is the"
                        " source by another name. Compare them by --verify, and clear"
                        " neither. To go back or forward again after a move, name"
                        " a new file or another schema (URL#name), and change the"
                        " address in the programs: the old store has missed what came"
                        " since, so start no program on it"
                    )
                return "is not empty: name one that is, such as a new file"
        if set(await self._target.states()) - {MARKER}:
            return "has sources: name one that is empty, such as a new file"
        return None


async def count(
    store: AsyncSeenStore, advance: Callable[[int], None] = lambda _: None
) -> Contents:
    """Count what a store has, as a move would move it; reads every row.

    Args:
        store: The open store.
        advance: Is called with the number of rows that were read, again and again.

    Raises:
        ConfigurationError: Its backend cannot move its rows.
    """
    contents, side = Contents(), Side(store, MARKER)
    async with aclosing(side.pages()) as pages:
        async for ids, rows in pages:
            contents.add(rows, side.now())
            advance(len(ids))
    contents.sources = len(await side.states())
    return contents


async def under_way_from(store: AsyncSeenStore) -> str | None:
    """Return the source of a move that has not ended; ``None`` if there is none.

    Args:
        store: The target, opened by ``as_target``.

    Raises:
        StoreUnavailableError: The store failed.
    """
    mark = await store.get(MARK[1], namespace=MARKER)
    return None if mark is None else source_of(mark.note)[1]


def _are_same(source: Side, target: Side) -> bool:
    """Do two stores have the same database, as far as their addresses tell?"""
    if source.database != target.database:
        return False
    return source.location == target.location or source.database.startswith("/")


def _digest(side: Side) -> str:
    """Return what the mark says of a source; a path may be too long, or no text."""
    name = f"{side.location}\n{side.database}"
    return sha256(name.encode(errors="surrogateescape")).hexdigest()


def _shown(location: str) -> str:
    return location.encode(errors="backslashreplace").decode()[:1_000]
