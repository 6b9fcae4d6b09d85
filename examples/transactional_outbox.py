"""Exactly once, as far as a database reaches: an effect and its confirm in one commit.

    python examples/transactional_outbox.py postgresql://user:password@localhost/shop

A shop's webhook delivers orders, some of them twice. Each order is booked and a message
about it put into an outbox, in the same transaction that confirms the claim: all of it
is there, or nothing. A relay then sends what is in the outbox, and removes each message
in the transaction that confirms its claim. Here the process "dies" at the worst moment,
before the commit; the next attempt finds nothing half done.

Between the sending and the commit a real death would still send that message again: no
database can take back what has left it. So the receiver is given the order's name.
"""

from __future__ import annotations

import asyncio
import os
import sys

import asyncpg

from catalyst_seen import AsyncSeenStore, SeenStoreConfig
from catalyst_seen.backends.postgres import PostgresBackend

TABLES = """
    CREATE TABLE IF NOT EXISTS orders (name text PRIMARY KEY, amount integer NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox (name text PRIMARY KEY, message text NOT NULL);
"""
DELIVERED = [("order-1", 30), ("order-2", 25), ("order-1", 30), ("order-3", 45)]
FATAL = "order-2"


class Died(Exception):  # noqa: N818 - it stands for the end of the process
    """What happens at the worst moment."""


async def book(
    store: AsyncSeenStore, pool: asyncpg.Pool, name: str, amount: int
) -> None:
    """Book an order, unless it is booked: its row, its message and the confirm."""
    async with store.claim(name, namespace="orders") as claim:
        if not claim:
            print(f"{name}: {claim.verdict}, nothing to do")
            return
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO orders VALUES ($1, $2)", name, amount)
            await connection.execute(
                "INSERT INTO outbox VALUES ($1, $2)", name, f"thanks for {name}"
            )
            await claim.confirm(connection=connection)
            if name == FATAL and claim.attempt == 1:
                raise Died(f"{name}: died before the commit")
        print(f"{name}: booked at attempt {claim.attempt}")


async def relay(store: AsyncSeenStore, pool: asyncpg.Pool) -> None:
    """Send what is in the outbox; each message leaves it with its confirm."""
    for row in await pool.fetch("SELECT name, message FROM outbox ORDER BY name"):
        async with store.claim(row["name"], namespace="mail") as claim:
            if not claim:
                continue
            print(f"to the customer: {row['message']}")
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(
                    "DELETE FROM outbox WHERE name = $1", row["name"]
                )
                await claim.confirm(connection=connection)


async def main(url: str) -> None:
    """Let the webhook deliver, and the relay send."""
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        await pool.execute(TABLES)
        config = SeenStoreConfig(schema="shop_seen")
        async with AsyncSeenStore(PostgresBackend(pool, config)) as store:
            for name, amount in [*DELIVERED, (FATAL, 25)]:
                try:
                    await book(store, pool, name, amount)
                except Died as death:
                    print(death)
            await relay(store, pool)
            booked = await pool.fetchval("SELECT sum(amount) FROM orders")
            left = await pool.fetchval("SELECT count(*) FROM outbox")
            print(f"booked {booked}, in the outbox {left}")


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SEEN_STORE_URL")
    if not target:
        sys.exit(
            "Name a database: python examples/transactional_outbox.py postgresql://..."
            " (tables orders and outbox and the schema shop_seen are made in it)"
        )
    asyncio.run(main(target))
