"""One attempt to record a listing, in a transaction.

The rows of the listing's keys are read without a lock, because most of them do not
change. Those that do are locked when they are written; if one of them is not as it was
read, the attempt raises ``MovedError``, and its transaction changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .._observation import Decision
from .._sql_rows import row_of
from ..listings import Observed, SourceState
from ..operations import Listed, Row
from . import sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import asyncpg

    from .._observation import Changes, Expiry
    from ..listings import Observe
    from .tables import Tables

T = TypeVar("T")

_PAGE = 1_000
"""Keys per statement."""


class MovedError(Exception):
    """Another transaction has changed a row since it was read."""


class _Stored(NamedTuple):
    """A row as it was read.

    Attributes:
        version: Its version, which every change replaces.
        has_detail: Whether its detail counts.
        row: The row without its note; ``None`` if it has expired.
    """

    version: int | None = None
    has_detail: bool = False
    row: Row | None = None


_NONE = _Stored()


class Observation:
    """One attempt; see ``SupportsListings.observe``."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        tables: Tables,
        request: Observe,
        timeout: float,
    ) -> None:
        """Prepare an attempt.

        Args:
            connection: The connection, in a transaction.
            tables: The tables of the store.
            request: What to observe.
            timeout: Seconds that a statement may take.
        """
        self._connection = connection
        self._tables = tables
        self._request = request
        self._timeout = timeout
        self._stored: dict[str, _Stored] = {}
        self._id = 0
        self._now = 0.0

    async def execute(self) -> Observed | None:
        """Read, decide and write."""
        request = self._request
        found = await lock_source(
            self._connection, self._tables, request.namespace, self._timeout,
            may_insert=request.items is not None,
        )  # fmt: skip
        if found is None:
            return None
        self._id, self._now, stored = found
        decision = Decision(request, stored, self._now)
        await self._match(decision)
        changes = None
        if not decision.is_repeated:
            if request.items is None:
                listed = await self._fetch(sources.COUNT_LISTED)
                if not decision.is_unchanged(listed[0][0]):
                    return None
            changes = await self._decide(decision)
            await self._write(changes)
        source = changes.source if changes else stored
        assert source is not None  # noqa: S101 - it was observed before
        ((pending, _, oldest),) = await self._fetch(sources.COUNT_WAITING)
        has_ended = changes is None or changes.has_ended
        claimable = decision.claimable(changes)
        return Observed(
            source.summary, claimable, pending, oldest, has_ended,
            decision.counted(changes),
        )  # fmt: skip

    async def _match(self, decision: Decision) -> None:
        """Read the rows of the listing's keys."""
        rows: dict[str, Row] = {}
        for names in _pages(decision.names):
            for record in await self._fetch(sources.READ, names, self._now):
                key, stored = _read(record)
                self._stored[key] = stored
                if stored.row is not None:
                    rows[key] = stored.row
        decision.match(rows)

    async def _decide(self, decision: Decision) -> Changes:
        others = await self._read_listed() if decision.needs_listed else None
        has_live_rows = False
        if decision.needs_live:
            ((has_live_rows,),) = await self._fetch(sources.HAS_LIVE, self._now)
        return decision.decide(others, has_live_rows=has_live_rows)

    async def _read_listed(self) -> dict[str, Row]:
        """Read the keys that are listed, with their aliases."""
        rows: dict[str, Row] = {}
        key = ""
        while True:
            page = await self._fetch(sources.READ_LISTED, key, _PAGE)
            for key, alias in page:
                rows[key] = Row(0, 0, None, listed=Listed(alias=alias))
            if len(page) < _PAGE:
                return rows

    async def _write(self, changes: Changes) -> None:
        """Write what the observation changes."""
        writing = _Writing(changes, self._stored)
        for page in _pages(writing.rows):
            ((written,),) = await self._fetch(sources.WRITE, *_columns(page))
            if written < len(page):
                raise MovedError("another transaction has changed a key meanwhile")
        await self._write_details(writing)
        for olds in _pages([old for old, _ in changes.renamed]):
            await self._fetch(sources.REMOVE, olds)
        skipped = 0
        left = changes.listed.poll, changes.listed.clock
        for keys in _pages(sorted(changes.left)):
            ((written,),) = await self._fetch(sources.LEAVE, keys, *left)
            skipped += len(keys) - written
        if changes.expiry is not None:
            await self._expire(changes.expiry)
        # The next poll finds more rows listed than it expects, and reads them.
        listed = changes.source.listed + skipped
        source = changes.source._replace(listed=listed)
        await self._fetch(sources.WRITE_SOURCE, *source.columns())

    async def _write_details(self, writing: _Writing) -> None:
        """Write the texts of rows whose locks are held."""
        for pairs in _pages(writing.moved):
            olds, news = _columns(pairs)
            await self._fetch(sources.COPY_DETAILS, olds, news)
            await self._fetch(sources.REMOVE_DETAILS, olds)
        for keys in _pages(writing.undetailed):
            await self._fetch(sources.REMOVE_DETAILS, keys)
        for statement, details in (
            (sources.WRITE_DETAILS, writing.detailed),
            (sources.MERGE_DETAILS, writing.merged),
        ):
            for page in _pages(details):
                await self._fetch(statement, *_columns(page))

    async def _expire(self, expiry: Expiry) -> None:
        await self._fetch(sources.EXPIRE, *expiry, self._now)

    async def _fetch(self, template: str, *parameters: object) -> list[asyncpg.Record]:
        """Execute a statement on the namespace, which is its first parameter."""
        records: list[asyncpg.Record] = await self._connection.fetch(
            self._tables.render(template), self._id, *parameters, timeout=self._timeout
        )
        return records


