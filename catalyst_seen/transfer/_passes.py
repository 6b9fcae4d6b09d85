"""One pass over two stores: finds what differs, from both sides."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ._comparison import Comparison, is_ending
from ._contents import Contents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..backends.listings import SourceState
    from ..backends.operations import Id, Row
    from ._side import Side


class FoundRow(NamedTuple):
    """A row that differs: what the target has to have, how it differs, for how long."""

    id: Id
    wanted: Row | None
    what: str
    lasts: bool


class FoundState(NamedTuple):
    """The state of a source that differs, likewise."""

    namespace: str
    wanted: SourceState | None
    what: str


class Sink(Protocol):
    """What is done with the differences of a pass.

    Attributes:
        is_writing: Is a row equal afterwards? If not, one that both sides have differs
            from either side, and is taken once.
    """

    is_writing: bool

    async def rows(self, found: Sequence[FoundRow]) -> None:
        """Take those of one page."""
        ...

    async def states(self, found: Sequence[FoundState]) -> None:
        """Take those of all sources."""
        ...


class Passes:
    """Passes over a source and its target."""

    def __init__(
        self,
        source: Side,
        target: Side,
        comparison: Comparison,
        advance: Callable[[int], None],
    ) -> None:
        self._source = source
        self._target = target
        self._comparison = comparison
        self._advance = advance
        self._extra = 0

    async def run(self, sink: Sink) -> tuple[Contents, int, int]:
        """Make a pass; return what the source has, and how many differences it found.

        The last number is that of the rows among them which only the target has.

        The states of sources come last: one that lists keys, of which the target has
        no rows, would end when programs stop in between.
        """
        contents = Contents()
        changed = await self._forwards(sink, contents)
        changed += await self._backwards(sink)
        changed += await self._states(sink, contents)
        return contents, changed, self._extra

    async def _forwards(self, sink: Sink, contents: Contents) -> int:
        """Read the source, and look its keys up in the target."""
        changed = 0
        async with aclosing(self._source.pages()) as pages:
            async for ids, rows in pages:
                contents.add(rows, self._source.now())
                present = await self._target.rows_of(ids)
                changed += await self._compare(sink, ids, rows, present)
        return changed

    async def _backwards(self, sink: Sink) -> int:
        """Read the target, and look its keys up in the source."""
        changed = 0
        async with aclosing(self._target.pages()) as pages:
            async for ids, present in pages:
                rows = await self._source.rows_of(ids)
                changed += await self._compare(
                    sink, ids, rows, present, skips_common=not sink.is_writing
                )
        return changed

    async def _compare(
        self,
        sink: Sink,
        ids: Sequence[Id],
        rows: Sequence[Row | None],
        present: Sequence[Row | None],
        *,
        skips_common: bool = False,
    ) -> int:
        """Pass on what differs; return how many differences will last.

        A row that expires about now may be on one side only, by its clock. One that
        both sides have is skipped where it was compared already.
        """
        self._advance(len(ids))
        if not self._comparison.ahead and rows == present:  # nearly always
            return 0
        now = max(self._source.now(), self._target.now())
        found, lasting = [], 0
        for id_, row, there in zip(ids, rows, present, strict=True):
            if skips_common and row is not None:
                continue
            wanted = self._comparison.converted(row) if row else None
            if what := self._comparison.difference(wanted, there):
                lasts = not (
                    (wanted is None or there is None)
                    and is_ending(wanted or there, now)
                )
                lasting += lasts
                self._extra += lasts and wanted is None
                if lasts or wanted is None:
                    found.append(FoundRow(id_, wanted, what, lasts))
        if found:
            await sink.rows(found)
        return lasting

    async def _states(self, sink: Sink, contents: Contents) -> int:
        wanted, present = await self._source.states(), await self._target.states()
        contents.sources = len(wanted)
        found = [
            FoundState(name, wanted.get(name), what)
            for name in {**wanted, **present}
            if (
                what := self._comparison.difference(wanted.get(name), present.get(name))
            )
        ]
        if found:
            await sink.states(found)
        return len(found)
