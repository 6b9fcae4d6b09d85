"""The worker of ``catalyst-seen demo``: it may be killed at any moment.

Every worker reads the whole feed. Of all callers in all workers one at a time has an
item, and the item comes back if that caller fails, or if its process is killed.

``python -m catalyst_seen.cli._demo.worker DATABASE PORT NUMBER CALLERS``
"""

from __future__ import annotations

import asyncio
import random
import sys

from catalyst_seen import AsyncSeenStore, SeenError
from catalyst_seen.cli._demo.client import Client, report

LEASE = 3.0  # seconds, renewed while the worker lives
PAUSE = 0.25  # between a failure and the next attempt


class Worker:
    """Callers that share a store and a queue."""

    def __init__(self, store: AsyncSeenStore, client: Client) -> None:
        self.store, self.client = store, client
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self.unfinished: set[str] = set()

    async def handle(self, key: str) -> float | None:
        """Deliver an item that nobody has; return when to ask again, if so."""
        try:
            async with self.store.claim(key, lease=LEASE, keep_alive=True) as claim:
                if claim:
                    await self.client.deliver(key)
                return claim.retry_after  # None: it is delivered
        except (OSError, SeenError):  # the end of the block has released the claim
            return PAUSE

    async def call(self) -> None:
        """Handle one item after the other."""
        while True:
            key = await self.queue.get()
            delay = await self.handle(key)
            if delay is None:
                self.unfinished.discard(key)
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(delay, self.queue.put_nowait, key)

    async def work(self) -> None:
        """Read the feed to its end, and wait until all of it is delivered."""
        position, is_over = 0, False
        while self.unfinished or not is_over:
            keys, is_over = await self.client.read_feed(position)
            position += len(keys)
            new = await self.store.filter_new(keys)
            self.unfinished.update(new)
            for key in random.sample(new, len(new)):
                self.queue.put_nowait(key)
            await asyncio.sleep(0.1)


async def main(database: str, port: str, number: str, callers: str) -> None:
    """Run a worker until everything is delivered."""
    client = Client(int(port), int(number))
    async with AsyncSeenStore(database) as store, asyncio.TaskGroup() as tasks:
        worker = Worker(store, client)
        running = [tasks.create_task(worker.call()) for _ in range(int(callers))]
        running.append(tasks.create_task(report(store, client)))
        await worker.work()
        for task in running:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
