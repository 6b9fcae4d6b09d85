"""The pages: metrics for Prometheus, and answers for probes."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from catalyst_seen.metrics import Health, prometheus_collector

from .._settings import talk

if TYPE_CHECKING:
    from .store import ServedStore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OK, _UNAVAILABLE = 200, 503
_INDEX = """catalyst-seen

/metrics   for Prometheus: what is in the database
/livez     200 while this process runs
/readyz    200 if the store answers a read and commits a write, else 503 and why not
"""


def application(served: ServedStore) -> web.Application:
    """Return the application that answers for a store."""
    pages = _Pages(served)
    made = web.Application(middlewares=[_answered])
    made.router.add_get("/", pages.links)
    made.router.add_get("/metrics", pages.metrics)
    made.router.add_get("/livez", pages.livez)
    made.router.add_get("/readyz", pages.readyz)
    return made


class _Pages:
    def __init__(self, served: ServedStore) -> None:
        self._served = served

    async def links(self, _: web.Request) -> web.Response:
        return _text(_INDEX)

    async def livez(self, _: web.Request) -> web.Response:
        return _text("ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        answer = await self._served.health()
        return _text("ok\n") if answer else _refused(answer)

    async def metrics(self, request: web.Request) -> web.Response:
        store = await self._served.opened()
        if isinstance(store, Health):
            return _refused(store)
        registry = CollectorRegistry()
        registry.register(prometheus_collector(store))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type}
        return web.Response(body=encode(registry), headers=headers)


def _refused(answer: Health) -> web.Response:
    return _text(f"{answer.reason}\n", _UNAVAILABLE)


def _text(text: str, status: int = _OK) -> web.Response:
    return web.Response(text=text, status=status)


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer each request, also a wrong one, and close the connection after it."""
    try:
        answer = await handler(request)
    except web.HTTPException as exc:
        answer = _text(f"{exc.status} {exc.reason}; / lists the pages\n", exc.status)
        if isinstance(exc, web.HTTPMethodNotAllowed):
            answer.headers["Allow"] = exc.headers["Allow"]
    except Exception as exc:  # noqa: BLE001 - the next request may succeed
        fault = "".join(traceback.format_exception(exc))
        talk(f"a fault of catalyst-seen, please report it: {fault}")
        answer = _text("a fault of catalyst-seen; its standard error has more\n", 500)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Server"] = "catalyst-seen"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.force_close()
    return answer
