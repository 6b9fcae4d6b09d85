"""A way to a server on which answers get lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

import pytest

from catalyst_seen import AsyncSeenStore, OutcomeUnknownError

from .servers import HOST


class Lossy:
    """Leads to ``port``; loses the answers that it is told to.

    Attributes:
        lose: So many answers do not come: the server has carried out what was asked,
            then the connection breaks.
        lose_if: The next answer that contains this does not come either.
        end_after: The connection ends after the next answer that contains this.
        refuse: So many connections break before anything is asked.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.lose = 0
        self.refuse = 0
        self.lose_if = b""
        self.end_after = b""
        self._target = target
        self._ends: list[asyncio.StreamWriter] = []

    async def lead(
        self, near: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> None:
        """Pass on what comes over one connection."""
        if self.refuse:
            self.refuse -= 1
            back.transport.abort()
            return
        far, there = await asyncio.open_connection(HOST, self._target)
        self._ends += [back, there]
        answers = asyncio.create_task(self._answers(far, back))
        with suppress(OSError):
            while data := await near.read(65_536):
                there.write(data)
        there.close()
        answers.cancel()

    async def aclose(self) -> None:
        """End all connections."""
        for end in self._ends:
            end.transport.abort()
        await asyncio.sleep(0.01)

    async def _answers(
        self, far: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await far.read(65_536):
                if self.lose or (self.lose_if and self.lose_if in data):
                    self.lose, self.lose_if = max(0, self.lose - 1), b""
                    back.transport.abort()
                    return
                back.write(data)
                if self.end_after and self.end_after in data:
                    self.end_after = b""
                    break
        back.close()


async def check_nothing_is_undone(
    way: Lossy, store: AsyncSeenStore, other: AsyncSeenStore
) -> None:
    """Let a third party act between the attempts of a forget, and of a resolve.

    Args:
        way: The proxy.
        store: Connects through it.
        other: Does not.
    """

    async def held(key: str) -> None:
        await other.claim(key, lease=0.01, on_abandoned="hold")
        while not await other.held():
            await asyncio.sleep(0.005)

    async def lose(call: Awaitable[object]) -> asyncio.Future[object]:
        way.lose, way.refuse = 1, 1_000_000
        calling = asyncio.ensure_future(call)
        while way.lose:
            await asyncio.sleep(0.001)
        return calling

    async def is_unknown(calling: asyncio.Future[object]) -> None:
        way.refuse = 0
        with pytest.raises(OutcomeUnknownError):
            await calling

    await other.mark_seen("k")
    assert not await store.forget("connected")
    forgetting = await lose(store.forget("k"))
    assert await other.check_and_mark("k")
    await is_unknown(forgetting)
    assert not await other.check_and_mark("k")

    await held("h")
    resolving = await lose(store.resolve("h", handled=False))
    await held("h")
    await is_unknown(resolving)
    assert [record.key for record in await other.held()] == ["h"]


@asynccontextmanager
async def lossy(target: int) -> AsyncIterator[Lossy]:
    """Have such a way to a port."""
    made = Lossy(target)
    listening = await asyncio.start_server(made.lead, HOST, 0)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listening.close()
        await made.aclose()
