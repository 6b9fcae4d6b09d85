"""The receiver of webhooks on PostgreSQL, while its server fails."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import runpy
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer

from catalyst_seen import StoreUnavailableError
from catalyst_seen._claims.lease import Lease

from ..support.feeds import ROOT
from ..support.servers import Postgres

EXAMPLE = runpy.run_path(str(ROOT / "examples/webhook_receiver.py"))
SENDER_WAITS = 10.0


@dataclass
class Shop:
    """A sender, the receiver that it sends to, and the database of that."""

    client: TestClient[Any, Any]
    server: Postgres

    async def send(
        self, delivery: str = "d-1", body: bytes = b'{"amount": 1}', *, key: bytes = b""
    ) -> tuple[int, str]:
        """Send a delivery; return status and text of the answer."""
        secret = key or EXAMPLE["SECRET"]
        signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
        headers = {"X-Delivery": delivery, "X-Signature": signature}
        async with self.client.post("/hook", data=body, headers=headers) as answer:
            return answer.status, await answer.text()

    def orders(self) -> int:
        """How many orders are booked?"""
        [[(count,)]] = self.server.execute("SELECT count(*) FROM receiver_orders")
        assert isinstance(count, int)
        return count


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run a server that a test may let stand still."""
    with Postgres() as server:
        yield server


@pytest_asyncio.fixture
async def shop(server: Postgres) -> AsyncIterator[Shop]:
    """Run the receiver on an empty database."""
    server.execute(EXAMPLE["TABLE"])
    application = EXAMPLE["application"](server.url)
    async with TestClient(TestServer(application)) as client:
        yield Shop(client, server)
    server.execute("DROP TABLE receiver_orders", "DROP SCHEMA receiver_seen CASCADE")


async def test_answers(shop: Shop) -> None:
    """Each delivery is booked once; what cannot be meant is refused."""
    assert await shop.send() == (200, "new")
    assert await shop.send() == (200, "duplicate")
    assert (await shop.send(key=b"another"))[0] == 401
    assert (await shop.send(" "))[0] == 400
    assert shop.orders() == 1


async def test_bug(shop: Shop) -> None:
    """What will never work is an error, and no request to come again."""
    assert (await shop.send(body=b"no JSON"))[0] == 500
    assert (await shop.send(body=b'{"amount": "text"}'))[0] == 500
    shop.server.execute("ALTER TABLE receiver_orders RENAME TO elsewhere")
    assert (await shop.send())[0] == 500
    shop.server.execute("ALTER TABLE elsewhere RENAME TO receiver_orders")
    assert await shop.send() == (200, "retry")
    assert shop.orders() == 1


async def test_server_stands_still(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer comes while the sender waits, is logged, and nothing comes twice."""
    caplog.set_level(logging.WARNING)
    assert await shop.send() == (200, "new")
    shop.server.pause()
    try:
        begun = time.monotonic()
        answers = await asyncio.gather(shop.send("d-2"), shop.send("d-2"))
        assert {status for status, _ in answers} == {503}
        assert time.monotonic() < begun + SENDER_WAITS
        assert "delivery d-2 is to come again" in caplog.text
    finally:
        shop.server.resume()
    status, text = await shop.send("d-2")
    while status == 503:
        await asyncio.sleep(0.2)
        status, text = await shop.send("d-2")
    assert (status, text) in {(200, "new"), (200, "retry"), (200, "duplicate")}
    assert await shop.send("d-2") == (200, "duplicate")
    assert shop.orders() == 2


async def test_server_stands_still_in_the_transaction(shop: Shop) -> None:
    """So it is in the middle of the work, in whose place another statement waits."""
    shop.server.execute("""CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.5); RETURN new; END $$""")
    shop.server.execute("""CREATE TRIGGER slow BEFORE INSERT ON receiver_orders
        FOR EACH ROW EXECUTE FUNCTION wait()""")
    begun = time.monotonic()
    sending = asyncio.ensure_future(shop.send())
    await asyncio.sleep(0.3)
    shop.server.pause()
    try:
        assert (await sending)[0] == 503
        assert time.monotonic() < begun + SENDER_WAITS
    finally:
        shop.server.resume()
    while (answer := await shop.send())[0] == 503:
        await asyncio.sleep(0.2)
    assert answer[0] == 200
    assert shop.orders() == 1
    shop.server.execute("DROP TRIGGER slow ON receiver_orders", "DROP FUNCTION wait")


async def test_dies_after_the_commit(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is in the commit of the order, so that nothing after it matters."""

    async def died(*_: object) -> None:
        raise StoreUnavailableError("the store", "the worker has died", "start it")

    monkeypatch.setattr(Lease, "finish_block", died)
    assert (await shop.send())[0] == 503
    monkeypatch.undo()
    assert await shop.send() == (200, "duplicate")
    assert shop.orders() == 1


async def test_server_restarts(shop: Shop) -> None:
    """A server that is killed and started again costs no delivery, and doubles none."""
    assert await shop.send("d-0") == (200, "new")
    shop.server.kill()
    assert (await shop.send("d-1"))[0] == 503
    shop.server.start()
    while (answer := await shop.send("d-1"))[0] == 503:
        await asyncio.sleep(0.2)
    assert answer[0] == 200
    assert await shop.send("d-0") == (200, "duplicate")
    assert shop.orders() == 2
