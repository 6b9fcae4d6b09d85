"""A receiver of webhooks on PostgreSQL: one effect for each delivery, in one commit.

    python examples/webhook_receiver.py postgresql://user:password@localhost/shop

The sender signs each delivery, waits ten seconds for the answer, and sends it again if
that is late or is not 2xx. The row of the order and the mark of its delivery are one
transaction: a worker that is killed leaves both, or neither.

The program sends itself each of three deliveries four times at once. To serve, call
``web.run_app(application(url))``; with ``reuse_port=True``, workers share a port.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import sys
from collections import Counter
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import asyncpg
from aiohttp import web

from catalyst_seen import (
    AsyncSeenStore,
    LeaseLostError,
    SeenStoreConfig,
    StoreError,
    StoreUnavailableError,
    Verdict,
)
from catalyst_seen.keys import storable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger("receiver")
SECRET = os.environ.get("WEBHOOK_SECRET", "a secret").encode()
STORE = web.AppKey("store", AsyncSeenStore)
POOL = web.AppKey("pool", asyncpg.Pool)
TABLE = """CREATE TABLE IF NOT EXISTS receiver_orders (
    delivery text NOT NULL, amount integer NOT NULL)"""
AWAY = (  # of the store, and of the program's own connection
    StoreError,
    LeaseLostError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server is shut down
    asyncpg.InsufficientResourcesError,
    OSError,  # also a TimeoutError
)
"""What passes: the sender shall come again. Other errors are bugs, and answered 500."""


async def book(connection: asyncpg.Connection, delivery: str, body: bytes) -> None:
    """Do the work of a delivery, in a transaction."""
    await connection.execute(
        "INSERT INTO receiver_orders VALUES ($1, $2)",
        delivery,
        int(json.loads(body)["amount"]),
    )


async def receive(request: web.Request) -> web.Response:
    """Answer a delivery: 2xx if it is done, by whomever; 503 if it shall come again."""
    delivery = request.headers.get("X-Delivery", "")
    body = await request.read()
    signature = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(request.headers.get("X-Signature", ""), signature):
        return web.Response(status=401)
    if not delivery.strip():
        return web.Response(status=400)
    try:
        async with request.app[STORE].claim(
            storable(delivery), lease="15s", keep_alive=True, wait="1s"
        ) as claim:
            if claim:
                pool = request.app[POOL]
                async with pool.acquire(timeout=2) as own, own.transaction():
                    await book(own, delivery, body)
                    await claim.confirm(connection=own)  # the last before the commit
    except AWAY as error:
        log.warning("delivery %s is to come again: %r", delivery, error)
        return later(5)
    if claim.verdict is Verdict.IN_FLIGHT:
        return later(claim.retry_after or 1)
    return web.Response(text=claim.verdict)


def later(seconds: float) -> web.Response:
    """Return the answer that asks the sender to come again."""
    return web.Response(status=503, headers={"Retry-After": str(int(seconds) + 1)})


async def databases(url: str, app: web.Application) -> AsyncIterator[None]:
    """Open the store, as soon as the server is there, and the pool of the handlers.

    The pool connects when a handler needs it. A server that hangs would hold a handler
    for ever, also in its rollback: hence ``command_timeout``.
    """
    store = AsyncSeenStore(
        SeenStoreConfig(url=url, schema="receiver_seen", timeout="2s"), ttl="30d"
    )
    while True:
        try:
            await store.open()
            break
        except StoreUnavailableError as error:
            log.warning("%s", error)
            await asyncio.sleep(1)
    async with (
        aclosing(store),
        asyncpg.create_pool(url, min_size=0, command_timeout=2) as pool,
    ):
        app[STORE], app[POOL] = store.namespace("shop"), pool
        yield


def application(url: str) -> web.Application:
    """Return the application of a worker."""
    app = web.Application()
    app.cleanup_ctx.append(partial(databases, url))
    app.router.add_post("/hook", receive)
    return app


async def main(url: str) -> None:
    """Send deliveries as a shop does, and count what came of them."""
    async with asyncpg.create_pool(url, min_size=0) as pool:
        await pool.execute(TABLE)
    runner = web.AppRunner(application(url))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    target = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    run = os.urandom(4).hex()

    async def send(session: aiohttp.ClientSession, number: int) -> str:
        body = json.dumps({"amount": 10 * number}).encode()
        headers = {
            "X-Delivery": f"{run}-{number}",
            "X-Signature": hmac.new(SECRET, body, hashlib.sha256).hexdigest(),
        }
        async with session.post(target, data=body, headers=headers) as answer:
            return f"{answer.status} {await answer.text()}".strip()

    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(
            *(send(session, number) for number in (1, 2, 3) for _ in range(4))
        )
    for answer, times in sorted(Counter(answers).items()):
        print(f"{times} x {answer}")
    count = "SELECT count(*) FROM receiver_orders WHERE starts_with(delivery, $1)"
    print("orders:", await runner.app[POOL].fetchval(count, run))
    await runner.cleanup()


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SEEN_STORE_URL")
    if not given:
        sys.exit(
            "Name a database: python examples/webhook_receiver.py postgresql://..."
            " (the table receiver_orders and the schema receiver_seen are made in it)"
        )
    asyncio.run(main(given))