class _Writing:
    """The rows and details that an observation writes.

    Attributes:
        rows: The columns of the rows, sorted by their keys, as batches lock them. The
            old row of a key that was renamed is among them, to be locked in its turn.
        moved: Old and new keys of the details of renamed rows.
        detailed: The details of rows that had none that counts.
        merged: The details that change, whose note may stay.
        undetailed: Keys whose detail belonged to a row that has expired.
    """

    def __init__(self, changes: Changes, stored: dict[str, _Stored]) -> None:
        self.rows: list[tuple[object, ...]] = []
        self.moved: list[tuple[str, str]] = []
        self.detailed: list[tuple[str | bytes | None, ...]] = []
        self.merged: list[tuple[str | bytes | None, ...]] = []
        self.undetailed: list[str] = []
        renamed: dict[str, _Stored] = {}
        for old, new in changes.renamed:
            before = renamed[new] = stored[old]
            assert before.row is not None  # noqa: S101 - an expired row has no key
            self._add(old, before, before.row, has_detail=before.has_detail)
            if before.has_detail:
                self.moved.append((old, new))
        rows = {new: before.row for new, before in renamed.items()} | changes.rows
        for key, row in rows.items():
            assert row is not None  # noqa: S101 - as above
            here = stored.get(key, _NONE)
            before = renamed.get(key, here)
            has_detail = self._add_detail(key, before, row)
            if here.has_detail and not has_detail:
                self.undetailed.append(key)
            self._add(key, here, row, has_detail=has_detail)
        self.rows.sort(key=lambda columns: columns[0])  # type: ignore[arg-type, return-value]

    def _add(self, key: str, here: _Stored, row: Row, *, has_detail: bool) -> None:
        listed = row.listed or Listed()
        poll = None if row.listed is None else listed.poll
        self.rows.append(
            (key, here.version, *row[:7], listed.seq, poll, *listed[2:4], has_detail)
        )

    def _add_detail(self, key: str, before: _Stored, row: Row) -> bool:
        """Add the detail of a row; return whether it has one."""
        after = row.listed or Listed()
        had_detail = before.has_detail and before.row is not None
        if not had_detail:
            texts = row.note, after.alias, _encoded(after.digest), row.error
            if any(texts):
                self.detailed.append((key, *texts))
            return any(texts)
        assert before.row is not None  # noqa: S101 - see above
        old = before.row.listed or Listed()
        kept = old.alias, old.digest, before.row.error
        now = after.alias or old.alias, after.digest or old.digest, row.error
        if row.note is not None or now != kept:
            alias, digest, error = now
            self.merged.append((key, row.note, alias, _encoded(digest), error))
        return True


async def lock_source(
    connection: asyncpg.Connection,
    tables: Tables,
    namespace: str,
    timeout: float,
    *,
    may_insert: bool,
) -> tuple[int, float, SourceState | None] | None:
    """Lock the source of a namespace until the end of the transaction.

    Returns:
        The id of the namespace, the time, and the state of the source. ``None`` if
        there is no such namespace, and none may be inserted.
    """
    statement = tables.render(sources.LOCK_SOURCE)
    while True:
        found = await connection.fetchrow(
            statement, namespace, may_insert, timeout=timeout
        )
        if found is not None:
            id_, now, *columns = found
            return id_, now, SourceState.of(columns)
        if not may_insert:
            return None


def _read(record: Sequence[Any]) -> tuple[str, _Stored]:
    """Return the key of a record, and its row."""
    key, version, is_expired, has_detail, *columns = record
    if is_expired:
        return key, _Stored(version, has_detail)
    *row, error, alias, digest = columns
    return key, _Stored(version, has_detail, row_of((*row, None, alias, digest, error)))


def _encoded(digest: str | None) -> bytes | None:
    return None if digest is None else digest.encode()


def _pages(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for first in range(0, len(values), _PAGE):
        yield values[first : first + _PAGE]


def _columns(page: Sequence[tuple[object, ...]]) -> list[list[object]]:
    """Return the values of a page by their columns."""
    return [list(column) for column in zip(*page, strict=True)]
