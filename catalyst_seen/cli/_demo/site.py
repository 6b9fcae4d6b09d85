"""The outside world of the demo: a feed, and a webhook that fails now and then."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from .client import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Failure = Literal["unavailable", "dropped", "answer_lost", "slow"]
"""HTTP 503; a connection that is cut before the webhook has accepted the item, or
after it; and no answer in time."""

FAILURES: tuple[Failure, ...] = get_args(Failure)
_CHANCES: dict[Failure, float] = {
    "unavailable": 0.06,
    "dropped": 0.02,
    "answer_lost": 0.003,
    "slow": 0.01,
}
_LATENCY = (0.05, 0.5)
"""Seconds until the webhook accepts an item."""


class Delivery(NamedTuple):
    """An item that the webhook has accepted.

    Attributes:
        key: The item.
        worker: The number of the worker that sent it.
        is_answered: Was the answer sent?
        when: When it was accepted, on the monotonic clock.
    """

    key: str
    worker: int
    is_answered: bool
    when: float


class Site:
    """An HTTP server with the feed and the webhook.

    It knows what was published and what it has accepted, whatever the store says.

    Attributes:
        published: The items of the feed, the oldest first.
        is_over: Is the feed complete?
        deliveries: What the webhook has accepted.
        delivered: The items in that.
        failures: How often the webhook has failed.
    """

    def __init__(self) -> None:
        self.published: list[str] = []
        self.is_over = False
        self.deliveries: list[Delivery] = []
        self.delivered: set[str] = set()
        self.failures: Counter[Failure] = Counter()
        self._requests: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve on a free port of this machine, which is yielded."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", backlog=1_024)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for request in self._requests:
                request.cancel()
            await asyncio.gather(*self._requests, return_exceptions=True)

    def publish(self, count: int) -> None:
        """Append items to the feed."""
        first = len(self.published) + 1
        self.published += [f"item-{first + n}" for n in range(count)]

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                _, name, last = head.split()[1].split("/")
                if name == "feed":
                    body = json.dumps([self.published[int(last) :], self.is_over])
                    _answer(writer, "200 OK", body)
                else:
                    worker = head.partition("Worker: ")[2].split()[0]
                    await self._receive(reader, writer, last, int(worker))
                await writer.drain()
            finally:
                writer.close()

    async def _receive(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        key: str,
        worker: int,
    ) -> None:
        """Accept an item, or fail. A sender that is gone has sent nothing."""
        failure = _chance()
        latency = random.uniform(*_LATENCY)
        if failure == "slow":
            self.failures[failure] += 1
            latency = 5 * TIMEOUT
        if await _is_gone(reader, latency):
            return
        if failure and failure != "slow":
            self.failures[failure] += 1
        if failure == "unavailable":
            _answer(writer, "503 Service Unavailable")
        elif failure == "dropped":
            writer.transport.abort()
        else:
            self.delivered.add(key)
            now = time.monotonic()
            self.deliveries.append(Delivery(key, worker, not failure, now))
            if failure:
                writer.transport.abort()
            else:
                _answer(writer, "200 OK")


def _answer(writer: asyncio.StreamWriter, status: str, body: str = "") -> None:
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {len(body)}"
    writer.write(f"{head}\r\n\r\n{body}".encode())


async def _is_gone(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Wait for so long, or until the sender has cut the connection; has it?"""
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return False
    return True


def _chance() -> Failure | None:
    (chosen,) = random.choices(
        (*FAILURES, None), (*_CHANCES.values(), 1 - sum(_CHANCES.values()))
    )
    return chosen
