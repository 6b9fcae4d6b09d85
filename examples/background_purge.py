"""A long-running store: expired keys are purged in the background.

    python examples/background_purge.py

The program marks a thousand keys a second for three seconds, each with a TTL of one
second, and prints how many are live and how many were purged.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from catalyst_seen import AsyncSeenStore


async def main() -> None:
    """Mark keys, wait, and print statistics."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seen.db"
        async with AsyncSeenStore(path, ttl="1s", purge_interval=0.2) as store:
            for step in range(1, 13):
                await store.mark_many(f"step {step} key {n}" for n in range(250))
                await asyncio.sleep(0.25)
                stats = await store.stats()
                print(
                    f"{step * 250:5} marked, {stats.keys:5} live,"
                    f" {stats.purge_rows:5} purged in {stats.purge_runs} runs"
                )
        print("closed: the purge task has ended with the store")


if __name__ == "__main__":
    asyncio.run(main())
