"""A process that claims and confirms one key after the other, and says which."""

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from pathlib import Path

from catalyst_seen import AsyncSeenStore, SeenStoreConfig

say = runpy.run_path(str(Path(__file__).with_name("child.py")))["say"]


async def main(settings: str) -> None:
    """Go on until somebody ends it."""
    async with AsyncSeenStore(SeenStoreConfig(**json.loads(settings))) as store:
        say("open")
        for key in range(10**6):
            say("+", key)
            claim = await store.claim(str(key), lease=600)
            await claim.confirm()
            say("=", key, "new", 0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
