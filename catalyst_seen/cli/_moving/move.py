"""A move from one store to another, as a person sees it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from catalyst_seen.transfer import Difference, Transfer, check_can_be_made, count

from .._asking import enter_pressed, is_a_person_there
from .._codes import Code, Failure
from .._output import Rows, counted, progress
from .._records.lookup import has_keys
from .._settings import talk
from .._stores import NoStoreError, address_of, configuration, opened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from catalyst_seen import AsyncSeenStore
    from catalyst_seen.transfer import Contents, Pass

    from .._settings import Settings


_WHO = "fuser names it; `catalyst-seen serve` counts as well"


class Move:
    """A move, pass by pass, with what is said about it."""

    def __init__(
        self, settings: Settings, source: AsyncSeenStore, target: AsyncSeenStore
    ) -> None:
        self._settings = settings
        self._source = source
        self._transfer = Transfer(
            source, target, self._advance, address_of, self._tell_wait
        )
        self._show: Callable[[int], None] = lambda _: None
        self._rows = 0
        self._passes = 0
        self._keys: int | None = None

    async def run(self, *, few: int, is_stopped: bool) -> Contents:
        """Move everything; return what was moved.

        Args:
            few: A pass that changes no more rows than this is followed by the last.
            is_stopped: Are the programs that use the source stopped already?
        """
        try:
            done = await self._run(few, is_stopped=is_stopped)
        except asyncio.CancelledError:
            self._settings.say("ended: repeat the command to go on with the move")
            raise
        if done.changed:
            raise Failure(
                f"{counted(done.changed, 'row')} changed during the comparison: a"
                f" program still writes to {address_of(self._source)}. Stop it, and"
                " repeat this with --stopped; nothing is lost",
                Code.NO,
            )
        return done.source

    async def _run(self, few: int, *, is_stopped: bool) -> Pass:
        async with self._transfer.under_way() as is_continued:
            if is_continued:
                self._settings.say("an earlier move goes on")
            if is_stopped:
                await self._check_alone()
            else:
                await self._copy_until(few)
                await self._wait_for_stop()
            return await self._step(
                "the rest, and a comparison", self._transfer.complete
            )

    def _tell_wait(self) -> None:
        self._settings.say(
            "another process moves the same, or was killed at it: waiting for up to 11"
            " seconds, until its lease ends"
        )

    async def _copy_until(self, few: int) -> None:
        """Make passes while each leaves much less to do than the one before."""
        before = None
        while True:
            self._passes += 1
            done = await self._step(f"pass {self._passes}", self._transfer.copy)
            self._keys = done.source.keys
            if done.changed <= few or (before and done.changed > before / 2):
                return  # the rest is what changes during a pass
            before = done.changed

    async def _step(self, name: str, work: Callable[[], Awaitable[Pass]]) -> Pass:
        started, self._rows = time.monotonic(), 0
        total = None if self._keys is None else 2 * self._keys
        with progress(self._settings, name, total) as self._show:
            done = await work()
        seconds = time.monotonic() - started
        keys = counted(done.source.keys, "key")
        changes = counted(done.earlier + done.changed, "change")
        speed = self._rows / max(seconds, 0.001)
        self._settings.say(
            f"{name}: {keys}, {changes} in {seconds:.1f} s ({speed:,.0f} rows/s)"
        )
        if done.extra:
            extra = counted(done.extra, "key")
            self._settings.say(f"{name}: removed {extra} that only the target had")
        return done

    def _advance(self, rows: int) -> None:
        self._rows += rows
        self._show(rows)

    async def _wait_for_stop(self) -> None:
        where = address_of(self._source)
        if not is_a_person_there():
            raise Failure(
                f"nearly all is moved. Stop every program that uses {where}, then"
                " repeat this command with --stopped",
                Code.NO,
            )
        while True:
            # Also with --quiet: the command waits for the answer.
            talk(f"stop every program that uses {where}, then press Enter")
            if not await enter_pressed():
                raise Failure("not confirmed; the same command goes on later", Code.NO)
            if not await self._is_shared():
                return
            talk(f"another program still has {where} open: {_WHO}")

    async def _check_alone(self) -> None:
        if await self._is_shared():
            raise Failure(
                f"another program still has {address_of(self._source)} open: {_WHO}."
                " End it, and repeat this with --stopped",
                Code.NO,
            )

    async def _is_shared(self) -> bool:
        return (await self._source.check()).is_shared


async def verify(
    settings: Settings, source: AsyncSeenStore, target: AsyncSeenStore
) -> bool:
    """Write every difference of two stores; true if there is none."""
    kinds = dict.fromkeys(("missing", "extra", "changed"), 0)
    with (
        progress(settings, "compared") as advance,
        Rows(settings, {"namespace": "text", "key": "text", "what": "text"}) as rows,
    ):

        def report(found: Difference) -> None:
            kinds[found.what if found.what in kinds else "changed"] += 1
            rows.add(**found._asdict())

        done = await Transfer(source, target, advance, address_of).compare(report)
    keys, sources = done.source.keys, done.source.sources
    how = "equal"
    if done.changed:
        parts = ", ".join(f"{kind} {number:,}" for kind, number in kinds.items())
        how = f"{counted(done.changed, 'difference')} ({parts})"
    settings.say(f"{counted(keys, 'key')} and {counted(sources, 'source')}: {how}")
    return not done.changed


async def rehearse(settings: Settings, source: AsyncSeenStore, to: str) -> Contents:
    """Count what would be moved, after a look at the target, if there is one."""
    try:
        async with opened(settings, may_be_unfinished=True, target=to) as target:
            await Transfer(source, target, name=address_of).check()
    except NoStoreError as exc:
        await check_can_be_made(configuration(to, create=True))
        settings.say(f"{exc.location} would be made")
    with progress(settings, "counted") as advance:
        return await count(source, advance)


async def check_not_empty(source: AsyncSeenStore) -> None:
    """Refuse a store without anything: a wrong name has it, and would be moved."""
    if await has_keys(source, None) or await source.sources():
        return
    raise Failure(
        f"{address_of(source)} has nothing to move; a # and a name after a URL is the"
        " prefix on Redis, the schema on PostgreSQL",
        Code.NO,
    )


def write_contents(settings: Settings, contents: Contents) -> None:
    """Write how many keys of each kind were moved."""
    with Rows(settings, {"what": "text", "count": "number"}) as rows:
        for what, number in contents.as_dict().items():
            rows.add(what=what, count=number)
