"""A store for one job: opened, used and closed by ``async with``.

    python examples/scoped_session.py

Run it twice: in the second run every order is a duplicate.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from catalyst_seen import AsyncSeenStore

ORDERS = ["order-1", "order-2", "order-1", "order-3"]


async def main() -> None:
    """Handle each order once, even if other programs process the same list."""
    async with AsyncSeenStore("data/orders.db", ttl=timedelta(days=7)) as store:
        for order in ORDERS:
            sighting = await store.check_and_mark(order, namespace="shop")
            print(f"{order}: {sighting.verdict}")
        print(f"{await store.count(namespace='shop')} orders are remembered")


if __name__ == "__main__":
    asyncio.run(main())
