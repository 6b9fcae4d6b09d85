"""The HTTP server: metrics, and the probes of an orchestrator."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from catalyst_seen.metrics import prometheus_collector

from .._codes import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .keeper import Keeper

_UNAVAILABLE = 503
_INDEX = """catalyst-seen

/metrics   for Prometheus: what is in the database
/livez     200 while this process runs
/readyz    200 if the store answers a read and commits a write, else 503 and why not
"""


@asynccontextmanager
async def serving(keeper: Keeper, host: str, port: int) -> AsyncIterator[str]:
    """Serve in the block; yield the address.

    Raises:
        Failure: Nothing can be served there.
    """
    app = web.Application()
    app.router.add_get("/", _index)
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _Handlers(keeper).readyz)
    app.router.add_get("/metrics", _Handlers(keeper).metrics)
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as exc:
            problem = os.strerror(exc.errno) if exc.errno else str(exc)
            raise Failure(f"{host} port {port}: {problem}: choose another") from exc
        name, number, *_ = runner.addresses[0]
        yield f"http://{f'[{name}]' if ':' in name else name}:{number}"
    finally:
        await runner.cleanup()


class _Handlers:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def readyz(self, _: web.Request) -> web.Response:
        """Answer whether the store works."""
        reason = await self._keeper.why_not()
        if reason is None:
            return web.Response(text="ok\n")
        return web.Response(text=f"{reason}\n", status=_UNAVAILABLE)

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer a scrape."""
        store = await self._keeper.measured()
        if store is None:
            reason = f"{self._keeper.reason}\n"
            return web.Response(text=reason, status=_UNAVAILABLE)
        registry = CollectorRegistry()
        registry.register(prometheus_collector(store))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(registry)
        return web.Response(body=body, headers={"Content-Type": content_type})


async def _index(_: web.Request) -> web.Response:
    return web.Response(text=_INDEX)


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")
