"""The sockets on which requests arrive, and how many connections there may be."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from ..._pause import pause
from .._codes import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from socket import socket

MOST = 100
"""Connections at once. One more ends the oldest: a scraper gets in, whoever keeps
connections open, and the store has files left to open."""

_BACKLOG = 100
_PATIENCE = 0.2  # seconds that requests under way have at the end
_SILENT = logging.getLogger("catalyst_seen.serve.requests")
"""aiohttp logs every wrong request with a traceback: anyone could fill a log."""

_SILENT.disabled = True


class Address(NamedTuple):
    """Where requests arrive.

    Attributes:
        url: For a person, and for a scraper.
        is_local: Is it reached from this machine only?
    """

    url: str
    is_local: bool


@asynccontextmanager
async def listening(
    application: web.Application, host: str, port: int, longest: float
) -> AsyncIterator[list[Address]]:
    """Answer requests until the end of the block; yield where.

    Args:
        application: What answers.
        host: The address, or a name that has one or more.
        port: The port; 0 is one that is free.
        longest: Seconds after which a connection is ended, at the latest after twice as
            long, whatever it does.

    Raises:
        Failure: The address cannot be used.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        lingering_time=0,
        logger=_SILENT,
        shutdown_timeout=_PATIENCE,
    )
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - for the type
    connections = _Connections(runner.server)
    sweep = asyncio.create_task(connections.sweep(longest))
    server: asyncio.Server | None = None
    try:
        server = await _listen(connections, host, port)
        yield [_address(each) for each in server.sockets]
    finally:
        if server is not None:
            server.close()
        sweep.cancel()
        await runner.cleanup()


async def _listen(connections: _Connections, host: str, port: int) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(connections, host, port, backlog=_BACKLOG)
    except OSError as exc:
        is_of_system = exc.errno is not None and exc.errno > 0  # or of a resolver
        problem = os.strerror(exc.errno or 0) if is_of_system else exc.strerror
        raise Failure(f"{host} port {port}: {problem}: choose another") from exc


def _address(of: socket) -> Address:
    host, port = of.getsockname()[:2]
    ip = ipaddress.ip_address(host.partition("%")[0])
    shown = f"[{host}]" if ip.version == 6 else host  # noqa: PLR2004
    return Address(f"http://{shown}:{port}", ip.is_loopback)


class _Connections:
    """Makes the protocol of each connection, and ends those that nobody needs."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        live = [one for one in self._server.connections if one.transport is not None]
        for oldest in live[: len(live) + 1 - MOST]:
            _end(oldest)
        return self._server()

    async def sweep(self, longest: float) -> None:
        """End what is open at two times with so many seconds between them."""
        before: set[web.RequestHandler] = set()
        while True:
            await pause(longest)
            now = set(self._server.connections)
            for old in before & now:
                _end(old)
            before = now


def _end(connection: web.RequestHandler) -> None:
    """End a connection at once, also if nobody reads what was written."""
    transport = connection.transport
    connection.force_close()
    if isinstance(transport, asyncio.Transport):
        transport.abort()
