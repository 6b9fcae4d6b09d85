"""What a worker knows of the outside: the feed, the webhook, and who counts."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from ..._pause import pause

if TYPE_CHECKING:
    from catalyst_seen import AsyncSeenStore

TIMEOUT = 2.0
"""Seconds after which a delivery has failed."""

_PATIENCE = 30.0
_EVERY = 0.1
_REFUSED = {"duplicate", "in_flight", "seen"}


class Client:
    """Speaks HTTP with the site of the demo.

    Attributes:
        in_flight: Number of deliveries that have no answer yet.
    """

    def __init__(self, port: int, number: int) -> None:
        """Open nothing yet.

        Args:
            port: The port of the site.
            number: The number of this worker.
        """
        self.in_flight = 0
        self._port = port
        self._number = number

    async def deliver(self, key: str) -> None:
        """Deliver an item to the webhook.

        Raises:
            OSError: It was not accepted, or that is unknown: an error status, a
                connection that was cut, or no answer in time.
        """
        self.in_flight += 1
        try:
            status, _ = await self._request(f"POST /webhook/{key}", TIMEOUT)
        finally:
            self.in_flight -= 1
        if status != 200:  # noqa: PLR2004
            raise ConnectionError(f"HTTP {status}")

    async def read_feed(self, position: int) -> tuple[list[str], bool]:
        """Return the items of the feed from a position on, and whether it is over."""
        _, body = await self._request(f"GET /feed/{position}", _PATIENCE)
        keys, is_over = json.loads(body)
        return keys, is_over

    async def _request(self, line: str, timeout: float) -> tuple[int, bytes]:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                head = f"{line} HTTP/1.1\r\nHost: localhost\r\nWorker: {self._number}"
                key = line.rpartition("/")[2]
                writer.write(f"{head}\r\nIdempotency-Key: {key}\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
        head, separator, body = answer.decode().partition("\r\n\r\n")
        if not separator:
            raise ConnectionResetError("the connection was cut")
        return int(head.split()[1]), body.encode()


async def report(store: AsyncSeenStore, client: Client) -> None:
    """Print again and again what this worker has done, as a line of JSON."""
    while True:
        _write(_counts(store, client))
        try:
            await pause(_EVERY)
        except asyncio.CancelledError:
            _write(_counts(store, client))
            raise


def _counts(store: AsyncSeenStore, client: Client) -> dict[str, int]:
    operations = store.metrics().operations
    refused = sum(n for what, n in operations.items() if what.outcome in _REFUSED)
    retries = sum(n for what, n in operations.items() if what.outcome == "retry")
    return {
        "calls": sum(operations.values()),
        "refused": refused,
        "retries": retries,
        "in_flight": client.in_flight,
    }


def _write(data: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(data)}\n")
    sys.stdout.flush()
