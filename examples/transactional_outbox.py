"""Exactly once, inside a database: an effect and its confirm in one commit.

    python examples/transactional_outbox.py postgresql://user:password@localhost/shop

The webhook of a shop delivers orders, some of them twice. One transaction books the
order, puts a message into an outbox, and confirms the claim: all of that is stored, or
nothing. A relay sends the messages of the outbox, and removes each message in the
transaction that confirms its claim. The program simulates a crash at the worst moment,
before the commit; the next attempt finds no partial change.

A crash between sending a message and its commit would send the message again: a
database cannot recall a message. Therefore each message contains the name of the order,
by which the receiver recognises a repeat.
"""

from __future__ import annotations

import asyncio
import os
import sys

import asyncpg

from catalyst_seen import AsyncSeenStore, LeaseLostError, SeenStoreConfig, StoreError

TABLES = """
    CREATE TABLE IF NOT EXISTS orders (name text PRIMARY KEY, amount integer NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox (name text PRIMARY KEY, message text NOT NULL);
"""
DELIVERED = [("order-1", 30), ("order-2", 25), ("order-1", 30), ("order-3", 45)]
FATAL = "order-2"
LATER = (
    StoreError,
    LeaseLostError,
    asyncpg.PostgresError,  # of the transaction, as are the next two
    asyncpg.InterfaceError,
    OSError,
)
"""What a receiver answers with 503: the shop delivers the order again."""


class Died(Exception):  # noqa: N818 - it stands for the end of the process
    """A simulated crash."""


async def book(
    store: AsyncSeenStore, pool: asyncpg.Pool, name: str, amount: int
) -> None:
    """Book an order once: its row, its message and the confirm in one commit."""
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
    """Send the messages of the outbox; remove and confirm each in one commit."""
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
    """Deliver the orders, then run the relay."""
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        await pool.execute(TABLES)
        # The store has a pool of its own: busy handlers cannot keep it from renewals.
        config = SeenStoreConfig(url=url, schema="shop_seen")
        async with AsyncSeenStore(config) as store:
            for name, amount in [*DELIVERED, (FATAL, 25)]:
                try:
                    await book(store, pool, name, amount)
                except Died as death:
                    print(death)
                except LATER as error:
                    print(f"{name}: to be delivered again: {error}")
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
